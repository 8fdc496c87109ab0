"""Everything on disk: the released format, the artifact, the TensorRT-LLM checkpoint.

The names of files, keys and tensors stand here and nowhere else, each beside both its directions:
how it is read, and how it is written.
"""
