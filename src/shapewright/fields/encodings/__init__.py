"""Encodings of positions and directions."""
