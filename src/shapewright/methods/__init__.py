"""The menu of methods: a name and where its class lives, imported on use."""

METHODS = {
    "surface": "shapewright.methods.surface.method:SurfaceMethod",
    "deep_sdf": "shapewright.methods.deep_sdf.method:DeepSdfMethod",
    "pose_invariant": "shapewright.methods.pose_invariant.method:PoseInvariantMethod",
}
