"""Sources: a watched directory, a list of URLs, a sitemap, each kept in step with a store by the worker."""
