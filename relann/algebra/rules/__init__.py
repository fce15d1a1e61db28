"""Rewrites of lifted queries: each a named function whose docstring is its equation."""
