"""Networks on pictures and codes, one architecture a file."""
