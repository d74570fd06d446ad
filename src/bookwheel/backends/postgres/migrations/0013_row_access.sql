-- Access lists of stores, who is denied, and whose a response is. NULL: no list.

ALTER TABLE stores
    ADD COLUMN access text[], -- who may read documents without a list of their own
    ADD COLUMN denied text[]; -- who may read none of them, whatever their own lists say
ALTER TABLE documents ADD COLUMN denied text[];

-- Documents with lists of their own are counted when a search is planned and a store is shown; without any, this costs
-- one look.
DROP INDEX documents_restricted;
CREATE INDEX documents_restricted ON documents (store_id) WHERE access IS NOT NULL OR denied IS NOT NULL;

ALTER TABLE responses
    ADD COLUMN caller_id text NOT NULL DEFAULT 'local', -- before there were keys, everybody was
    ADD COLUMN granted uuid[],                          -- the stores that its search may look at; NULL for all
    ADD COLUMN rule jsonb;                              -- a filter that what it finds must pass too
ALTER TABLE responses ALTER COLUMN caller_id DROP DEFAULT;
