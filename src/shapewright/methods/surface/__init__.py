"""Multi-view neural surface reconstruction (IDR, arXiv:2003.09852)."""
