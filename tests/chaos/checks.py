"""What must hold once a store is at rest. Each check is a function from what was read to a list of faults."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from tests.chaos.plan import MARKER, Item
from tests.chaos.snapshot import ChunkRow, Snapshot

# Between scores of the same hit in two runs: a bfloat16 vector depends, in its third digit, on the texts beside it in
# its batch (0.002 seen); which document is found, and which text it shows, must be the same.
TOLERANCE = 5e-3
Ranking = Sequence[tuple[str, float]]  # external id and score, best first


def stale_hits(hits: Sequence[Mapping[str, Any]], *, least: Mapping[str, int], newest: Mapping[str, int]) -> list[str]:
    """Hits of revisions that were deleted or replaced before the search was sent, or of another document's text."""
    faults = []
    for hit in hits:
        name = hit["document"]["external_id"]
        for shown, revision in MARKER.findall("".join(part["text"] for part in hit["content"])):
            if shown != name:
                faults.append(f"a hit of {name} shows the text of {shown}")
            elif not least.get(name, 0) <= int(revision) <= newest.get(name, 0):
                faults.append(
                    f"stale hit: {name} revision {revision}, at least {least.get(name, 0)} was due"
                    f" and {newest.get(name)} was the newest"
                )
    return list(dict.fromkeys(faults))


def lost(snapshot: Snapshot, final: Mapping[str, Item]) -> list[str]:
    """Documents that are missing, unfinished, not of their newest text, or there although they were deleted."""
    rows = {row.external_id: row for row in snapshot.documents}
    faults = [f"{name} is lost" for name in final.keys() - rows.keys()]
    faults += [f"{name} was deleted and is there" for name in rows.keys() - final.keys()]
    chunks = _by_document(snapshot)
    bodies = {(body.document_id, body.version): body.text for body in snapshot.bodies}
    for name, item in final.items():
        if (row := rows.get(name)) is None:
            continue
        if row.status != "completed" or row.live_version != row.version:
            faults.append(f"{name} is {row.status}, version {row.live_version} of {row.version} is live: {row.error}")
        if row.is_inline and bodies.get((row.id, row.version)) != item.text:
            faults.append(f"{name}: its body is not the newest text")
        if item.raw is not None:  # what it must hold, the undisturbed run tells
            continue
        live = "".join(chunk.text for chunk in chunks[row.id] if chunk.version == row.live_version)
        if set(MARKER.findall(live)) != {(name, str(item.revision))}:
            faults.append(f"{name}: its chunks show {set(MARKER.findall(live))}, revision {item.revision} was put last")
    return faults


def duplicated(snapshot: Snapshot) -> list[str]:
    """Documents whose live chunks or vectors are not numbered 0 to n-1, each once."""
    faults = []
    chunks = _by_document(snapshot)
    vectors = defaultdict(list)
    for vector in snapshot.vectors:
        vectors[vector.document_id, vector.version].append(vector.ordinal)
    for row in snapshot.documents:
        wanted = list(range(row.chunk_count))
        found = sorted(chunk.ordinal for chunk in chunks[row.id] if chunk.version == row.live_version)
        if found != wanted:
            faults.append(f"{row.external_id}: chunks {found}, the catalog says {row.chunk_count}")
        if sorted(vectors[row.id, row.live_version or 0]) != wanted:
            faults.append(f"{row.external_id}: vectors {sorted(vectors[row.id, row.live_version or 0])}")
    for kind, ids in (("chunk", snapshot.chunks), ("vector", snapshot.vectors)):
        repeated = [number for number, count in Counter(row[0] for row in ids).items() if count > 1]
        faults += [f"{kind} {number} is there more than once" for number in repeated]
    return faults


def orphans(snapshot: Snapshot) -> list[str]:
    """Rows, blobs and keyword entries that belong to nothing that lives or is wanted."""
    live = {(row.id, row.live_version) for row in snapshot.documents}
    wanted = live | {(row.id, row.version) for row in snapshot.documents}
    strays = {
        "chunks": [row for row in snapshot.chunks if (row.document_id, row.version) not in live],
        "vectors": [row for row in snapshot.vectors if (row.document_id, row.version) not in live],
        "bodies": [row[:2] for row in snapshot.bodies if (row.document_id, row.version) not in wanted],
        "leases": list(snapshot.leases),
        "blobs without a file": sorted(snapshot.blobs - snapshot.files),
        "files without a blob": sorted(snapshot.files - snapshot.blobs),
        "damaged blobs": sorted(snapshot.damaged),
        "unfinished uploads": [snapshot.incoming] if snapshot.incoming else [],
        **_keyword_strays(snapshot),
    }
    return [f"{len(found)} {kind}: {str(found[0])[:200]}" for kind, found in strays.items() if found]


def _keyword_strays(snapshot: Snapshot) -> dict[str, list[int]]:
    chunks, entries = {chunk.id for chunk in snapshot.chunks}, Counter(snapshot.keywords)
    return {
        "keyword entries without a chunk": sorted(entries.keys() - chunks),
        "chunks without a keyword entry": sorted(chunks - entries.keys()),
        "keyword entries more than once": [number for number, count in entries.items() if count > 1],
    }


def miscounted(snapshot: Snapshot) -> list[str]:
    """Counters of stores that do not agree with their documents."""
    states = Counter(row.status for row in snapshot.documents)
    true = {state: states[state] for state in ("in_progress", "completed", "failed", "cancelled")}
    true["size"] = sum(row.size for row in snapshot.documents)
    true["chunk_count"] = sum(row.chunk_count for row in snapshot.documents)
    wrong = {name: value for name, value in snapshot.counters.items() if value != true[name]}
    return [f"the stores count {value} {name}, there are {true[name]}" for name, value in wrong.items()]


def left_jobs(snapshot: Snapshot) -> list[str]:
    """Jobs in the queue although nothing is to be done."""
    return [
        f"{snapshot.jobs[status]} jobs are left as {status!r}"
        for status in ("todo", "doing")
        if status in snapshot.jobs
    ]


def differences(disturbed: Snapshot, undisturbed: Snapshot) -> list[str]:
    """Documents that did not become what they become when nothing is killed."""
    one, other = _contents(disturbed), _contents(undisturbed)
    faults = [f"{name} is in one run only" for name in one.keys() ^ other.keys()]
    for name in one.keys() & other.keys():
        unlike = [part for part in one[name] if one[name][part] != other[name][part]]
        faults += [f"{name}: its {part} differ from the undisturbed run" for part in unlike]
    return faults


def _contents(snapshot: Snapshot) -> dict[str, dict[str, Any]]:
    """What a document holds, without ids and version numbers, which no two runs share."""
    chunks = _by_document(snapshot)
    hashes = defaultdict(list)
    for vector in snapshot.vectors:
        hashes[vector.document_id].append((vector.ordinal, vector.text_hash))
    return {
        row.external_id: {
            "status": row.status,
            "chunk count": row.chunk_count,
            "chunks": [(chunk.ordinal, chunk.start, chunk.end, chunk.text) for chunk in chunks[row.id]],
            "text hashes": sorted(hashes[row.id]),
        }
        for row in snapshot.documents
    }


def different_hits(query: str, one: Ranking, other: Ranking) -> list[str]:
    """Rankings that differ by more than the tolerance; hits of equal score may change places."""
    if len(one) != len(other):
        return [f"{query!r}: {len(one)} and {len(other)} hits"]
    apart = [abs(a[1] - b[1]) for a, b in zip(one, other, strict=True)]
    if any(gap > TOLERANCE for gap in apart):
        return [f"{query!r}: scores differ by {max(apart):.4f}: {one} and {other}"]
    scores, others = dict(one), dict(other)
    last = min(other[-1][1], one[-1][1]) if one else 0.0
    strangers = [name for name in scores.keys() ^ others.keys() if _score(name, scores, others) > last + TOLERANCE]
    moved = [name for name in scores.keys() & others.keys() if abs(scores[name] - others[name]) > TOLERANCE]
    return [f"{query!r}: {one} and {other}"] if strangers or moved else []


def _score(name: str, scores: Mapping[str, float], others: Mapping[str, float]) -> float:
    return scores[name] if name in scores else others[name]


def _by_document(snapshot: Snapshot) -> Mapping[str, list[ChunkRow]]:
    chunks: defaultdict[str, list[ChunkRow]] = defaultdict(list)
    for chunk in snapshot.chunks:
        chunks[chunk.document_id].append(chunk)
    return chunks
