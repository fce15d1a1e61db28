"""The SQL of a trained model in the words of other databases."""
