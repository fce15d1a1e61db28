"""What tuples carry: parameters, encodings and kernels, run by torch."""
