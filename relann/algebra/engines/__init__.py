"""Engines: who computes the content side of a query, and hands over row maps as arrays."""
