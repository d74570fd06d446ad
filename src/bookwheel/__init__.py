"""Bookwheel: documents in, cited answers out, on your own machines."""

__version__ = "0.1.0"
