"""Plain torch definitions of every kernel: the documentation, the test oracle and the fallback."""
