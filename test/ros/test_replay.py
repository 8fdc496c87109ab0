"""A recording, played as docs/node.md says, to a node with simulated time."""

from bag_player import BagPlayer, record
import numpy as np
import pytest

PUT, PUSH = 'put the spoon on the towel', 'push the red block left'
BEGIN = 1_700_000_000.0  # [s] of the recording
PERIOD, COUNT = 0.1, 30


@pytest.fixture
def bag(tmp_path, golden):
    """Three seconds at 10 Hz with two instructions, the first at the very beginning."""
    image = golden.image('case20')
    messages = [
        ('/camera/image_raw', BEGIN + 0.02 + PERIOD * number, image) for number in range(COUNT)
    ]
    messages += [('/instruction', BEGIN, PUT), ('/instruction', BEGIN + 1.55, PUSH)]
    return record(tmp_path / 'bag', sorted(messages, key=lambda message: message[1]))


def played(graph, bag, clock, **parameters):
    graph.add(remap={'image': '/camera/image_raw'}, **parameters)
    probe = graph.probe(image_topic='/camera/image_raw')
    for transition in ('configure', 'activate'):
        assert probe.transit(transition)
    with BagPlayer.open(graph.context, bag, clock) as player:
        player.play(1.0, lambda seconds: probe.executor.spin_once(timeout_sec=seconds))
        probe.status()
    return probe


def test_recording_is_acted_on_in_its_own_time(graph, bag, golden):
    probe = played(graph, bag, True, use_sim_time=True)

    # All but those that came while another was computed, and the first, whose clock may be late.
    assert len(probe.actions) >= COUNT // 2, probe.logs
    for action in probe.actions:
        seconds = action.header.stamp.sec + 1e-9 * action.header.stamp.nanosec - BEGIN
        assert action.instruction == (PUT if seconds < 1.55 else PUSH)
        assert abs(action.image_age) <= 1.0
        case = 'case20' if action.instruction == PUT else 'case21'
        np.testing.assert_allclose(action.action, golden.action(case), rtol=0, atol=1e-12)
    assert {action.instruction for action in probe.actions} == {PUT, PUSH}
    assert not [log for log in probe.logs if 'dropped' in log or 'no action' in log]


@pytest.mark.parametrize(
    ('simulated', 'clock', 'said'),
    [
        (False, False, 'a recording needs `ros2 bag play --clock` and use_sim_time'),
        (False, True, 'a recording needs `ros2 bag play --clock` and use_sim_time'),
        (True, False, 'no message has come on /clock'),
    ],
)
def test_recording_played_in_another_way_is_told_how(graph, bag, simulated, clock, said):
    probe = played(graph, bag, clock, use_sim_time=simulated)

    assert not probe.actions
    assert any(said in log for log in probe.logs), probe.logs
    assert any(said in status.message for status in probe.statuses)


def test_recording_of_any_age_is_acted_on_without_a_limit(graph, bag):
    assert len(played(graph, bag, False, max_image_age=0.0).actions) >= COUNT // 2
