"""When the node acts and when it stops, by the instruction."""

from diagnostic_msgs.msg import DiagnosticStatus
from probe import values_of
import pytest
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import String

from trt_openvla_ros.msg import VlaAction

PUT, PUSH = 'put the spoon on the towel', 'push the red block left'


def test_no_action_before_an_instruction(graph, held, golden):
    probe = graph.start(engine='held')
    early = [probe.send(golden.image('case20')) for _ in range(3)]
    probe.counted(images_received=3)
    assert held.calls == 2, 'inference ran before an instruction came'

    probe.instruct(PUT)
    action = probe.act(golden.image('case20'))

    # Not even the newest of the early images is acted on late.
    assert action.header.stamp not in early
    assert action.sequence == 1


@pytest.mark.parametrize('stop', ['', '  \n', 'put </s> there', 'show me the <image>', '...'])
def test_empty_or_unusable_instruction_stops(graph, golden, stop):
    probe = graph.start()
    probe.instruct(PUT)
    probe.act(golden.image('case20'))

    probe.instruct(stop)
    ignored = probe.send(golden.image('case20'))
    probe.instruct(PUSH)
    probe.act(golden.image('case20'))

    # Topics have no common order: the node may see that frame after the new instruction.
    late = [action for action in probe.actions if action.header.stamp == ignored]
    assert all(action.instruction == PUSH for action in late)


def test_unusable_instruction_is_counted_and_named(graph):
    probe = graph.start()

    probe.instruct('put </s> there')

    assert any('put </s> there' in log and 'stopped' in log for log in probe.logs)
    status = probe.counted(instructions_rejected=1)
    assert status.level == DiagnosticStatus.WARN


def test_stop_during_inference_publishes_nothing(graph, held, golden):
    probe = graph.start(engine='held')
    probe.instruct(PUT)
    probe.act(golden.image('case20'))

    in_progress = probe.begin_step(held, golden.image('case20'))
    probe.instruct('')
    held.gate.set()

    probe.instruct(PUSH)
    probe.act(golden.image('case20'))
    assert in_progress not in [action.header.stamp for action in probe.actions]


def test_new_instruction_counts_from_the_next_frame(graph, held, golden):
    probe = graph.start(engine='held')
    probe.instruct(PUT)
    probe.act(golden.image('case20'))

    during = probe.begin_step(held, golden.image('case20'))
    probe.instruct(PUSH)
    held.gate.set()
    probe.wait(lambda: probe.actions[-1].header.stamp == during, 'action begun before')
    after = probe.act(golden.image('case20'))

    assert probe.actions[-2].instruction == PUT
    assert list(probe.actions[-2].action) == pytest.approx(golden.action('case20'), abs=1e-12)
    assert after.instruction == PUSH
    assert list(after.action) == pytest.approx(golden.action('case21'), abs=1e-12)


def test_instruction_is_kept_as_it_was_received(graph, golden):
    probe = graph.start()
    probe.instruct('  Put the SPOON on the towel. ')

    action = probe.act(golden.image('case20'))

    # The prompt is in the form of the training data; the message says what the user said.
    assert action.instruction == '  Put the SPOON on the towel. '
    assert list(action.action) == pytest.approx(golden.action('case20'), abs=1e-12)


def test_indices_name_the_seven_values():
    names = ('X', 'Y', 'Z', 'ROLL', 'PITCH', 'YAW', 'GRIPPER')
    assert [getattr(VlaAction, name) for name in names] == list(range(7))


@pytest.mark.parametrize('text', ['x' * 2001, 'put ' * 10**5, '\N{GRINNING FACE}' * 10**6])
def test_long_instruction_stops_and_is_not_echoed(graph, golden, text):
    probe = graph.start()
    probe.instruct(PUT)
    probe.act(golden.image('case20'))

    probe.instruct(text)

    (said,) = (log for log in probe.logs if f'{len(text)} characters; 2000 are allowed' in log)
    assert 'stopped' in said
    assert len(said) < 300
    status = probe.counted(instructions_rejected=1)
    assert values_of(status)['instruction'] == ''
    assert len(str(status)) < 5000
    stamp = probe.send(golden.image('case20'))
    probe.instruct(PUSH)
    probe.act(golden.image('case20'))
    assert all(a.instruction == PUSH for a in probe.actions if a.header.stamp == stamp)


@pytest.mark.parametrize('text', [PUT, '', 'say </s>'])
def test_same_sentence_again_is_no_news(graph, golden, text):
    probe = graph.start()
    probe.instruct(text)

    for _ in range(20):
        probe.instructions.publish(String(data=text))
    probe.instructions.publish(String(data=PUSH))  # one topic keeps its order
    probe.wait(lambda: any(PUSH in log for log in probe.logs), 'log of the last')

    assert sum('instruction' in log for log in probe.logs) == 2
    probe.act(golden.image('case20'))
    assert values_of(probe.status())['instructions_rejected'] == str(int('</s>' in text))


def test_same_sentence_after_a_stop_is_heard_again(graph, golden):
    probe = graph.start()
    for stop in ('', 'say </s>'):
        probe.instruct(PUT)
        probe.act(golden.image('case20'))
        probe.instruct(stop)
    probe.instruct(PUT)
    probe.act(golden.image('case20'))
    assert probe.transit('deactivate')
    assert probe.transit('activate')
    probe.instruct(PUT)
    probe.act(golden.image('case20'))


LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@pytest.mark.parametrize('wanted', [False, True])
def test_instruction_latched_before_the_start(graph, golden, wanted):
    sender = graph.probe().node.create_publisher(String, 'instruction', LATCHED)
    sender.publish(String(data=PUSH))
    probe = graph.start(latched_instruction=wanted)

    if wanted:
        probe.wait(lambda: any(PUSH in log for log in probe.logs), 'latched instruction')
        assert probe.act(golden.image('case20')).instruction == PUSH
    # What is new is heard from every sender, and once; so is a stop.
    probe.instruct(PUT)
    assert probe.act(golden.image('case20')).instruction == PUT
    sender.publish(String(data='lift the cup'))
    probe.wait(lambda: any('lift' in log for log in probe.logs), 'new instruction')
    probe.instruct('')
    said = [log for log in probe.logs if 'instruction' in log]
    assert len(said) == 3 + wanted, said
    assert 'stopped' in said[-1]


def test_stopped_robot_goes_on_by_no_latched_instruction(graph, golden):
    sender = graph.probe().node.create_publisher(String, 'instruction', LATCHED)
    sender.publish(String(data=PUSH))
    probe = graph.start(latched_instruction=True)
    probe.act(golden.image('case20'))
    assert probe.transit('deactivate')
    assert probe.transit('activate')

    stamp = probe.send(golden.image('case20'))
    probe.counted(images_received=len(probe.sent))
    assert values_of(probe.status())['instruction'] == ''
    assert stamp not in [action.header.stamp for action in probe.actions]
