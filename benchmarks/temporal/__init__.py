"""An epoch of a schema-wide GraphSAGE on temporal tasks, relann's and PyTorch Geometric's."""
