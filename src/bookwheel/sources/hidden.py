"""What nobody means by "this folder"."""

SKIPPED_FOLDERS = frozenset({"node_modules", "__pycache__"})  # and hidden ones


def is_skipped(name: str) -> bool:
    """Hidden files and folders, and folders that nobody reads."""
    return name.startswith(".") or name in SKIPPED_FOLDERS
