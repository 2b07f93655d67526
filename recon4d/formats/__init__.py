"""The bytes of files: one reader or writer per format, no arithmetic beyond unit and axis conversion."""
