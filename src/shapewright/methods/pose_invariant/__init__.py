"""Single-view reconstruction: one picture in, one mesh out, learned from one view per object."""
