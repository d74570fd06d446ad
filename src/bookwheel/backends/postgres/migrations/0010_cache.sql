-- The cache that all processes share. What is in it may be lost at any time, so its tables are UNLOGGED: they cost no
-- WAL, a crash of the server empties them, and replicas and backups do not have them.

CREATE UNLOGGED TABLE cache_values (
    key text COLLATE "C" PRIMARY KEY,
    value bytea NOT NULL,
    expires_at timestamptz NOT NULL
);
ALTER TABLE cache_values ALTER COLUMN value SET STORAGE EXTERNAL; -- compressing takes longer than writing it saves
CREATE INDEX cache_values_by_expiry ON cache_values (expires_at);

-- A row for each list: appends take turns at it, so that members appear in the order of their numbers. Without an index
-- on what changes, and with room in each page, an update stays in its page.
CREATE UNLOGGED TABLE cache_groups (
    name text COLLATE "C" PRIMARY KEY,
    last_number bigint NOT NULL,
    first_number bigint NOT NULL, -- older members are of a list that expired
    keep integer NOT NULL,
    expires_at timestamptz NOT NULL
) WITH (fillfactor = 50);

CREATE UNLOGGED TABLE cache_members (
    name text COLLATE "C" NOT NULL REFERENCES cache_groups ON DELETE CASCADE,
    number bigint NOT NULL,
    member bytea NOT NULL,
    PRIMARY KEY (name, number)
);
ALTER TABLE cache_members ALTER COLUMN member SET STORAGE EXTERNAL;
