-- Who may come in: API keys by the hash of their secret; and what a tenant may use.

ALTER TABLE tenants
    ADD COLUMN suspended boolean NOT NULL DEFAULT false,
    ADD COLUMN weight double precision NOT NULL DEFAULT 1 CHECK (weight > 0), -- its share of ingestion
    ADD COLUMN limits jsonb NOT NULL DEFAULT '{}';                            -- those of types.Limits that are set
UPDATE tenants t SET name = name || ' ' || id
WHERE EXISTS (SELECT FROM tenants o WHERE o.name = t.name AND (o.created_at, o.id) < (t.created_at, t.id));
CREATE UNIQUE INDEX tenants_by_name ON tenants (name);
CREATE INDEX tenants_by_time ON tenants (created_at, id);

CREATE TABLE api_keys (
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    name text NOT NULL,
    prefix text NOT NULL,              -- of the secret, to tell keys apart
    secret_hash bytea NOT NULL UNIQUE, -- SHA-256: secrets are random and long, so nothing slower is needed
    role text NOT NULL CHECK (role IN ('reader', 'writer', 'admin', 'operator')),
    principals text[] NOT NULL DEFAULT '{}',
    store_ids uuid[],                  -- NULL for all of the tenant
    rule jsonb,                        -- a filter that every document must pass
    limits jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz,
    last_used_at timestamptz
);
CREATE INDEX api_keys_by_tenant ON api_keys (tenant_id, created_at, id);
