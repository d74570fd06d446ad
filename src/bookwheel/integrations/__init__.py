"""Bookwheel where people already work, one file for each framework, over the public HTTP API."""
