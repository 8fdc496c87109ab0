import numpy as np
import pytest

from trt_openvla_ros.errors import InputError
from trt_openvla_ros.sim.arm import Arm, MAX_SPEED, REACH_HIGH, SUBSTEP
from trt_openvla_ros.sim.expert import expert
from trt_openvla_ros.sim.goals import Goal, goals_for, KINDS, parse, phrase
from trt_openvla_ros.sim.scene import SUBSTEPS
from trt_openvla_ros.sim.world import HAND_HIGH, IMAGE_SIZE, MAX_STEP, MAX_STEPS, World


@pytest.fixture(scope='module')
def world():
    world = World()
    yield world
    world.close()


def run(world, goal):
    for _ in range(MAX_STEPS):
        if world.success(goal):
            return True
        world.step(expert(world.state, goal))
    return world.success(goal)


@pytest.mark.parametrize('kind', KINDS)
def test_expert_reaches_goals_of_every_kind(world, kind):
    reached = 0
    for seed in range(10):
        world.reset(seed)
        goals = [goal for goal in goals_for(world.things) if goal.kind == kind]
        reached += run(world, goals[seed % len(goals)])
    assert reached >= 9


def test_nothing_is_reached_without_moving(world):
    for seed in range(5):
        world.reset(seed)
        for _ in range(5):
            world.step([0, 0, 0, 0, 0, 0, 1])
        assert not any(world.success(g) for g in goals_for(world.things) if g.kind != 'reach')


def test_the_same_seed_is_the_same_world(world):
    pictures = []
    for _ in range(2):
        world.reset(7)
        goal = goals_for(world.things)[-1]
        for _ in range(10):
            world.step(expert(world.state, goal))
        pictures.append((world.image(), world.hand.position))
    np.testing.assert_array_equal(pictures[0][0], pictures[1][0])
    np.testing.assert_array_equal(pictures[0][1], pictures[1][1])
    world.reset(8)
    assert (world.image() != pictures[0][0]).any()


def test_image_shows_objects_where_they_project_to(world):
    world.reset(3)
    image = world.image()
    assert image.shape == (IMAGE_SIZE, IMAGE_SIZE, 3)
    assert image.dtype == np.uint8
    main = {'red': [0], 'green': [1], 'blue': [2], 'yellow': [0, 1]}
    seen = 0
    for thing in world.things:
        x, y = np.rint(world.project(thing.position)).astype(int)
        patch = image[y - 1 : y + 2, x - 1 : x + 2].reshape(-1, 3).mean(0)
        others = [c for c in range(3) if c not in main[thing.colour]]
        seen += patch[main[thing.colour]].min() > patch[others].max() + 30
    assert seen >= len(world.things) - 1  # the hand may hide one


def test_hand_moves_as_asked_and_stays_in_its_workspace(world):
    world.reset(0)
    before = world.hand.position
    world.step([0.02, -0.01, 0.01, 0, 0, 0, 1])
    np.testing.assert_allclose(world.hand.position - before, [0.02, -0.01, 0.01], atol=0.004)
    before = world.hand.position
    world.step([0, 0.5, 0, 0, 0, 0, 1])
    assert world.hand.position[1] - before[1] <= MAX_STEP + 0.004
    for _ in range(30):
        world.step([0, 0, 0.5, 0, 0, 0, 1])
    assert world.hand.position[2] <= HAND_HIGH[2] + 0.005


def test_hand_turns(world):
    world.reset(0)
    world.step([0, 0, 0, 0, 0, 0.3, 1])
    assert world.hand.yaw == pytest.approx(0.3, abs=0.05)


def test_gripper_opens_and_closes(world):
    world.reset(0)
    world.step([0, 0, 0, 0, 0, 0, 0])
    assert world.hand.opening < 0.1
    world.step([0, 0, 0, 0, 0, 0, 1])
    assert world.hand.opening > 0.9


@pytest.mark.parametrize('action', [[0.0] * 6, [np.nan] * 7, [[0.0] * 7]])
def test_what_is_no_action_is_refused(world, action):
    with pytest.raises(ValueError, match='seven finite numbers'):
        world.step(action)


def test_every_sentence_is_understood(world):
    rng = np.random.default_rng(0)
    said = set()
    for seed in range(6):
        world.reset(seed)
        for goal in goals_for(world.things):
            for _ in range(8):
                text = phrase(goal, rng)
                said.add(text)
                assert parse(text) == goal, text
    assert len(said) > 100


@pytest.mark.parametrize('text', ['', 'dance', 'push the red block', 'pick up the pink block'])
def test_other_sentences_are_refused_with_examples(text):
    with pytest.raises(InputError, match='move to the red block'):
        parse(text)


def test_parse_knows_kinds():
    assert parse('push the blue sphere to the left') == Goal('push', 'blue', 'ball', 'left')


def test_world_that_an_arm_moved_is_as_new_after_a_reset(world):
    world.reset(7)
    fresh = world.image()
    arm = Arm(world)
    away = arm.measured.moved(np.array([0.05, 0.05, 0.0]), np.array([0.0, 0.0, 0.5]))
    arm.go(away, SUBSTEPS)
    world.grip(0.0)
    arm.go(away, SUBSTEPS)
    assert arm.measured.distance(away)[0] < 2e-3
    assert world.hand.opening < 0.1

    world.reset(7)

    np.testing.assert_array_equal(world.image(), fresh)


def test_arm_goes_no_faster_and_no_farther_than_it_can(world):
    world.reset(7)
    arm = Arm(world)
    start = arm.measured
    arm.go(start.moved(np.array([0.0, 0.0, 10.0]), np.zeros(3)), 4)
    assert arm.commanded.distance(start)[0] == pytest.approx(MAX_SPEED * 4 * SUBSTEP)
    arm.go(start.moved(np.array([0.0, 0.0, 10.0]), np.zeros(3)), 10 * SUBSTEPS)
    np.testing.assert_allclose(arm.measured.position[2], REACH_HIGH[2], atol=2e-3)
