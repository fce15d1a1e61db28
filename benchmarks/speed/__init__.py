"""Time per epoch and memory, side by side with PyTorch Geometric and torch by hand."""
