-- Sections: what a hit of the chunking strategy parent_child shows in place of the small chunk that was found.

CREATE TABLE sections (
    document_id uuid NOT NULL,
    version integer NOT NULL,
    ordinal integer NOT NULL,
    start_offset integer NOT NULL, -- characters of the document's text
    end_offset integer NOT NULL,
    text text NOT NULL,
    PRIMARY KEY (document_id, version, ordinal)
);

ALTER TABLE chunks ADD COLUMN section integer; -- ordinal of its section, or NULL where the strategy has none
