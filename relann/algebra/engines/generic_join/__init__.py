"""Worst-case-optimal joins of cyclic queries: tries over codes, enumerated variable by variable."""
