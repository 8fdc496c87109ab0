"""The vision engine in TensorRT: its build and its run."""
