"""Gathers, products and reductions over row maps: what every epoch runs, forward and backward."""
