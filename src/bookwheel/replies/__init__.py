"""The JSON objects that the HTTP API answers with: what OpenAPI tells of them, and what the Python client returns.

Times are Unix seconds. Tests hold the routes to them.
"""
