-- Responses that are kept, the events by which they were told, and webhooks: who is to be told what, and how that goes.
-- What callers wrote is `json`, which keeps any text; `jsonb` refuses some.

CREATE TABLE responses (
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    principals text[] NOT NULL,  -- for whom it searches
    previous_id uuid,            -- the response that it continues; it may be gone
    request json NOT NULL,
    body json NOT NULL,          -- as callers see it
    status text NOT NULL,        -- as in the body
    background boolean NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    owner text,                  -- the worker that writes it
    expires_at timestamptz,      -- of the lease; without an owner, not to be taken before
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX responses_unfinished ON responses (created_at, id) WHERE status IN ('queued', 'in_progress');
CREATE INDEX responses_by_age ON responses (created_at);
CREATE INDEX responses_by_owner ON responses (owner) WHERE owner IS NOT NULL;

CREATE TABLE response_events (
    response_id uuid NOT NULL REFERENCES responses ON DELETE CASCADE,
    number integer NOT NULL, -- from 0, without gaps
    event json NOT NULL,
    PRIMARY KEY (response_id, number)
);

CREATE TABLE webhook_endpoints (
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    name text NOT NULL,
    url text NOT NULL,
    event_types text[] NOT NULL,
    secret bytea NOT NULL, -- signs what is sent, so it is needed in the clear
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX webhook_endpoints_by_tenant ON webhook_endpoints (tenant_id, created_at, id);

-- The outbox of webhooks: written in the transaction of what is told.
CREATE TABLE webhook_deliveries (
    id uuid PRIMARY KEY,          -- also the webhook-id, the same at every attempt
    endpoint_id uuid NOT NULL REFERENCES webhook_endpoints ON DELETE CASCADE,
    event_type text NOT NULL,
    payload text NOT NULL,        -- exactly what is sent
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'delivered', 'failed')),
    attempts integer NOT NULL DEFAULT 0,
    next_try_at timestamptz DEFAULT clock_timestamp(), -- NULL when it has ended; while it is tried, the end of the lease
    http_status integer,          -- of the last attempt
    error text,                   -- of the last attempt
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX webhook_deliveries_by_endpoint ON webhook_deliveries (endpoint_id, created_at, id);
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (next_try_at) WHERE next_try_at IS NOT NULL;
CREATE INDEX webhook_deliveries_by_age ON webhook_deliveries (created_at);

-- Tell those endpoints of the tenants that asked for this type of event; most have none, and then this costs one look.
CREATE FUNCTION tell_webhooks(tenants uuid[], type text, data json[]) RETURNS void LANGUAGE sql AS $$
    WITH told AS MATERIALIZED ( -- so that all endpoints get an event under one id
        SELECT u.tenant_id, u.data, replace(gen_random_uuid()::text, '-', '') AS event_id
        FROM unnest(tenants, data) AS u (tenant_id, data)
    )
    INSERT INTO webhook_deliveries (id, endpoint_id, event_type, payload)
    SELECT gen_random_uuid(), e.id, tell_webhooks.type, json_build_object(
        'id', 'evt_' || t.event_id, 'object', 'event', 'type', tell_webhooks.type,
        'created_at', floor(extract(epoch FROM clock_timestamp()))::bigint, 'data', t.data)::text
    FROM told t JOIN webhook_endpoints e ON e.tenant_id = t.tenant_id AND tell_webhooks.type = ANY(e.event_types)
    FOR KEY SHARE OF e -- one that is being deleted is waited for and left out
$$;

-- The same of documents, with ids as callers see them (api/ids.py).
CREATE FUNCTION tell_webhooks_of_documents(document_ids uuid[], type text) RETURNS void LANGUAGE sql AS $$
    SELECT tell_webhooks(array_agg(d.tenant_id), type, array_agg(json_build_object(
        'id', CASE WHEN d.file_id IS NULL THEN 'doc_' || replace(d.id::text, '-', '')
            ELSE 'file-' || replace(d.file_id::text, '-', '') END,
        'vector_store_id', 'vs_' || replace(d.store_id::text, '-', ''),
        'document_id', 'doc_' || replace(d.id::text, '-', ''),
        'external_id', d.external_id, 'version', d.version, 'status', d.status,
        'last_error', CASE WHEN d.error_code IS NULL THEN NULL
            ELSE json_build_object('code', d.error_code, 'message', d.error_message) END)))
    FROM unnest(document_ids) AS u (id) JOIN documents d ON d.id = u.id
$$;
