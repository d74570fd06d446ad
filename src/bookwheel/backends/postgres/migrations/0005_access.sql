-- Who may read a document: users and groups; NULL for everybody in the tenant.

ALTER TABLE documents ADD COLUMN access text[];

-- Restricted documents are counted when a search is planned; where there are none, this costs one look.
CREATE INDEX documents_restricted ON documents (store_id) WHERE access IS NOT NULL;
