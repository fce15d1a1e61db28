"""Commutative semirings: what annotations are, how ⊕ and ⊗ combine them. One instance per file."""
