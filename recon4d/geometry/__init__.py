"""Numbers only: fits, meshing, merging, outliers. Knows our nouns, no files."""
