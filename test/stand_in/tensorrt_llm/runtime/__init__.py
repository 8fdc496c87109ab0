from tensorrt_llm.runtime.generation import LogitsProcessor, LogitsProcessorList
from tensorrt_llm.runtime.model_runner import ModelRunner
from tensorrt_llm.runtime.model_runner_cpp import ModelRunnerCpp

__all__ = ['LogitsProcessor', 'LogitsProcessorList', 'ModelRunner', 'ModelRunnerCpp']
