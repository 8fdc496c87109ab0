"""Files of a data set of LeRobot; tools/test_lerobot.sh loads one with LeRobot itself."""

import json

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
import pandas as pd
from pyarrow import parquet
import pytest

from trt_openvla_ros.bags.lerobot import command, writer
from trt_openvla_ros.bags.lerobot.command import convert
from trt_openvla_ros.bags.lerobot.settings import BagToLeRobotSettings
from trt_openvla_ros.bags.lerobot.statistics import aggregate, ImageStatistics, of_rows, sampled
from trt_openvla_ros.errors import ConfigError, InputError

BEGIN, PERIOD = 1_700_000_000 * 10**9, 200_000_000
COLOURS = np.random.default_rng(3).integers(0, 256, (8, 3), np.uint8)


def run_of(instruction, count, size=(48, 64), start=0, **values):
    """Plain images of different colours, each with its action."""
    messages = [(INSTRUCTION, BEGIN - 1, text(instruction))]
    for index in range(count):
        when = BEGIN + PERIOD * index
        pixels = np.broadcast_to(COLOURS[start + index], (*size, 3))
        messages.append((IMAGE, when, image(pixels, when)))
        answer = act(np.arange(7) + index, when, instruction, **values)
        messages.append((ACTION, when + 1, answer))
    return messages


@pytest.fixture
def converted(tmp_path):
    """Convert runs, each in a bag of its own; give the facts."""

    def made(*runs, folder='', **values):
        (tmp_path / folder).mkdir(exist_ok=True)
        bags = [
            str(write(tmp_path / folder / f'bag {number}', run, ('mcap', 'sqlite3')[number % 2]))
            for number, run in enumerate(runs)
        ]
        given = {'pose_topic': '', 'fps': 5, 'out': str(tmp_path / 'set'), **values}
        return convert(BagToLeRobotSettings(bags=tuple(bags), **given))

    return made


def decoded(path):
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec.name, stream.pix_fmt) == ('h264', 'yuv420p')
        return [
            (float(frame.pts * frame.time_base), frame.to_ndarray(format='rgb24'))
            for frame in container.decode(stream)
        ]


def test_several_bags_become_several_episodes(converted, tmp_path):
    done = converted(run_of('push', 3), run_of('lift', 2, start=3), run_of('push', 2, start=5))
    assert (done['episodes'], done['rows'], done['tasks']) == (3, 7, ['push', 'lift'])
    root = tmp_path / 'set'
    info = json.loads((root / 'meta' / 'info.json').read_text())
    assert (info['total_episodes'], info['total_frames'], info['total_tasks']) == (3, 7, 2)
    assert (info['fps'], info['splits']) == (5, {'train': '0:3'})
    episodes = parquet.read_table(root / 'meta/episodes/chunk-000/file-000.parquet').to_pylist()
    ranges = [(one['dataset_from_index'], one['dataset_to_index']) for one in episodes]
    assert ranges == [(0, 3), (3, 5), (5, 7)]
    at = 'videos/observation.images.main'
    assert [one[f'{at}/from_timestamp'] for one in episodes] == [0, 0.6, 1.0]
    assert [one['tasks'] for one in episodes] == [['push'], ['lift'], ['push']]
    tasks = pd.read_parquet(root / 'meta' / 'tasks.parquet')
    assert tasks.iloc[1].name == 'lift'
    table = parquet.read_table(root / 'data/chunk-000/file-000.parquet').to_pylist()
    assert [row['task_index'] for row in table] == [0, 0, 0, 1, 1, 0, 0]
    assert [row['frame_index'] for row in table] == [0, 1, 2, 0, 1, 0, 1]
    assert table[4]['action'] == [1, 2, 3, 4, 5, 6, 7]
    frames = decoded(root / at / 'chunk-000' / 'file-000.mp4')
    for number, (seconds, pixels) in enumerate(frames):
        assert seconds == pytest.approx(number / 5, abs=1e-6)
        # The codec keeps plain colours within a few steps of 255.
        np.testing.assert_allclose(pixels.mean(axis=(0, 1)), COLOURS[number], atol=4)
    assert len(frames) == 7


def test_files_that_are_full_are_followed_by_others(converted, tmp_path, monkeypatch):
    monkeypatch.setattr(writer, 'DATA_MB', 1e-9)
    monkeypatch.setattr(writer, 'VIDEO_MB', 0)
    converted(run_of('push', 3), run_of('lift', 2, start=3))
    root = tmp_path / 'set'
    episodes = parquet.read_table(root / 'meta/episodes/chunk-000/file-000.parquet').to_pylist()
    at = 'videos/observation.images.main'
    assert [one['data/file_index'] for one in episodes] == [0, 1]
    assert [one[f'{at}/file_index'] for one in episodes] == [0, 1]
    assert [one[f'{at}/from_timestamp'] for one in episodes] == [0, 0]
    second = decoded(root / at / 'chunk-000' / 'file-001.mp4')
    assert len(second) == 2
    assert parquet.read_table(root / 'data/chunk-000/file-001.parquet')['index'].to_pylist() == [
        3,
        4,
    ]


def test_odd_edges_are_left_out(converted, tmp_path):
    converted(run_of('push', 2, size=(49, 65)))
    info = json.loads((tmp_path / 'set/meta/info.json').read_text())
    assert info['features']['observation.images.main']['shape'] == [48, 64, 3]


def test_conversion_that_fails_leaves_nothing(converted, tmp_path, monkeypatch):
    with pytest.raises(InputError, match='an image of 32x32 follows those of 64x48'):
        converted(run_of('push', 3), run_of('lift', 2, size=(32, 32)))
    assert [path.name for path in tmp_path.iterdir()] == ['bag 0', 'bag 1']

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(command.DataSetWriter, 'add', interrupt)
    bags = (str(tmp_path / 'bag 0'),)
    out = str(tmp_path / 'set')
    settings = BagToLeRobotSettings(bags=bags, pose_topic='', fps=5, out=out)
    with pytest.raises(KeyboardInterrupt):
        convert(settings)
    assert [path.name for path in tmp_path.iterdir()] == ['bag 0', 'bag 1']


def test_data_sets_and_settings_that_do_not_fit_are_sentences(converted, tmp_path):
    with pytest.raises(ConfigError, match='bags or out is empty'):
        convert(BagToLeRobotSettings())
    with pytest.raises(ConfigError, match=r'no .* bags; left out: 1 episodes of too few rows.*'):
        converted(run_of('push', 1))
    two = [run_of('push', 2, unnorm_key=key) for key in ('toy_arm', 'droid')]
    with pytest.raises(ConfigError, match=r'of several data sets: droid, toy_arm'):
        converted(*two, folder='apart')
    (tmp_path / 'set').mkdir()
    with pytest.raises(ConfigError, match=r'set exists; choose another out'):
        convert(BagToLeRobotSettings(bags=(str(tmp_path / 'bag 0'),), out=str(tmp_path / 'set')))


@pytest.mark.parametrize('camera', ['', 'a/b', '..', 'a.b'])
def test_name_of_a_camera_is_one_of_a_directory(converted, camera):
    with pytest.raises(ConfigError, match=rf'camera is {camera!r}; letters, digits'):
        converted(run_of('push', 2), camera=camera)


def test_stamps_that_stand_still_are_named(converted):
    messages = run_of('push', 4)
    for topic, _, message in messages:
        if topic == IMAGE:
            message.header.stamp.sec = message.header.stamp.nanosec = 0
    messages += [(POSE, BEGIN, pose((0, 0, 0), (0, 0, 0, 1), BEGIN))]
    messages += [(JOINTS, BEGIN, joints(BEGIN, finger=0))]
    with pytest.raises(ConfigError, match=r'of different clocks; set clock to received$'):
        converted(messages, action='motion', pose_topic=POSE)


@pytest.mark.parametrize('size', [(1, 48), (48, 1)])
def test_images_of_one_pixel_are_refused(converted, size):
    with pytest.raises(InputError, match=f'an image of {size[1]}x{size[0]} is too small'):
        converted(run_of('push', 2, size=size))


def test_image_that_is_none_is_named(converted):
    messages = run_of('push', 3)
    messages[3][2].data = messages[3][2].data[:10]
    said = rf'image 1 of {IMAGE}, at 0\.200 s of \S+ 0: .*; leave that bag out'
    with pytest.raises(ConfigError, match=said):
        converted(messages)


def test_statistics_are_numpys():
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=(count, 3)).astype(np.float32) for count in (40, 60)]
    found = aggregate([of_rows(part) for part in parts])
    whole = np.concatenate(parts).astype(float)
    for name in ('min', 'max', 'mean', 'std'):
        np.testing.assert_allclose(found[name], getattr(whole, name)(axis=0), rtol=1e-6)
    assert found['count'].tolist() == [100]
    assert of_rows(np.arange(101)[:, None])['q90'] == [90]
    images = rng.integers(0, 256, (5, 20, 30, 3), np.uint8)
    statistics = ImageStatistics()
    for one in images:
        statistics.add(one)
    shown = statistics.result()
    for name in ('min', 'max', 'mean', 'std'):
        wanted = getattr(images / 255, name)(axis=(0, 1, 2))
        np.testing.assert_allclose(shown[name][:, 0, 0], wanted, rtol=1e-9)
    quantile = np.quantile(images / 255, 0.1, axis=(0, 1, 2), method='inverted_cdf')
    np.testing.assert_allclose(shown['q10'][:, 0, 0], quantile)
    assert [len(sampled(count)) for count in (7, 300, 2000)] == [7, 100, 299]
