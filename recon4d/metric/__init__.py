"""Metres from evidence: one file per cue, and the scale they agree on. Pure functions on arrays."""
