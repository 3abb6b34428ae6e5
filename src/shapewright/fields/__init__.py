"""Functions of a position: encodings, signed distance and radiance networks."""
