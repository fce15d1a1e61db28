"""Query programs: training, evaluation, prediction and the library of layers."""
