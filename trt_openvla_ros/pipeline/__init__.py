"""From a Hugging Face checkpoint to an artifact with TensorRT engines, in stages."""
