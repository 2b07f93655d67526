"""Rasterising and splatting."""
