"""Cameras from pictures: structure from motion, imports, lenses. The only room that calls pycolmap's mapper."""
