-- Sources: places that a store is kept in step with, and what was last seen of each of their files or pages.

CREATE TABLE sources (
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    store_id uuid NOT NULL REFERENCES stores ON DELETE CASCADE,
    kind text NOT NULL CHECK (kind IN ('directory', 'urls', 'sitemap')),
    config jsonb NOT NULL,
    every_seconds double precision NOT NULL,
    paused boolean NOT NULL DEFAULT false,
    next_run_at timestamptz DEFAULT clock_timestamp(), -- NULL while paused
    last_run_at timestamptz,
    last_error text,
    failures integer NOT NULL DEFAULT 0, -- runs in a row that failed as a whole
    runs integer NOT NULL DEFAULT 0,
    counts jsonb NOT NULL DEFAULT '{}',  -- of the last run
    state jsonb NOT NULL DEFAULT '{}',   -- what a run leaves for the next
    owner text,                          -- the worker that runs it now, until expires_at
    expires_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX sources_by_tenant ON sources (tenant_id, created_at, id);
CREATE INDEX sources_by_store ON sources (store_id);
CREATE INDEX sources_due ON sources (next_run_at) WHERE next_run_at IS NOT NULL;

CREATE TABLE source_items (
    source_id uuid NOT NULL REFERENCES sources ON DELETE CASCADE,
    key text COLLATE "C" NOT NULL, -- the path below the root, or the URL
    validator jsonb NOT NULL,
    external_id text,
    last_seen_run integer NOT NULL,
    last_error text,
    retry_at timestamptz,
    PRIMARY KEY (source_id, key)
);
