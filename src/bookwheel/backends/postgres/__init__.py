"""PostgreSQL with pgvector: catalog, job queue and default vector index."""
