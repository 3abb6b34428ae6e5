"""Meshes and reports for other programs."""
