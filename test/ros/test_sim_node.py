"""The simulation over DDS: scenes, goals, instructions, and what it publishes."""

import numpy as np
from player import nanoseconds, Player, STILL, UP
import pytest
from rclpy.qos import ReliabilityPolicy
from std_msgs.msg import String

from trt_openvla_ros.nodes.conversions import to_rgb
from trt_openvla_ros.sim.goals import goals_for, KINDS, parse, phrase
from trt_openvla_ros.sim.world import MAX_STEPS


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


def test_images_are_reliable_if_asked_for(play):
    name = 'qos_overrides./camera/image_raw.publisher.'
    player = play(
        **{
            f'{name}reliability': 'reliable',
            f'{name}durability': 'transient_local',
            'qos_overrides./instruction.publisher.depth': 3,
        }
    )
    player.next_image()
    (images,) = player.node.get_publishers_info_by_topic('/camera/image_raw')
    assert images.qos_profile.reliability == ReliabilityPolicy.RELIABLE
    (infos,) = player.node.get_publishers_info_by_topic('/camera/camera_info')
    assert infos.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
    player.warned(f'unused: {name}durability;')


def test_first_scene_is_that_of_the_parameters(play, mirror):
    instruction = a_goal(mirror, 5, 'pick')
    player = play(seed=5, instruction=instruction)

    image = player.next_image()

    np.testing.assert_array_equal(to_rgb(image), mirror.image())
    assert image.header.frame_id == 'camera_optical_frame'
    assert player.instructions[-1] == instruction


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
    # Passed on to a policy that had not found the user yet.
    player.wait(lambda: player.instructions.count(second) == 2, 'echo')
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


def test_empty_instruction_stops(play):
    player = play()
    player.reset(1)

    player.words.publish(String(data=' '))

    player.warned("instruction: ''")
    player.wait(lambda: player.instructions[-1] == '', 'stop that is passed on')
    assert not player.success().success


def test_instructions_in_a_row_end_with_the_last(play):
    player = play()
    player.reset(1)
    texts = [f'dance {number}' for number in range(8)]  # fewer than a subscription keeps

    for text in texts:
        player.words.publish(String(data=text))

    # What the node passes on in between comes back to it, and must not win.
    player.wait(lambda: player.instructions.count(texts[-1]) == 2, 'last one passed on')
    image = player.next_image()
    assert player.instructions[-1] == texts[-1]
    assert player.success().message.startswith(repr(texts[-1]))
    player.answer(image, texts[-1], UP)
    player.next_image(lambda message: message.data != image.data)


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


def test_resets_in_a_row_end_with_the_last(play):
    player = play()
    texts = {seed: player.reset(seed).instruction for seed in (1, 2)}
    known = len(player.instructions)

    for seed in (1, 2, 1, 2):
        player.request_reset(seed)

    # The node hears its own words too.
    player.wait(lambda: len(player.instructions) >= known + 4, 'instructions')
    player.wait(lambda: player.success().message.startswith(repr(texts[2])), texts[2])
    image = player.next_image()
    player.answer(image, texts[2], UP)
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
    assert stamps[-1] == 1_200_000_000  # 6 steps of 0.2 s, whatever the wall says


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
