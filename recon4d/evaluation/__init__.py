"""Scores against truth, and without."""
