-- Jobs that the catalog itself orders: who goes first, who waits, who was tried how often; stores that pause;
-- blobs that wait to be removed.

ALTER TABLE stores ADD COLUMN paused boolean NOT NULL DEFAULT false;

ALTER TABLE documents
    ADD COLUMN urgent boolean NOT NULL DEFAULT false, -- a single upload: it goes before a bulk load
    ADD COLUMN attempts integer NOT NULL DEFAULT 0,   -- at this version, ended by something that may pass
    ADD COLUMN retry_at timestamptz,                  -- not before
    ADD COLUMN trouble text;                          -- why the last attempt ended

DROP INDEX documents_unfinished;
CREATE INDEX documents_unfinished ON documents (urgent DESC, updated_at, id) WHERE status = 'in_progress';
CREATE INDEX documents_retrying ON documents (retry_at) WHERE status = 'in_progress' AND retry_at IS NOT NULL;
CREATE INDEX documents_dead ON documents (tenant_id, updated_at) WHERE status IN ('failed', 'cancelled');

-- A lease that ran out unreleased means that a worker died with the document in hand; a parked one was only set aside.
ALTER TABLE leases
    ADD COLUMN deaths integer NOT NULL DEFAULT 0,
    ADD COLUMN parked boolean NOT NULL DEFAULT false,
    ADD COLUMN chunks_written integer NOT NULL DEFAULT 0;

-- Blobs whose last file was deleted: removed after a while, unless the same bytes came again.
CREATE TABLE blob_tombstones (
    sha256 bytea PRIMARY KEY,
    since timestamptz NOT NULL DEFAULT now()
);

DROP INDEX chunks_by_document;
CREATE INDEX chunks_by_document ON chunks (document_id, version, ordinal); -- a long document is read in pages

-- The jobs of the schema before this one named documents; now the catalog says what is to be done.
DELETE FROM procrastinate_jobs;
