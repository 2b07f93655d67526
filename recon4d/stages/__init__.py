"""Folders and the order of work: each stage is ``run(workspace, options, progress)``."""
