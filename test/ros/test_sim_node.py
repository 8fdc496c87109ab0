from concurrent.futures import Future
from contextlib import suppress
import threading

import numpy as np
from player import nanoseconds, Player, STILL, UP
import pytest
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.parameter import Parameter
from std_msgs.msg import String

from trt_openvla_ros.nodes.conversions import to_rgb
from trt_openvla_ros.nodes.sim_node import SimNode
from trt_openvla_ros.sim.goals import goals_for, KINDS, parse, phrase
from trt_openvla_ros.sim.world import MAX_STEPS, World


class _Table:
    """A simulation node, made and spun and destroyed by one thread, as OpenGL wants it."""

    def __init__(self, context, parameters):
        self._context, self._parameters = context, parameters
        self._closing = threading.Event()
        self._started = Future()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self._started.result(20)

    def close(self):
        self._closing.set()
        self._thread.join()

    def _run(self):
        try:
            overrides = [Parameter(name, value=value) for name, value in self._parameters.items()]
            node = SimNode(context=self._context, parameter_overrides=overrides)
        except Exception as error:  # noqa: BLE001 - for the test's thread
            self._started.set_exception(error)
            return
        executor = SingleThreadedExecutor(context=self._context)
        executor.add_node(node)
        self._started.set_result(None)
        with suppress(ExternalShutdownException):
            while not self._closing.is_set():
                executor.spin_once(timeout_sec=0.05)
        executor.shutdown()
        node.destroy_node()


@pytest.fixture
def play(graph):
    """Start a simulation with parameters, in lock-step unless they say; give its player."""
    running = []

    def start(**parameters):
        running.append(_Table(graph.context, {'rate': 0.0, **parameters}))
        running.append(Player(graph.context))
        return running[-1]

    yield start
    while running:
        running.pop().close()


@pytest.fixture(scope='module')
def mirror():
    """A world of the test's own, to do in it what the node should have done."""
    world = World()
    yield world
    world.close()


def a_goal(world, seed, kind):
    world.reset(seed)
    goal = next(goal for goal in goals_for(world.things) if goal.kind == kind)
    return phrase(goal, np.random.default_rng(seed))


@pytest.mark.parametrize('kind', KINDS)
def test_expert_reaches_a_goal_in_lock_step(play, mirror, kind):
    instruction = a_goal(mirror, 3, kind)
    player = play()
    reset = player.reset(3, instruction)
    assert (reset.success, reset.instruction, reset.kind) == (True, instruction, kind)
    assert not player.success().success

    player.play(mirror, instruction, MAX_STEPS)

    assert mirror.success(parse(instruction))
    verdict = player.success()
    assert verdict.success, verdict.message
    assert instruction in verdict.message
    assert f'reached; {round(mirror.time / 0.192)} steps' in verdict.message


def test_first_scene_is_that_of_the_parameters(play, mirror):
    instruction = a_goal(mirror, 5, 'pick')
    player = play(seed=5, instruction=instruction)

    image = player.next_image()

    np.testing.assert_array_equal(to_rgb(image), mirror.image())
    assert image.header.frame_id == 'camera_optical_frame'
    assert player.instructions[-1] == instruction


@pytest.mark.parametrize(
    ('reason', 'change'),
    [
        ('not seven finite numbers', {'action': (*UP[:5], np.nan, 1.0)}),
        ('the gripper is 2.0', {'action': (*UP[:6], 2.0)}),
        ("follows 'dance'", {'instruction': 'dance'}),
        ('stamp 12.', {'sec': 12}),
    ],
)
def test_action_that_does_not_count_moves_nothing(play, reason, change):
    player = play()
    instruction = player.reset(1).instruction
    image = player.next_image()
    sec = image.header.stamp.sec
    image.header.stamp.sec = change.get('sec', sec)

    player.answer(image, change.get('instruction', instruction), change.get('action', UP))

    image.header.stamp.sec = sec
    player.warned(reason)
    again = player.next_image()
    assert again.header.stamp != image.header.stamp
    assert again.data == image.data
    assert '; 0 steps' in player.success().message
    # That it was the same world, either image may tell: a slow policy answers the first.
    player.answer(image, instruction, UP)
    moved = player.next_image(lambda message: message.data != image.data)
    assert player.pose_of(moved)[2] - player.pose_of(image)[2] > 0.02


def test_image_is_answered_once(play):
    player = play()
    instruction = player.reset(1).instruction
    first = player.next_image()
    player.answer(first, instruction, UP)
    second = player.next_image(lambda message: message.data != first.data)

    player.answer(first, instruction, UP)

    player.warned('newer than the last answered')
    assert player.next_image().data == second.data
    assert '; 1 steps' in player.success().message


def test_image_from_before_a_reset_is_not_answered(play):
    player = play()
    player.reset(1)
    old = player.next_image()
    instruction = player.reset(1).instruction

    player.answer(old, instruction, UP)

    player.warned('an image since the reset')
    assert player.next_image().data == old.data


def test_reset_is_reproducible(play):
    player = play()
    begin = player.reset(7)
    assert begin.kind in KINDS
    assert begin.message.startswith('on the table: ')
    first = player.next_image()
    player.answer(first, begin.instruction, UP)
    player.next_image(lambda message: message.data != first.data)

    assert player.reset(7) == begin
    assert player.next_image().data == first.data
    assert player.reset(8).instruction != begin.instruction
    assert player.next_image().data != first.data
    assert player.instructions[-3:] == [begin.instruction] * 2 + [player.reset(8).instruction]


@pytest.mark.parametrize('wish', ['dance', 'missing'])
def test_reset_that_is_impossible_changes_nothing(play, mirror, wish):
    player = play()
    begin = player.reset(2)
    image = player.next_image()
    player.answer(image, begin.instruction, UP)
    moved = player.next_image(lambda message: message.data != image.data)
    if wish == 'missing':
        looks = {f'{c} {s}' for c in ('red', 'green') for s in ('block', 'ball', 'cylinder')}
        wish = f'pick up the {min(looks - set(mirror.names(9)))}'

    response = player.reset(9, wish)

    assert not response.success
    assert repr(wish) in response.message
    assert (response.instruction, response.kind) == (begin.instruction, '')
    assert player.next_image().data == moved.data
    assert '; 1 steps' in player.success().message


def test_another_instruction_in_the_same_scene_is_followed(play, mirror):
    first, second = a_goal(mirror, 4, 'pick'), a_goal(mirror, 4, 'reach')
    player = play()
    player.reset(4, first)
    player.play(mirror, first, 3)

    player.words.publish(String(data=second))

    player.warned(f'instruction: {second!r}')
    player.play(mirror, second, MAX_STEPS)
    verdict = player.success()
    assert verdict.success, verdict.message
    assert second in verdict.message


def test_instruction_that_is_no_goal_is_obeyed_but_not_judged(play):
    player = play()
    player.reset(4)
    player.words.publish(String(data='dance'))
    player.warned("success will not be known: instruction 'dance'")
    image = player.next_image()

    player.answer(image, 'dance', UP)

    player.next_image(lambda message: message.data != image.data)
    verdict = player.success()
    assert not verdict.success
    assert "'dance': no goal of this table" in verdict.message


def test_instruction_of_an_earlier_scene_may_come_again(play):
    player = play()
    first, second = player.reset(1).instruction, player.reset(2).instruction
    image = player.next_image()

    player.words.publish(String(data=first))
    player.wait(lambda: player.success().message.startswith(repr(first)), first)
    player.words.publish(String(data=second))
    player.wait(lambda: player.success().message.startswith(repr(second)), second)

    player.answer(player.next_image(), second, UP)
    player.next_image(lambda message: message.data != image.data)


def test_late_subscriber_hears_the_instruction(play, graph):
    player = play()
    instruction = player.reset(6).instruction
    player.next_image()

    late = Player(graph.context)  # waits for the instruction

    assert set(late.instructions) == {instruction}
    late.close()


def test_clock_is_simulated_and_never_goes_back(play):
    player = play(publish_clock=True)
    stamps = []
    for seed in (1, 2):
        instruction = player.reset(seed).instruction
        for _ in range(3):
            known = len(player.images)
            player.wait(lambda known=known: len(player.images) > known, 'image')
            player.answer(player.images[-1], instruction, STILL)
    player.wait(lambda: '; 3 steps' in player.success().message, 'third step')
    stamps = [nanoseconds(image.header.stamp) for image in player.images]
    ticks = [nanoseconds(message.clock) for message in player.clocks]
    assert stamps == sorted(set(stamps))
    assert ticks == sorted(set(ticks))
    assert set(stamps) <= set(ticks)
    assert 1.0e9 < stamps[-1] < 1.2e9  # 6 steps of 0.192 s, whatever the wall says


def test_camera_info_projects_as_the_world_does(play, mirror):
    player = play()
    player.reset(3)
    image = player.next_image()
    stamp = image.header.stamp
    player.wait(lambda: any(m.header.stamp == stamp for m in player.camera_infos), 'camera_info')
    info = next(m for m in player.camera_infos if m.header.stamp == stamp)
    assert (info.height, info.width) == (image.height, image.width)
    assert info.header == image.header

    mirror.reset(3)
    position, rotation = mirror.camera_pose
    points = np.array([thing.position for thing in mirror.things])
    seen = np.column_stack([(points - position) @ rotation, np.ones(len(points))])
    pixels = seen @ info.p.reshape(3, 4).T
    expected = mirror.project(points)
    np.testing.assert_allclose(pixels[:, :2] / pixels[:, 2:], expected, atol=1e-9)
    np.testing.assert_array_equal(info.k.reshape(3, 3), info.p.reshape(3, 4)[:, :3])


def test_in_real_time_the_hand_waits_for_actions(play):
    player = play(rate=20.0)
    instruction = player.reset(1).instruction
    first = player.next_image()
    later = player.next_image()
    np.testing.assert_allclose(player.pose_of(later), player.pose_of(first), atol=1e-3)

    player.answer(player.next_image(), instruction, (0.0, 0.0, 0.03, 0.0, 0.0, 0.0, 0.0))

    moved = player.next_image(
        lambda m: player.pose_of(m)[2] - player.pose_of(first)[2] > 0.02,
    )
    # It stays there, and closed.
    player.joints.clear()
    player.wait(lambda: len(player.joints) > 5, 'joint states')
    assert {tuple(message.name) for message in player.joints} == {('finger_left', 'finger_right')}
    assert max(message.position[0] for message in player.joints) < 0.015
    np.testing.assert_allclose(
        player.pose_of(player.next_image()), player.pose_of(moved), atol=2e-3
    )


def test_in_real_time_an_older_image_than_the_last_answered_is_ignored(play):
    player = play(rate=20.0)
    instruction = player.reset(1).instruction
    older, newer = player.next_image(), player.next_image()
    player.answer(newer, instruction, STILL)

    player.answer(older, instruction, UP)

    player.warned('newer than the last answered')
    image = player.next_image()
    np.testing.assert_allclose(player.pose_of(image), player.pose_of(older), atol=1e-3)
