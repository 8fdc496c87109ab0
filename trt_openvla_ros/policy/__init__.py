"""The parts of one prediction: prompt, pixel values, engines, ids, reasoning and action."""

from trt_openvla_ros.policy.local import Policy

__all__ = ['Policy']
