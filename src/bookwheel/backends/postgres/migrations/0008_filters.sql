-- What filters need to know: the moments of dates in attributes, and which attributes a store's documents have had.

-- The moment that a date names, NULL for other strings: exactly moments.py. A string that could raise an error is not
-- cast: the pattern bounds all but the day, and that is compared with the month's last.
CREATE FUNCTION moment_of(value text) RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN value !~ ('^(?!0000)[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])'
            '([T ]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]{1,6})?)?(Z|[+-](0[0-9]|1[0-5]):[0-5][0-9])?)?$')
            THEN NULL
        WHEN substr(value, 9, 2)::integer
            > extract(day FROM (left(value, 7) || '-01')::date + interval '1 month' - interval '1 day')
            THEN NULL
        WHEN length(value) = 10 THEN (value || 'T00:00:00Z')::timestamptz
        WHEN value ~ '(Z|[+-][0-9:]{5})$' THEN value::timestamptz
        ELSE (value || 'Z')::timestamptz
    END
$$;

-- Names are kept when the last document with them goes: they only save a search from a warning that it does not need.
CREATE TABLE attribute_names (
    store_id uuid NOT NULL REFERENCES stores ON DELETE CASCADE,
    name text COLLATE "C" NOT NULL,
    PRIMARY KEY (store_id, name)
);
INSERT INTO attribute_names SELECT DISTINCT store_id, jsonb_object_keys(attributes) FROM documents;

CREATE FUNCTION note_inserted_attributes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO attribute_names SELECT DISTINCT store_id, jsonb_object_keys(attributes) AS name FROM added
    ORDER BY 1, 2 ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;

CREATE FUNCTION note_updated_attributes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM jsonb_object_keys(NEW.attributes) AS k (name) WHERE NOT EXISTS (
            SELECT FROM attribute_names a WHERE a.store_id = NEW.store_id AND a.name = k.name)) THEN
        -- The store before its names, in the order in which an insert takes them (count_inserted comes first).
        PERFORM 1 FROM stores WHERE id = NEW.store_id FOR NO KEY UPDATE;
        INSERT INTO attribute_names SELECT NEW.store_id, jsonb_object_keys(NEW.attributes) AS name
        ORDER BY 2 ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER note_inserted_attributes AFTER INSERT ON documents REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION note_inserted_attributes();
CREATE TRIGGER note_updated_attributes AFTER UPDATE OF attributes ON documents FOR EACH ROW
    WHEN (OLD.attributes IS DISTINCT FROM NEW.attributes) EXECUTE FUNCTION note_updated_attributes();
