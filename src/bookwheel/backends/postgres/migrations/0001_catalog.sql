-- The catalog: tenants, embedding spaces, stores, files, documents, chunks, leases, outbox.

CREATE EXTENSION IF NOT EXISTS vector;

CREATE TABLE tenants (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    shard integer NOT NULL, -- the partition that holds its vectors
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE spaces (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model text NOT NULL,
    revision text NOT NULL,
    dimensions integer NOT NULL,
    UNIQUE (model, revision, dimensions)
);

CREATE TABLE stores (
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    space_id integer NOT NULL REFERENCES spaces,
    name text NOT NULL,
    chunking jsonb NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}',
    version bigint NOT NULL DEFAULT 0,
    size bigint NOT NULL DEFAULT 0,        -- bytes of its documents
    chunk_count bigint NOT NULL DEFAULT 0, -- of its live documents
    in_progress integer NOT NULL DEFAULT 0,
    completed integer NOT NULL DEFAULT 0,
    failed integer NOT NULL DEFAULT 0,
    cancelled integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_active_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50); -- its counters change with every publish: leave room for in-page updates
CREATE INDEX stores_by_tenant ON stores (tenant_id, created_at, id);

CREATE TABLE files (
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    filename text NOT NULL,
    purpose text NOT NULL,
    size bigint NOT NULL,
    sha256 bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX files_by_tenant ON files (tenant_id, created_at, id);
CREATE INDEX files_by_blob ON files (sha256);

CREATE TABLE documents (
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    store_id uuid NOT NULL REFERENCES stores ON DELETE CASCADE,
    file_id uuid REFERENCES files ON DELETE CASCADE,
    external_id text,
    filename text NOT NULL,
    title text,
    attributes jsonb NOT NULL DEFAULT '{}',
    chunking jsonb NOT NULL,
    status text NOT NULL CHECK (status IN ('in_progress', 'completed', 'failed', 'cancelled')),
    version integer NOT NULL,
    live_version integer,
    size bigint NOT NULL,
    chunk_count integer NOT NULL DEFAULT 0,
    sha256 bytea NOT NULL,         -- of the source bytes
    is_inline boolean NOT NULL,    -- its text is in `bodies`, not in a blob
    error_code text,
    error_message text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (store_id, external_id)
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX documents_of_files ON documents (store_id, file_id) WHERE external_id IS NULL;
CREATE INDEX documents_by_store ON documents (store_id, created_at, id);
CREATE INDEX documents_by_file ON documents (file_id) WHERE file_id IS NOT NULL;
CREATE INDEX documents_unfinished ON documents (updated_at) WHERE status = 'in_progress';
CREATE INDEX documents_by_attributes ON documents USING gin (attributes jsonb_path_ops);

CREATE TABLE bodies (
    document_id uuid NOT NULL REFERENCES documents ON DELETE CASCADE,
    version integer NOT NULL,
    text text NOT NULL,
    PRIMARY KEY (document_id, version)
);

CREATE TABLE chunks (
    id bigint PRIMARY KEY, -- hash of (document, version, ordinal)
    document_id uuid NOT NULL,
    version integer NOT NULL,
    ordinal integer NOT NULL,
    start_offset integer NOT NULL, -- characters of the document's text
    end_offset integer NOT NULL,
    page integer,
    heading_path text[] NOT NULL,
    language text NOT NULL,
    text text NOT NULL
);
CREATE INDEX chunks_by_document ON chunks (document_id, version);

-- A lost lease costs a retry, not data: no need to log it.
CREATE UNLOGGED TABLE leases (
    document_id uuid PRIMARY KEY,
    owner text NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX leases_by_owner ON leases (owner);

CREATE TABLE outbox (
    sequence bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    operation text NOT NULL CHECK (operation IN ('publish', 'remove')),
    tenant_id uuid NOT NULL,
    store_id uuid NOT NULL,
    document_id uuid NOT NULL,
    version integer NOT NULL
);

-- The one way to append: the lock makes sequence order the commit order, so a reader never skips a late commit.
CREATE FUNCTION append_to_outbox(
    operations text[], tenants uuid[], stores uuid[], documents uuid[], versions integer[]
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(7305);
    INSERT INTO outbox (operation, tenant_id, store_id, document_id, version)
    SELECT * FROM unnest(operations, tenants, stores, documents, versions);
    PERFORM pg_notify('bookwheel_outbox', '');
END $$;

-- Counters of a store follow its documents in the same transaction.
CREATE FUNCTION count_documents() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    deltas text;
BEGIN
    IF TG_OP = 'INSERT' THEN
        deltas := 'SELECT store_id, status, size, chunk_count, 1 AS sign FROM added';
    ELSIF TG_OP = 'DELETE' THEN
        deltas := 'SELECT store_id, status, size, chunk_count, -1 AS sign FROM removed';
    ELSE
        deltas := 'SELECT store_id, status, size, chunk_count, 1 AS sign FROM added
                   UNION ALL SELECT store_id, status, size, chunk_count, -1 FROM removed';
    END IF;
    EXECUTE format(
        'UPDATE stores s SET
            in_progress = s.in_progress + t.in_progress, completed = s.completed + t.completed,
            failed = s.failed + t.failed, cancelled = s.cancelled + t.cancelled,
            size = s.size + t.size, chunk_count = s.chunk_count + t.chunk_count, last_active_at = now()
         FROM (SELECT store_id,
                   coalesce(sum(sign) FILTER (WHERE status = ''in_progress''), 0) AS in_progress,
                   coalesce(sum(sign) FILTER (WHERE status = ''completed''), 0) AS completed,
                   coalesce(sum(sign) FILTER (WHERE status = ''failed''), 0) AS failed,
                   coalesce(sum(sign) FILTER (WHERE status = ''cancelled''), 0) AS cancelled,
                   sum(sign * size) AS size, sum(sign * chunk_count) AS chunk_count
               FROM (%s) AS d GROUP BY store_id) AS t
         WHERE s.id = t.store_id', deltas);
    RETURN NULL;
END $$;

CREATE TRIGGER count_inserted AFTER INSERT ON documents REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION count_documents();
CREATE TRIGGER count_updated AFTER UPDATE ON documents REFERENCING NEW TABLE AS added OLD TABLE AS removed
    FOR EACH STATEMENT EXECUTE FUNCTION count_documents();
CREATE TRIGGER count_deleted AFTER DELETE ON documents REFERENCING OLD TABLE AS removed
    FOR EACH STATEMENT EXECUTE FUNCTION count_documents();

INSERT INTO tenants (id, name, shard) VALUES ('00000000-0000-7000-8000-000000000001', 'default', 0);
