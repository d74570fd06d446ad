"""The audit log of a running service, from the command line, and what happens when its database is tampered with."""

import json
from pathlib import Path

import psycopg

from bookwheel.client import Client
from bookwheel.data_directory import holder
from tests.service.conftest import bookwheel_up
from tests.service.test_command_line import FAILED, OK, bookwheel

TRUTH = "the owl of Minerva flies at dusk"


def audit(data_dir: Path, *arguments: str) -> tuple[int, str]:
    """Exit status and output of `bookwheel audit`."""
    done = bookwheel("audit", *arguments, "--data-dir", str(data_dir))
    return done.returncode, done.stdout + done.stderr


def test_the_log_is_shown_exported_and_verified(data_dir: Path) -> None:
    """Acts over the API show up; an edit in the database is named; a cut tail is found by a kept head."""
    with bookwheel_up(data_dir) as server, Client(server.url) as client:
        store = client.store("owls")
        list(client.put_documents(store, [{"id": str(number), "text": f"{TRUTH} {number}"} for number in range(50)]))
        client.call("DELETE", f"/v1/vector_stores/{store}")
        status, shown = audit(data_dir, "list")
        assert status == OK, shown
        assert [action in shown for action in ("store.create", "document.put", "store.delete")] == [True] * 3
        status, exported = audit(data_dir, "export", "--action", "document.put")
        assert status == OK, exported
        (line,) = [json.loads(line) for line in exported.splitlines()]
        assert (line["class_uid"], line["unmapped"]["details"]["documents"]) == (6003, 50)
        assert TRUTH not in shown + exported
        status, verified = audit(data_dir, "verify")
        assert status == OK, verified
        head = verified.split()[-1]
        assert audit(data_dir, "verify", "--head", head)[0] == OK
        with psycopg.connect(holder(data_dir)["database_url"]) as connection:
            connection.execute("SET LOCAL session_replication_role = replica")
            connection.execute("UPDATE audit_events SET actor = 'somebody else' WHERE action = 'document.put'")
        status, broken = audit(data_dir, "verify")
        assert (status, "broken at event 2" in broken) == (FAILED, True), broken
