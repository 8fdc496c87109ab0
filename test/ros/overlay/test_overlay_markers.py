"""The markers of the overlay node: frames, stamps, and what happens to old ones."""

import numpy as np
from player import UP
import pytest
from rclpy.parameter import Parameter
from visualization_msgs.msg import Marker

from trt_openvla_ros.msg import GateRule
from trt_openvla_ros.nodes.robot.node import RobotNode

BOX = [-0.2, -0.3, 0.0, 0.2, 0.3, 0.4]
TARGET = np.array([0.05, 0.02, 0.1])


def added(array):
    return {(m.ns, m.id): m for m in array.markers if m.action == Marker.ADD}


def deleted(array):
    return {(m.ns, m.id) for m in array.markers if m.action == Marker.DELETE}


def test_step_boxes_and_state_are_shown_and_deleted_when_old(watch):
    viewer = watch(max_age=0.5, workspace=BOX, keep_out_2=[0.1, 0.1, 0.0, 0.2, 0.2, 0.1])
    viewer.mark()
    rule = GateRule(rule='workspace', verdict=GateRule.HOLD, reason='x is 0.3 m')

    def has_step():
        viewer.report('holding', reason='outside', rules=[rule])
        viewer.aim(TARGET)
        return any(('step', 0) in added(array) for array in viewer.marker_arrays)

    viewer.wait(has_step, 'step')
    shown = next(added(array) for array in viewer.marker_arrays if ('step', 0) in added(array))

    assert {'step', 'workspace', 'keep_out', 'state'} == {ns for ns, _ in shown}
    assert {marker.header.frame_id for marker in shown.values()} == {'base_link'}
    arrow = shown['step', 0]
    hand = viewer.pose_at(arrow.header.stamp)
    start, tip = ([p.x, p.y, p.z] for p in arrow.points)
    np.testing.assert_allclose(start, hand)
    np.testing.assert_allclose(tip, TARGET)
    edges = np.array([[p.x, p.y, p.z] for p in shown['workspace', 0].points])
    assert edges.shape == (24, 3)
    np.testing.assert_allclose([*edges.min(0), *edges.max(0)], BOX)
    cube = shown['keep_out', 2]
    np.testing.assert_allclose([cube.scale.x, cube.scale.y, cube.scale.z], [0.1, 0.1, 0.1])
    assert shown['state', 0].text == 'holding: hold workspace x is 0.3 m'
    assert all(0 < marker.lifetime.sec <= 2 for marker in shown.values())
    # Nobody says anything any more.
    gone = set()

    def all_gone():
        for array in viewer.marker_arrays:
            gone.update(deleted(array))
        return {('step', 0), ('step', 1), ('state', 0)} <= gone

    viewer.wait(all_gone, 'deletion')
    assert {ns for ns, _ in added(viewer.marker_arrays[-1])} == {'workspace', 'keep_out'}


@pytest.mark.parametrize('frame', ['base_link', 'map'])
def test_target_in_another_frame_is_no_step(watch, frame):
    viewer = watch()
    viewer.mark()

    def aimed():
        viewer.aim(TARGET, frame)
        return len(viewer.marker_arrays) > 8

    viewer.wait(aimed, 'markers')
    found = any(('step', 0) in added(array) for array in viewer.marker_arrays)
    assert found == (frame == 'base_link')


def test_step_of_a_policy_without_a_gate_is_marked_by_its_colour(watch):
    viewer = watch()
    viewer.mark()
    array = viewer.keep_acting(UP, viewer.marker_arrays, lambda a: ('step', 0) in added(a))

    arrow = added(array)['step', 0]
    assert arrow.color.g > 0.5  # amber; a checked one is red
    assert arrow.points[1].z > arrow.points[0].z


def test_boxes_are_those_of_the_robot_node_that_runs(watch, graph):
    robot = RobotNode(
        context=graph.context,
        parameter_overrides=[
            Parameter(name, value=value)
            for name, value in {
                'workspace': BOX,
                'keep_out_3': [0.0, 0.0, 0.0, 0.1, 0.1, 0.1],
                'base_frame': 'arm_base',
                'autostart': False,
            }.items()
        ],
    )
    viewer = watch()
    viewer.executor.add_node(robot)
    viewer.mark()

    array = viewer.next_of(viewer.marker_arrays, lambda a: ('workspace', 0) in added(a))

    shown = added(array)
    assert {key for key in shown if key[0] != 'state'} == {('workspace', 0), ('keep_out', 3)}
    assert shown['workspace', 0].header.frame_id == 'arm_base'
    edges = np.array([[p.x, p.y, p.z] for p in shown['workspace', 0].points])
    np.testing.assert_allclose([*edges.min(0), *edges.max(0)], BOX)
    viewer.executor.remove_node(robot)
    robot.destroy_node()
