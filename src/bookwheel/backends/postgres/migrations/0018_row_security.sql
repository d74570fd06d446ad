-- The second wall between tenants: whoever forgets a tenant's condition in a query still gets that tenant's rows only.
-- A session says for whom it acts in `bookwheel.tenant`: a tenant's id, or * for all of them; without it, it sees nothing.
-- FORCE binds an owner that is no superuser too. COPY into a table with policies is refused to whom they bind, so the
-- tables that workers copy into are not forced upon their owner.

CREATE FUNCTION acts_for_all() RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE
RETURN coalesce(current_setting('bookwheel.tenant', true) = '*', false);

CREATE FUNCTION acting_tenant() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
RETURN nullif(nullif(current_setting('bookwheel.tenant', true), ''), '*')::uuid;

DO $$
DECLARE
    -- SELECT around the functions: they are asked once for a statement, not for each row.
    mine CONSTANT text := '(SELECT acts_for_all()) OR %s';
    own_rows CONSTANT text[] := ARRAY['api_keys', 'asked_questions', 'audit_events', 'departing_actors',
        'departing_blobs', 'departing_documents', 'documents', 'file_batches', 'files', 'idempotency_keys', 'moves',
        'outbox', 'own_partitions', 'receipts', 'responses', 'sources', 'stores', 'turns', 'webhook_endpoints'];
    -- Rows of a row above: who sees that one sees them.
    hanging CONSTANT text[][] := ARRAY[
        ['attribute_names', 'store_id', 'stores'],
        ['chunks', 'document_id', 'documents'],
        ['file_batch_documents', 'batch_id', 'file_batches'],
        ['response_events', 'response_id', 'responses'],
        ['sections', 'document_id', 'documents'],
        ['source_items', 'source_id', 'sources'],
        ['webhook_deliveries', 'endpoint_id', 'webhook_endpoints']];
    copied CONSTANT text[] := ARRAY['chunks', 'sections'];
    guarded text;
    condition text;
    link text[];
BEGIN
    FOREACH guarded IN ARRAY own_rows LOOP
        condition := format(mine, 'tenant_id = (SELECT acting_tenant())');
        EXECUTE format('CREATE POLICY own_tenant ON %I USING (%s)', guarded, condition);
    END LOOP;
    EXECUTE format('CREATE POLICY own_tenant ON tenants USING (%s)', format(mine, 'id = (SELECT acting_tenant())'));
    FOREACH link SLICE 1 IN ARRAY hanging LOOP
        condition := format(mine, format('EXISTS (SELECT FROM %I AS above WHERE above.id = %I.%I)',
            link[3], link[1], link[2]));
        EXECUTE format('CREATE POLICY own_tenant ON %I USING (%s)', link[1], condition);
    END LOOP;
    FOR guarded IN SELECT tablename FROM pg_policies
        WHERE schemaname = current_schema() AND policyname = 'own_tenant' LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', guarded);
        IF guarded <> ALL (copied) THEN
            EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', guarded);
        END IF;
    END LOOP;
END $$;

-- Superusers and owners of tables pass by policies, so sessions take on this role while they act for a tenant. Where the
-- user may not make roles, FORCE alone must do.
DO $$
BEGIN
    BEGIN
        IF to_regrole('bookwheel_api') IS NULL THEN -- roles are shared by all databases of a server
            CREATE ROLE bookwheel_api NOLOGIN NOBYPASSRLS;
        END IF;
        EXECUTE format('GRANT bookwheel_api TO %I', current_user);
    EXCEPTION WHEN insufficient_privilege OR duplicate_object OR unique_violation THEN
        RAISE NOTICE 'No role bookwheel_api: %', SQLERRM;
    END;
    IF to_regrole('bookwheel_api') IS NOT NULL THEN
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO bookwheel_api', current_schema());
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA %I TO bookwheel_api',
            current_schema());
        EXECUTE format('GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA %I TO bookwheel_api', current_schema());
        EXECUTE format('GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA %I TO bookwheel_api', current_schema());
        EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA %I GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES'
            ' TO bookwheel_api', current_schema()); -- partitions of vectors, and the tables of later migrations
        EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA %I GRANT USAGE, SELECT ON SEQUENCES TO bookwheel_api',
            current_schema());
        EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA %I GRANT EXECUTE ON FUNCTIONS TO bookwheel_api',
            current_schema());
        REVOKE UPDATE, DELETE ON audit_events FROM bookwheel_api;
        REVOKE ALL ON signing_key, migrations FROM bookwheel_api;
    END IF;
END $$;

-- A policy comes before every condition that might tell of hidden rows, so the index on attributes serves `@>` only once
-- that is known to tell nothing (it raises no errors, whatever it reads). Only superusers may say so; without it filters
-- on attributes read all documents of the stores in question.
DO $$
BEGIN
    ALTER FUNCTION pg_catalog.jsonb_contains(jsonb, jsonb) LEAKPROOF;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE NOTICE 'Filters on attributes go without their index: %', SQLERRM;
END $$;
