"""The language engine in TensorRT-LLM: its build, its checks, its run and the contract file."""
