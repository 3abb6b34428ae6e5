"""``deep_sdf``: a shape space learned from a folder of meshes of one category."""
