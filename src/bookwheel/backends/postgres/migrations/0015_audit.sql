-- The audit log: a chain of hashes for each tenant and one of the server (tenant_id all zeros). Hashes are computed and
-- verified in audit.py, never here. No foreign key: a chain goes only when its tenant is offboarded, by offboard_audit.

CREATE TABLE audit_events (
    tenant_id uuid NOT NULL,
    sequence bigint NOT NULL CHECK (sequence > 0),
    at timestamptz NOT NULL,
    actor text NOT NULL,
    actor_role text,
    action text NOT NULL,
    object_type text NOT NULL,
    object_id text,
    object_hash text,
    outcome text NOT NULL CHECK (outcome IN ('success', 'denied', 'failure')),
    request_id text NOT NULL,
    address text,
    details jsonb NOT NULL,
    previous_hash bytea NOT NULL,
    hash bytea NOT NULL,
    PRIMARY KEY (tenant_id, sequence)
);
CREATE INDEX audit_events_by_time ON audit_events (tenant_id, at);

CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('bookwheel.offboarding', true) = OLD.tenant_id::text THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'The audit log can only grow: % is refused.', TG_OP USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER audit_events_grow BEFORE UPDATE OR DELETE ON audit_events
    FOR EACH ROW EXECUTE FUNCTION refuse_audit_change();
CREATE FUNCTION refuse_audit_truncation() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'The audit log can only grow: TRUNCATE is refused.' USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER audit_events_stay BEFORE TRUNCATE ON audit_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_truncation();

-- Held by whoever appends to a chain until it has committed, so that the order of sequences is that of commits.
CREATE FUNCTION lock_audit_chain(tenant uuid) RETURNS void LANGUAGE sql AS $$
    SELECT pg_advisory_xact_lock(hashtextextended('audit ' || tenant::text, 0))
$$;

-- Append events that were chained to this head; false, and nothing is appended, when the chain ends elsewhere by now.
-- One statement, so that an append is one trip and holds the lock no longer than that.
CREATE FUNCTION append_audit(tenant uuid, head_sequence bigint, head_hash bytea, added jsonb) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    last_sequence bigint := 0;
    last_hash bytea := decode(repeat('00', 32), 'hex');
BEGIN
    PERFORM lock_audit_chain(tenant);
    SELECT e.sequence, e.hash INTO last_sequence, last_hash FROM audit_events e
    WHERE e.tenant_id = tenant ORDER BY e.sequence DESC LIMIT 1;
    IF coalesce(last_sequence, 0) <> head_sequence
        OR coalesce(last_hash, decode(repeat('00', 32), 'hex')) <> head_hash THEN
        RETURN false;
    END IF;
    INSERT INTO audit_events
    SELECT tenant, a.sequence, a.at, a.actor, a.actor_role, a.action, a.object_type, a.object_id, a.object_hash,
        a.outcome, a.request_id, a.address, a.details, decode(a.previous_hash, 'hex'), decode(a.hash, 'hex')
    FROM jsonb_to_recordset(added) AS a (sequence bigint, at timestamptz, actor text, actor_role text, action text,
        object_type text, object_id text, object_hash text, outcome text, request_id text, address text, details jsonb,
        previous_hash text, hash text);
    RETURN true;
END
$$;

-- Remove a tenant's chain and say where it ended. Whoever calls it must have said SET LOCAL bookwheel.offboarding.
CREATE FUNCTION offboard_audit(tenant uuid) RETURNS TABLE (sequence bigint, hash bytea) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM lock_audit_chain(tenant);
    RETURN QUERY SELECT e.sequence, e.hash FROM audit_events e
        WHERE e.tenant_id = tenant ORDER BY e.sequence DESC LIMIT 1;
    DELETE FROM audit_events e WHERE e.tenant_id = tenant;
END
$$;

-- From which networks keys came: enough to know a new one. Networks, not addresses.
CREATE TABLE key_uses (
    actor text NOT NULL,
    network text NOT NULL,
    first_at timestamptz NOT NULL,
    last_at timestamptz NOT NULL,
    PRIMARY KEY (actor, network)
);
