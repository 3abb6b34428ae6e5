"""Renderers that take a field as a callable."""
