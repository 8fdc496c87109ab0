"""Both engines in PyTorch: the reference that the others are verified against."""
