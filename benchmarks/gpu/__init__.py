"""relann on a GPU: whether it computes what it computes elsewhere, and how fast."""
