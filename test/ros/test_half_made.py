"""Nodes whose making failed: rclpy 9 (Kilted) destroys them at shutdown, and so may a user."""

import traceback

import pytest
import rclpy
from rclpy.exceptions import ParameterException
from rclpy.parameter import Parameter

from trt_openvla_ros.errors import InputError
from trt_openvla_ros.nodes.policy_node import PolicyNode
from trt_openvla_ros.nodes.sim_node import SimNode


@pytest.mark.parametrize(
    ('kind', 'name', 'value', 'error'),
    [
        (PolicyNode, 'max_new_tokens', 0, ParameterException),
        (PolicyNode, 'checkpoint', 5, ParameterException),
        (SimNode, 'rate', -1.0, ParameterException),
        (SimNode, 'instruction', 'dance', InputError),
    ],
)
def test_node_that_was_only_half_made_can_be_destroyed(domain, kind, name, value, error):
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    with pytest.raises(error) as failed:
        kind(context=context, parameter_overrides=[Parameter(name, value=value)])
    frames = [frame.f_locals.get('self') for frame, _ in traceback.walk_tb(failed.tb)]
    node = next(one for one in frames if isinstance(one, kind))

    node.destroy_node()
    rclpy.shutdown(context=context)
