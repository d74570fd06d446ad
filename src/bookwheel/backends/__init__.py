"""One file or folder for each dependency; only app.py imports them."""
