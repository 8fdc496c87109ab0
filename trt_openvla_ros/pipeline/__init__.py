"""The pipeline, which turns a Hugging Face checkpoint into an artifact with TensorRT engines."""
