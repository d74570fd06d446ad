-- Whose turn it is to be ingested, and tenants that move to another index partition.

-- Each tenant's documents in the order in which they are taken; one that waits to be tried again is ready at that time.
DROP INDEX documents_unfinished;
CREATE INDEX documents_ready ON documents (tenant_id, urgent, (coalesce(retry_at, updated_at)), id)
    WHERE status = 'in_progress';

-- Fair queueing's accounts, in virtual time (turns.py). Losing them in a crash lets all tenants start level.
CREATE UNLOGGED TABLE turns (
    tenant_id uuid PRIMARY KEY REFERENCES tenants ON DELETE CASCADE,
    ends double precision NOT NULL -- what the tenant was given so far ends then
) WITH (fillfactor = 50);
CREATE UNLOGGED TABLE turn_clock (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    moment double precision NOT NULL
) WITH (fillfactor = 10);

-- Partitions beside those that all tenants share, in every embedding space.
CREATE TABLE own_partitions (
    shard integer GENERATED ALWAYS AS IDENTITY (START WITH 1000) PRIMARY KEY,
    tenant_id uuid REFERENCES tenants ON DELETE SET NULL
);
CREATE INDEX own_partitions_by_tenant ON own_partitions (tenant_id);

-- Tenants that are being moved: until `switched` vectors are written to both partitions, afterwards the source empties.
CREATE TABLE moves (
    tenant_id uuid PRIMARY KEY REFERENCES tenants ON DELETE CASCADE,
    source integer NOT NULL,
    target integer NOT NULL,
    switched boolean NOT NULL DEFAULT false
);
