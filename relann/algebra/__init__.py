"""What is computed: the lifted algebra, its text, its rewrites, its plans; no weights, no torch."""
