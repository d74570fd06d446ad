-- File batches; stores and files that expire; answers that are kept for requests that come again.

CREATE TABLE file_batches (
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    store_id uuid NOT NULL REFERENCES stores ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    cancelled_at timestamptz
);
CREATE INDEX file_batches_by_store ON file_batches (store_id);

-- A document that is put again stays in the batch that brought it; the version tells whose work is unfinished.
CREATE TABLE file_batch_documents (
    batch_id uuid NOT NULL REFERENCES file_batches ON DELETE CASCADE,
    document_id uuid NOT NULL REFERENCES documents ON DELETE CASCADE,
    version integer NOT NULL,
    PRIMARY KEY (batch_id, document_id)
);
CREATE INDEX file_batch_documents_by_document ON file_batch_documents (document_id);

ALTER TABLE stores
    ADD COLUMN expires_after_days integer,
    ADD COLUMN expired_at timestamptz; -- when its documents were removed
-- Without last_active_at, which changes with every publish: an index on it would end in-page updates.
CREATE INDEX stores_expiring ON stores (id) WHERE expires_after_days IS NOT NULL AND expired_at IS NULL;

ALTER TABLE files ADD COLUMN expires_at timestamptz;
CREATE INDEX files_expiring ON files (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE idempotency_keys (
    tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    key text NOT NULL,
    fingerprint bytea NOT NULL,        -- of the request: path and body
    owner uuid NOT NULL,               -- the try that runs, or that was answered
    busy_until timestamptz NOT NULL,   -- the running try's lease
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    status integer,                    -- NULL while it runs
    headers jsonb,
    body bytea,
    PRIMARY KEY (tenant_id, key)
);
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);
