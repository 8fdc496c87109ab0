"""Checks, with LeRobot itself, of a data set made from two bags of one run of the simulation.

tools/test_lerobot.sh makes it and runs this, in an environment of LeRobot's own; DATASET and BAG
say where they are.
"""

import os
from pathlib import Path

from lerobot.datasets.compute_stats import aggregate_stats, get_feature_stats
from lerobot.datasets.lerobot_dataset import LeRobotDataset
import numpy as np
import pytest
from rosbags.highlevel import AnyReader
import torch

FPS = 5
KEY = 'observation.images.main'


@pytest.fixture(scope='module')
def dataset():
    return LeRobotDataset('local/simulation', root=os.environ['DATASET'])


@pytest.fixture(scope='module')
def recorded():
    """Images [H, W, 3], and actions on them, by stamp [ns].

    Topics overtake each other: an image may be recorded before its instruction, and an action on
    an image of the next scene may still follow the last one. Neither is a row.
    """
    images, actions, said, tasks = {}, {}, '', {}
    with AnyReader([Path(os.environ['BAG'])]) as reader:
        for one, _, data in reader.messages():
            if one.topic not in ('/camera/image_raw', '/policy/action', '/instruction'):
                continue
            message = reader.deserialize(data, one.msgtype)
            if one.topic == '/instruction':
                said = message.data
                continue
            stamp = 10**9 * message.header.stamp.sec + message.header.stamp.nanosec
            if one.topic == '/policy/action':
                actions[stamp] = message
            else:
                tasks[stamp] = said
                images[stamp] = message.data.reshape(message.height, message.width, 3)
    assert actions.keys() <= tasks.keys()  # the recorder loses no image
    kept = {s: action for s, action in actions.items() if tasks[s] == action.instruction}
    assert len(kept) >= len(actions) - 2  # one for each scene
    return images, kept


def test_every_row_is_that_of_the_bag(dataset, recorded):
    images, actions = recorded
    assert len(dataset) == 2 * len(actions)  # both bags hold the same run
    assert (dataset.num_episodes, dataset.fps) == (4, FPS)
    before = None
    for number in range(len(dataset)):
        row = dataset[number]  # its frame is within LeRobot's tolerance of 0.1 ms, or this raises
        stamp = int(row['observation.stamp'])
        action = actions[stamp]
        apart = row[KEY].permute(1, 2, 0).numpy() - images[stamp] / 255
        assert np.abs(apart).mean() < 0.02
        assert np.sqrt((apart**2).mean()) < 0.04
        np.testing.assert_array_equal(row['action'], np.float32(action.action))
        assert row['task'] == action.instruction
        assert float(row['timestamp']) == pytest.approx(int(row['frame_index']) / FPS)
        begins = before is None or int(row['episode_index']) != int(before['episode_index'])
        assert (int(row['frame_index']) == 0) == begins
        before = row


def test_rows_around_a_row_and_batches(dataset):
    times = {KEY: [-1 / FPS, 0.0], 'action': [0.0, 1 / FPS], 'observation.state': [0.0]}
    around = LeRobotDataset('local/simulation', root=os.environ['DATASET'], delta_timestamps=times)
    second = around[1]
    assert second[KEY].shape == (2, 3, 256, 256)
    torch.testing.assert_close(second[KEY][0], dataset[0][KEY])
    torch.testing.assert_close(second['action'][1], dataset[2]['action'])
    (batch,) = torch.utils.data.DataLoader(dataset, batch_size=len(dataset))
    assert batch['action'].shape == (len(dataset), 7)
    some = LeRobotDataset('local/simulation', root=os.environ['DATASET'], episodes=[1, 3])
    assert {int(row['episode_index']) for row in some} == {1, 3}


def test_statistics_are_those_of_lerobot(dataset, recorded):
    images, _ = recorded
    columns = dataset.hf_dataset.with_format('numpy')[:]
    episodes = columns['episode_index']
    by_episode = []
    for episode in range(dataset.num_episodes):
        mine = {}
        for key, values in columns.items():
            # int64 stamps would overflow in LeRobot's squares.
            some = values[episodes == episode].astype(np.float64)
            mine[key] = get_feature_stats(some, axis=0, keepdims=some.ndim == 1)
        stamps = columns['observation.stamp'][episodes == episode]
        pixels = np.stack([images[int(stamp)] for stamp in stamps]).transpose(0, 3, 1, 2)
        # As floats: LeRobot 0.4 squares uint8 as such, and so its deviations are wrong.
        shown = get_feature_stats(pixels / 255.0, axis=(0, 2, 3), keepdims=True)
        mine[KEY] = {k: v if k == 'count' else np.squeeze(v, axis=0) for k, v in shown.items()}
        by_episode.append(mine)
    wanted = aggregate_stats(by_episode)
    assert dataset.meta.stats.keys() == wanted.keys()
    for key, kinds in wanted.items():
        assert dataset.meta.stats[key].keys() == kinds.keys()
        span = np.max(kinds['max'] - kinds['min'])
        for kind, value in kinds.items():
            found = dataset.meta.stats[key][kind]
            assert found.shape == value.shape, (key, kind)
            # Of quantiles LeRobot knows the bin, of 5,000.
            near = span / 2500 if kind.startswith('q') else 1e-6 * max(span, 1e-9)
            scale = 1e-9 * (1 + np.abs(value).max())
            if key != 'observation.stamp' or kind != 'std':
                np.testing.assert_allclose(found, value, rtol=0, atol=near + scale, err_msg=key)


def test_tasks_and_description(dataset):
    assert list(dataset.meta.tasks.index) == [
        'reach the green sphere',
        'push the blue can forward',
    ]
    assert dataset.meta.camera_keys == [KEY]
    assert dataset.meta.names['action'] == ['x', 'y', 'z', 'roll', 'pitch', 'yaw', 'gripper']
    assert dataset.meta.shapes[KEY] == (256, 256, 3)
