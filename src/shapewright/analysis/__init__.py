"""Looking at what was learned: maps of codes, ways between them."""
