"""Both engines in PyTorch, which are the reference for verifying the others."""
