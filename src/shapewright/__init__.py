"""Shapewright turns photos, scans, meshes and picture collections into 3D shapes with neural networks."""

__version__ = "0.1.0"
