"""Recordings of single rows, for tests of data sets."""

from bag_writer import (
    act,
    ACTION,
    IMAGE,
    image,
    INSTRUCTION,
    JOINTS,
    joints,
    POSE,
    pose,
    text,
    write,
)
import numpy as np

from trt_openvla_ros.bags.lerobot.episodes import Episodes
from trt_openvla_ros.bags.lerobot.settings import BagToLeRobotSettings

BEGIN = 1_700_000_000 * 10**9
PUSH, LIFT = 'push the cup', 'lift the cup'
PIXELS = np.zeros((16, 16, 3), np.uint8)
DOWN = (1.0, 0.0, 0.0, 0.0)
HAND = {'pose_topic': POSE, 'action': 'motion'}


def at(seconds):
    return BEGIN + round(1e9 * seconds)


def said(seconds, words):
    return (INSTRUCTION, at(seconds), text(words))


def seen(seconds):
    return (IMAGE, at(seconds), image(PIXELS, at(seconds)))


def answered(seconds, number, instruction=PUSH, **values):
    """An image, and 30 ms later the action on it, whose x is its number."""
    step = [number, 0, 0, 0, 0, 0.1, 1]
    message = act(step, at(seconds), instruction, sequence=number, **values)
    return [seen(seconds), (ACTION, at(seconds + 0.03), message)]


def placed(seconds, x=0.0):
    return [
        (POSE, at(seconds), pose((x, 0, 0.1), DOWN, at(seconds))),
        (JOINTS, at(seconds), joints(at(seconds), finger=x)),
    ]


def episodes(tmp_path, messages, **values):
    bag = write(tmp_path / f'bag {len(list(tmp_path.iterdir()))}', messages)
    given = {'bags': (str(bag),), 'pose_topic': '', 'fps': 5}
    return Episodes(bag, BagToLeRobotSettings(**given | values))


def steps(*times):
    return [one for number, time in enumerate(times, 1) for one in answered(time, number)]
