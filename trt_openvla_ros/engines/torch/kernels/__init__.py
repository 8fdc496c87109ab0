"""Triton kernels of one decoding step, the operators that call them, and their truth in torch."""
