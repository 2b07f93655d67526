"""One source of depth per file, on arrays and files; `recon4d.stages.depth` has the table of their names."""
