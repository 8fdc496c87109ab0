"""Files on disk: released checkpoints, artifacts and TensorRT-LLM checkpoints.

Only this folder holds the names of files, keys and tensors. The function that reads a format and
the function that writes it stand side by side.
"""
