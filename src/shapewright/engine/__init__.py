"""Run folders, checkpoints, the training loop."""
