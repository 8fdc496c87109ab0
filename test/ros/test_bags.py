"""Bags that real topics of the simulation wrote: a policy over them, and data sets of them."""

from itertools import pairwise
import json
from pathlib import Path
import subprocess

from ament_index_python.packages import get_package_prefix
from bag_recorder import record_run, TASKS
from bag_writer import STORAGES
import numpy as np
from pyarrow import parquet
import pytest
from rosbags.highlevel import AnyReader

from trt_openvla_ros.bags.lerobot.command import convert
from trt_openvla_ros.bags.lerobot.settings import BagToLeRobotSettings
from trt_openvla_ros.bags.video import count_frames
from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.evaluation.bag.run import evaluate
from trt_openvla_ros.evaluation.bag.settings import EvaluateBagSettings
from trt_openvla_ros.evaluation.models import shipped_model
from trt_openvla_ros.sim.scene import OPEN, SHUT

HAND = {
    'pose_topic': '/hand/pose',
    'gripper_joint': 'finger_left',
    'gripper_closed': SHUT,
    'gripper_open': OPEN,
}


@pytest.fixture(scope='module')
def bags(domain, tmp_path_factory):
    """A run of tiny_openvla in simulated time, in a bag of each storage."""
    return record_run(tmp_path_factory.mktemp('bags'), domain)


@pytest.fixture(scope='module')
def recorded(bags):
    """All messages of that run, by topic."""
    found = {}
    with AnyReader([bags / 'mcap']) as reader:
        for one, _, data in reader.messages():
            found.setdefault(one.topic, []).append(reader.deserialize(data, one.msgtype))
    return found


def stamp(message):
    return 10**9 * message.header.stamp.sec + message.header.stamp.nanosec


def settings(bag, out, **values):
    checkpoint = str(shipped_model('tiny_openvla'))
    given = {'device': 'cpu', 'video': False, 'checkpoint': checkpoint, **HAND, **values}
    return EvaluateBagSettings(bag=str(bag), out=str(out), **given)


def data_set(bag, folder, **values):
    out = str(folder / 'set')
    return BagToLeRobotSettings(bags=(str(bag),), out=out, fps=5, **HAND, **values)


def test_policy_repeats_the_recorded_actions_bit_by_bit(bags, recorded, tmp_path):
    facts = evaluate(settings(bags / 'mcap', tmp_path / 'out', video=True))
    assert facts['frames'] == len(recorded['/policy/action']) >= 8
    assert facts['identical'] == facts['gripper_agreement'] == 1.0
    assert all(row['max'] == 0.0 for row in facts['errors'].values())
    assert facts['errors']['translation']['unit'] == 'mm'
    assert facts['errors']['translation']['of_no_motion'] > 10
    assert facts['latency']['total']['p50_ms'] > 0
    written = json.loads((tmp_path / 'out' / 'report.json').read_text())
    assert written['errors'] == facts['errors']
    assert '100.0% of the actions are equal' in (tmp_path / 'out' / 'report.md').read_text()
    assert (tmp_path / 'out' / 'report.png').stat().st_size > 10_000
    assert count_frames(tmp_path / 'out' / 'video.mp4') == facts['frames']


def test_command_prints_the_report_or_a_sentence(bags, tmp_path):
    program = Path(get_package_prefix('trt_openvla_ros')) / 'lib/trt_openvla_ros/evaluate_bag'
    command = [program, '--bag', bags / 'sqlite3', '--out', tmp_path / 'out', '--device', 'cpu']
    command += ['--max-frames', '3', '--video', 'false', '--checkpoint']
    done = subprocess.run(
        [*command, shipped_model('tiny_openvla')], capture_output=True, text=True, check=True
    )
    assert '3 are compared' in done.stdout
    assert '100.0% of the actions are equal in every bit' in done.stdout
    refused = subprocess.run([*command, ''], capture_output=True, text=True)
    assert refused.returncode == 1
    assert 'evaluate_bag: parameter checkpoint is empty' in refused.stderr


def test_policy_is_near_the_motion_that_it_made(bags, tmp_path):
    facts = evaluate(settings(bags / 'mcap', tmp_path / 'out', compare='motion'))
    errors = facts['errors']['translation']
    # The hand follows its target to a few millimetres, of steps of some centimetres.
    assert facts['frames'] >= 6
    assert errors['mean'] < 4 < 20 < errors['of_no_motion']
    assert facts['gripper_agreement'] > 0.7


@pytest.mark.parametrize('rows', ['grid', 'steps'])
def test_data_set_has_a_row_for_each_step(bags, recorded, rows, tmp_path):
    done = convert(data_set(bags / 'sqlite3', tmp_path, rows=rows))
    actions = {stamp(message): message for message in recorded['/policy/action']}
    poses = {stamp(message): message.pose.position for message in recorded['/hand/pose']}
    table = parquet.read_table(tmp_path / 'set' / 'data/chunk-000/file-000.parquet').to_pylist()
    # Each step takes 0.2 s of simulated time, so the grid has each of them; but an image that the
    # policy was slow to answer is shown again, 1 ns later, and may be answered twice.
    out = done['left_out']
    twice = out.get('steps between two rows', 0)
    # Topics overtake each other where a scene begins: see test/lerobot/check_dataset.py.
    overtaken = ('images without an instruction', 'actions for another instruction')
    assert done['rows'] == len(table) >= 8
    assert 'actions without an image' not in out
    missing = len(actions) - twice - len(table)
    assert 0 <= missing <= min(sum(out.get(why, 0) for why in overtaken), len(TASKS))
    assert (done['episodes'], done['tasks']) == (len(TASKS), [text for _, text in TASKS])
    assert [row['index'] for row in table] == list(range(len(table)))
    for row in table:
        action, when = actions[row['observation.stamp']], row['observation.stamp']
        assert row['action'] == np.float32(action.action).tolist()
        assert done['tasks'][row['task_index']] == action.instruction
        assert row['timestamp'] == np.float32(row['frame_index'] / 5)
        place = [poses[when].x, poses[when].y, poses[when].z]
        assert row['observation.state'][:3] == np.float32(place).tolist()
        assert 0 <= row['observation.state'][6] <= 1
        assert row['action.held'] == 0


def test_motion_of_the_data_set_leads_from_state_to_state(bags, tmp_path):
    convert(data_set(bags / 'mcap', tmp_path, action='motion'))
    table = parquet.read_table(tmp_path / 'set' / 'data/chunk-000/file-000.parquet').to_pylist()
    for before, after in pairwise(table):
        if before['episode_index'] == after['episode_index']:
            state = np.array(before['observation.state']) + before['action']
            np.testing.assert_allclose(
                state[:6], after['observation.state'][:6], atol=1e-6, rtol=0
            )
            assert before['action'][6] == after['observation.state'][6]


@pytest.mark.parametrize('storage', STORAGES)
@pytest.mark.parametrize('share', [0.0, 0.3, 0.97])
def test_cut_bag_is_a_sentence_and_leaves_nothing(bags, storage, share, tmp_path):
    broken = tmp_path / 'broken'
    broken.mkdir()
    for file in (bags / storage).iterdir():
        data = file.read_bytes()
        (broken / file.name).write_bytes(
            data if file.suffix == '.yaml' else data[: int(share * len(data))]
        )
    with pytest.raises(ConfigError, match=r'bag .*broken cannot be read: .*ros2 bag reindex'):
        evaluate(settings(broken, tmp_path / 'out'))
    with pytest.raises(ConfigError, match=r'bag .*broken cannot be read: .*ros2 bag reindex'):
        convert(
            BagToLeRobotSettings(bags=(str(broken),), out=str(tmp_path / 'set'), fps=5, **HAND)
        )
    assert [path.name for path in tmp_path.iterdir()] == ['broken']
