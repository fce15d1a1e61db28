"""Choosing among query programs."""
