-- How much was used lately. What is in here may be lost at any time, so the tables are UNLOGGED: a take costs no WAL and
-- waits for no disk. Times are seconds since 1970 on this server's clock.

-- A counter and the slices of its window, oldest first; see ports.Limiter. Nothing that changes is indexed, and pages
-- have room for new versions, so that an update stays in its page. The longest row stays below what PostgreSQL would
-- compress.
CREATE UNLOGGED TABLE limit_counters (
    name text COLLATE "C" PRIMARY KEY,
    first_at double precision NOT NULL,   -- of the newest slice: its first take
    lasts double precision[] NOT NULL,    -- of each slice: its last take
    amounts bigint[] NOT NULL,
    window_seconds double precision NOT NULL,
    whole_at double precision NOT NULL    -- from then on it holds nothing
) WITH (fillfactor = 25, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- A group of those who run at once: of each holder how many it runs, and when its lease ends.
CREATE UNLOGGED TABLE limit_groups (
    name text COLLATE "C" PRIMARY KEY,
    holders text[] NOT NULL,
    running integer[] NOT NULL,
    ends double precision[] NOT NULL
) WITH (fillfactor = 25, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

CREATE FUNCTION limit_clock() RETURNS double precision LANGUAGE sql VOLATILE
RETURN extract(epoch FROM clock_timestamp())::double precision;

-- A counter without what has left its window, counted at a time that never runs backwards.
CREATE FUNCTION limit_now(counter limit_counters, clock double precision) RETURNS limit_counters
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    gone integer := 0;
    slices integer := cardinality(counter.lasts);
BEGIN
    WHILE gone < slices AND counter.lasts[gone + 1] + counter.window_seconds <= clock LOOP
        gone := gone + 1;
    END LOOP;
    IF gone > 0 THEN
        counter.lasts := counter.lasts[gone + 1:];
        counter.amounts := counter.amounts[gone + 1:];
    END IF;
    RETURN counter;
END $$;

-- The counter of this name as it is, and locked where that is asked, then made when there is none. Those who lock several
-- lock them in the order of their names, each before it looks for the next.
CREATE FUNCTION limit_counter(given text, seconds double precision, locked boolean) RETURNS limit_counters
LANGUAGE plpgsql AS $$
DECLARE
    counter limit_counters;
BEGIN
    LOOP
        IF locked THEN
            SELECT * INTO counter FROM limit_counters WHERE name = given FOR UPDATE;
        ELSE
            SELECT * INTO counter FROM limit_counters WHERE name = given;
        END IF;
        IF FOUND THEN
            RETURN counter;
        ELSIF NOT locked THEN
            RETURN ROW(given, 0, '{}', '{}', seconds, 0)::limit_counters;
        END IF;
        INSERT INTO limit_counters VALUES (given, 0, '{}', '{}', seconds, limit_clock() + seconds)
        ON CONFLICT DO NOTHING;
    END LOOP;
END $$;

-- Seconds until so much is allowed; NULL where that never is.
CREATE FUNCTION limit_wait(counter limit_counters, most bigint, amount bigint, clock double precision)
RETURNS double precision LANGUAGE sql IMMUTABLE
RETURN (
    SELECT min(last_at) + counter.window_seconds - clock
    FROM (SELECT last_at, sum(held) OVER (ORDER BY number DESC) - held AS left_over
          FROM unnest(counter.lasts, counter.amounts) WITH ORDINALITY AS slice (last_at, held, number)) AS slices
    WHERE left_over + greatest(amount, 1) <= most
);

CREATE FUNCTION limit_book(counter limit_counters, amount bigint, clock double precision) RETURNS limit_counters
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    newest integer := cardinality(counter.lasts);
BEGIN
    IF newest = 0 OR clock - counter.first_at >= counter.window_seconds / 100 THEN
        newest := newest + 1;
        counter.first_at := clock;
        counter.amounts[newest] := 0;
    END IF;
    counter.lasts[newest] := clock;
    counter.amounts[newest] := counter.amounts[newest] + amount;
    counter.whole_at := clock + counter.window_seconds;
    RETURN counter;
END $$;

-- Take all or nothing. The names are sorted and differ; a limit of NULL is none. First it looks without a lock: who is
-- refused then is refused rightly, for nothing is ever given back early, and the many who come again and again to a
-- counter that is full keep nobody waiting. When all are allowed it looks again with the locks, by the clock of that
-- moment, and takes.
CREATE FUNCTION limit_take(names text[], most bigint[], amounts bigint[], windows double precision[])
RETURNS TABLE (allowed boolean, held bigint, whole_in double precision, wait double precision)
LANGUAGE plpgsql AS $$
DECLARE
    counter limit_counters;
    counters limit_counters[];
    clock double precision;
    clocks double precision[];
    helds bigint[];
    fits boolean[];
    locked boolean;
BEGIN
    FOREACH locked IN ARRAY ARRAY[false, true] LOOP
        counters := '{}'; clocks := '{}'; helds := '{}'; fits := '{}';
        FOR place IN 1 .. cardinality(names) LOOP
            counter := limit_counter(names[place], windows[place], locked);
            clock := greatest(limit_clock(), counter.lasts[cardinality(counter.lasts)]);
            counter := limit_now(counter, clock);
            counters[place] := counter;
            clocks[place] := clock;
            helds[place] := (SELECT coalesce(sum(each), 0) FROM unnest(counter.amounts) AS each);
            fits[place] := coalesce(helds[place] + greatest(amounts[place], 1) <= most[place], true);
        END LOOP;
        EXIT WHEN NOT true = ALL (fits);
    END LOOP;
    FOR place IN 1 .. cardinality(names) LOOP
        counter := counters[place];
        IF true = ALL (fits) AND amounts[place] > 0 THEN
            counter := limit_book(counter, amounts[place], clocks[place]);
            helds[place] := helds[place] + amounts[place];
            UPDATE limit_counters AS kept
            SET first_at = counter.first_at, lasts = counter.lasts, amounts = counter.amounts,
                whole_at = counter.whole_at
            WHERE kept.name = names[place];
        END IF;
        allowed := fits[place];
        held := helds[place];
        whole_in := coalesce(counter.lasts[cardinality(counter.lasts)] + counter.window_seconds - clocks[place], 0);
        wait := CASE WHEN allowed THEN 0 ELSE limit_wait(counter, most[place], amounts[place], clocks[place]) END;
        RETURN NEXT;
    END LOOP;
END $$;

-- A group without those whose leases have ended, locked, and made when there is none.
CREATE FUNCTION limit_group(given text) RETURNS limit_groups LANGUAGE plpgsql AS $$
DECLARE
    found_group limit_groups;
    clock double precision;
BEGIN
    LOOP
        SELECT * INTO found_group FROM limit_groups WHERE name = given FOR UPDATE;
        EXIT WHEN FOUND;
        INSERT INTO limit_groups VALUES (given, '{}', '{}', '{}') ON CONFLICT DO NOTHING;
    END LOOP;
    clock := limit_clock();
    SELECT coalesce(array_agg(holder), '{}'), coalesce(array_agg(count), '{}'), coalesce(array_agg(ends_at), '{}')
    INTO found_group.holders, found_group.running, found_group.ends
    FROM unnest(found_group.holders, found_group.running, found_group.ends) AS held (holder, count, ends_at)
    WHERE ends_at > clock AND count > 0;
    RETURN found_group;
END $$;

-- So many more of this holder, its lease begun anew where `lease` is given.
CREATE FUNCTION limit_hold(given limit_groups, holder text, more integer, lease double precision) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    place integer := array_position(given.holders, holder);
BEGIN
    IF place IS NULL AND more > 0 THEN
        place := cardinality(given.holders) + 1;
        given.holders[place] := holder;
        given.running[place] := 0;
    END IF;
    IF place IS NOT NULL THEN
        given.running[place] := given.running[place] + more;
        given.ends[place] := coalesce(limit_clock() + lease, given.ends[place]);
    END IF;
    UPDATE limit_groups AS kept SET holders = given.holders, running = given.running, ends = given.ends
    WHERE kept.name = given.name;
END $$;

-- This holder runs so many.
CREATE FUNCTION limit_renew(given limit_groups, holder text, count integer, lease double precision) RETURNS void
LANGUAGE sql VOLATILE
RETURN limit_hold(given, holder, count - coalesce(given.running[array_position(given.holders, holder)], 0), lease);

-- Enter all or none; the names are sorted and differ.
CREATE FUNCTION limit_enter(names text[], most bigint[], holder text, lease double precision)
RETURNS TABLE (allowed boolean, held bigint, whole_in double precision, wait double precision)
LANGUAGE plpgsql AS $$
DECLARE
    groups limit_groups[] := '{}';
    fits boolean[] := '{}';
    helds bigint[] := '{}';
    clock double precision;
BEGIN
    FOR place IN 1 .. cardinality(names) LOOP
        groups[place] := limit_group(names[place]);
        helds[place] := (SELECT coalesce(sum(each), 0) FROM unnest(groups[place].running) AS each);
        fits[place] := helds[place] < most[place];
    END LOOP;
    clock := limit_clock();
    FOR place IN 1 .. cardinality(names) LOOP
        whole_in := coalesce((SELECT max(each) FROM unnest(groups[place].ends) AS each) - clock, 0);
        wait := CASE WHEN fits[place] THEN 0
            ELSE greatest(0, (SELECT min(each) FROM unnest(groups[place].ends) AS each) - clock) END;
        IF true = ALL (fits) THEN
            PERFORM limit_hold(groups[place], holder, 1, lease);
            helds[place] := helds[place] + 1;
            whole_in := greatest(whole_in, lease);
        END IF;
        allowed := fits[place];
        held := helds[place];
        RETURN NEXT;
    END LOOP;
END $$;
