"""Stage quantize: LLM_backbone to a TensorRT-LLM checkpoint."""
