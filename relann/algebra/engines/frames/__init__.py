"""The content side over data frames: the same code for any library with the pandas interface."""
