"""DuckDB's scalar expressions, aggregates and windows evaluated in Python, value by value."""
