-- Who writes a tenant's answers, and how often each question is asked.

ALTER TABLE tenants ADD COLUMN generator text;

CREATE TABLE asked_questions (
    key text PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    request json NOT NULL, -- not jsonb, which refuses what a question may hold
    times bigint NOT NULL,
    asked_at timestamptz NOT NULL DEFAULT now(),
    refreshed_at timestamptz
);
CREATE INDEX asked_questions_by_count ON asked_questions (times DESC);
CREATE INDEX asked_questions_by_time ON asked_questions (asked_at);
CREATE INDEX asked_questions_by_tenant ON asked_questions (tenant_id);
