-- Tenants that go: what is still to be removed of them, and the receipts of those that are gone.

-- It outlives its tenant, so there is no foreign key. Without a statement the offboarding has just begun; until one is
-- complete it may be called again.
CREATE TABLE receipts (
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL UNIQUE,
    tenant_name text NOT NULL,
    begun_at timestamptz NOT NULL DEFAULT now(),
    held jsonb,               -- what there was, by kind
    audit_sequence bigint,    -- where the tenant's audit chain ended; from then on nothing is added to it
    audit_hash bytea,
    made_at timestamptz,
    statement bytea,          -- exactly what is signed
    signature bytea,
    complete boolean NOT NULL DEFAULT false
);
CREATE INDEX receipts_by_time ON receipts (made_at, id);

-- What was the tenant's, so that what hangs on it without a foreign key can be counted when it is gone itself.
CREATE TABLE departing_documents (
    tenant_id uuid NOT NULL REFERENCES receipts (tenant_id) ON DELETE CASCADE,
    document_id uuid NOT NULL,
    store_id uuid NOT NULL,
    PRIMARY KEY (tenant_id, document_id)
);
CREATE TABLE departing_blobs (
    tenant_id uuid NOT NULL REFERENCES receipts (tenant_id) ON DELETE CASCADE,
    sha256 bytea NOT NULL,
    PRIMARY KEY (tenant_id, sha256)
);
CREATE TABLE departing_actors (
    tenant_id uuid NOT NULL REFERENCES receipts (tenant_id) ON DELETE CASCADE,
    actor text NOT NULL,
    PRIMARY KEY (tenant_id, actor)
);

-- Signs receipts where no setting gives a key.
CREATE TABLE signing_key (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    private_key bytea NOT NULL
);

CREATE INDEX responses_by_tenant ON responses (tenant_id);
CREATE INDEX outbox_by_tenant ON outbox (tenant_id);

-- As in 0015, but a chain that is sealed does not grow: a request of the tenant may end after the tenant has.
CREATE OR REPLACE FUNCTION append_audit(tenant uuid, head_sequence bigint, head_hash bytea, added jsonb) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    last_sequence bigint := 0;
    last_hash bytea := decode(repeat('00', 32), 'hex');
BEGIN
    PERFORM lock_audit_chain(tenant);
    IF EXISTS (SELECT FROM receipts r WHERE r.tenant_id = tenant AND r.audit_hash IS NOT NULL) THEN
        RETURN true;
    END IF;
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
