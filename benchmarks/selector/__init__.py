"""The selector beside other ways to choose."""
