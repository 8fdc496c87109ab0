"""The vision engine in TensorRT: built, and run."""
