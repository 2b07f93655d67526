"""One source of depth per file."""
