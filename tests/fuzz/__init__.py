"""Hostile input from everywhere: `python -m tests.fuzz --minutes 60` runs all of it, the suite a little of each."""
