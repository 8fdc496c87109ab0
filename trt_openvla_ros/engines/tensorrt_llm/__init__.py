"""The language engine in TensorRT-LLM: built, checked, run, and held to its contract file."""
