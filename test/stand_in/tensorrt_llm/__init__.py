"""Stands in for TensorRT-LLM: its calls as trtllm_contract.json has them, over the torch engine.

What TensorRT-LLM would refuse it refuses, and also what TensorRT-LLM takes without meaning it:
unknown keywords, and a call while another one runs. That TensorRT-LLM's kernels compute the same
it cannot say. Environment: TRTLLM_RELEASE, a release of the contract.
"""

import os

__version__ = os.environ.get('TRTLLM_RELEASE', '1.2.1')
