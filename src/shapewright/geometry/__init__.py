"""Geometry on tensors: cameras, rays, meshes, voxels, iso-surfaces. No files, no networks."""
