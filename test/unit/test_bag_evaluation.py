"""A policy over bags that tests make: recorded actions, the figures, and going on."""

import json
from pathlib import Path
import sqlite3

from bag_writer import (
    ACTION,
    compressed,
    IMAGE,
    image,
    INSTRUCTION,
    STORAGES,
    text,
    TYPES,
    write,
    write_bag,
)
from evaluated_bag import BEGIN, LIFT, PERIOD, PICTURES, run_of, when
import numpy as np
import pytest

from trt_openvla_ros.bags import definitions
from trt_openvla_ros.bags.video import count_frames
from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.evaluation.bag.comparison import compare as figures
from trt_openvla_ros.evaluation.bag.progress import fingerprint, Progress
from trt_openvla_ros.robot.meaning import Meaning


def forget_definitions(bag):
    """Make a bag as Humble wrote them."""
    (file,) = bag.glob('*.db3')
    with sqlite3.connect(file) as database:
        database.execute('DROP TABLE message_definitions')
        database.execute('UPDATE schema SET schema_version = 3')
        database.execute("UPDATE topics SET type_description_hash = ''")


@pytest.mark.parametrize('storage', STORAGES)
def test_errors_are_in_millimetres_and_milliradians(compare, answers, storage):
    apart = np.array([0.1, 0, -0.2, 0, 0.01, 0, 0])
    facts = compare(run_of(answers - apart), storage)
    assert facts['frames'] == 6
    assert facts['identical'] == 0.0
    for name, size, unit in (
        ('x', 5, 'mm'),
        ('y', 0, 'mm'),
        ('z', 10, 'mm'),
        ('pitch', 5, 'mrad'),
    ):
        row = facts['errors'][name]
        assert row['unit'] == unit
        assert row['mean'] == pytest.approx(size, abs=1e-9)
    assert facts['errors']['x']['bias'] == pytest.approx(5)
    assert facts['errors']['z']['bias'] == pytest.approx(-10)
    assert facts['errors']['translation']['p95'] == pytest.approx(np.hypot(5, 10))
    assert facts['gripper_agreement'] == 1.0


@pytest.mark.parametrize(('rotation', 'size'), [('euler_xyz', 22), ('rotation_vector', 6261)])
def test_angles_on_both_sides_of_pi_are_near(rotation, size):
    result = {'predicted': [0, 0, 0, -6.26, 0, 0, 1], 'timings': {'total': 0.1}}
    result['wanted'] = [0, 0, 0, 6.262, 0, 0, 1]
    meaning = Meaning(translation_unit=1.0, rotation_unit=0.5, rotation=rotation)
    errors = figures([result], meaning)['errors']
    assert errors['roll']['max'] == pytest.approx(size, abs=0.5)
    assert errors['rotation']['max'] == pytest.approx(size, abs=0.5)


def test_numbers_whose_units_nobody_knows_are_called_units(compare, answers):
    facts = compare(run_of(answers), action_meanings='')
    assert {row['unit'] for row in facts['errors'].values()} == {'units'}
    assert facts['identical'] == 1.0
    assert 'gripper_agreement' not in facts


def test_compressed_images_are_read_as_the_node_reads_them(compare, answers):
    messages = [
        (f'{IMAGE}/compressed', when, compressed(PICTURES[(when - BEGIN) // PERIOD], when))
        if topic == IMAGE
        else (topic, when, message)
        for topic, when, message in run_of(answers)
    ]
    facts = compare(messages, image_topic=f'{IMAGE}/compressed')
    assert (facts['frames'], facts['identical']) == (6, 1.0)


def test_bag_without_definitions_is_read_by_those_of_the_package(compare, answers, tmp_path):
    bag = write(tmp_path / 'humble', run_of(answers), 'sqlite3')
    forget_definitions(bag)
    assert compare(None, bag=str(bag))['identical'] == 1.0


def test_bag_with_a_type_that_nobody_defines_is_no_interrupted_one(
    compare, answers, tmp_path, monkeypatch
):
    bag = write(tmp_path / 'humble', run_of(answers), 'sqlite3')
    forget_definitions(bag)
    monkeypatch.setattr(definitions, '_directory', lambda: tmp_path)
    with pytest.raises(ConfigError, match=r'no definition of \S+VlaAction, nor .* bag convert'):
        compare(None, bag=str(bag))


def test_bag_of_another_release_without_definitions_is_no_interrupted_one(compare, tmp_path):
    messages = run_of(np.zeros((1, 7)))
    sent = []
    for topic, received, one in messages:
        data = TYPES.serialize_cdr(one, one.__msgtype__)
        # Older ones ended earlier.
        sent.append((topic, one.__msgtype__, received, data[: 99 if topic == ACTION else None]))
    bag = write_bag(tmp_path / 'older', sent, 'sqlite3')
    forget_definitions(bag)
    with pytest.raises(ConfigError, match=r'that of this release does not fit .* bag convert'):
        compare(None, bag=str(bag))


def test_instruction_is_the_one_that_the_node_followed(compare, answers, fused):
    # The recorder heard the second one before the image, the node after it.
    messages = run_of(answers[:2])
    messages.insert(3, (INSTRUCTION, when(1) - 1, text(LIFT)))
    assert compare(messages)['identical'] == 1.0


def test_images_of_one_stamp_are_left_out(compare, answers):
    # As where a camera stamps with a clock that stands: which image was answered is not known.
    stamps = [when(0), when(1), when(1), when(3), when(4), when(5)]
    facts = compare(run_of(answers, stamps))
    assert facts['frames'] == 4
    assert facts['left_out']['several of one stamp'] == 2
    assert facts['identical'] == 1.0


def test_actions_on_images_that_the_recorder_lost_are_counted(compare, answers):
    lost = [one for one in run_of(answers) if one[:2] not in ((IMAGE, when(0)), (IMAGE, when(3)))]
    facts = compare(lost)
    assert (facts['frames'], facts['images'], facts['identical']) == (4, 4, 1.0)
    assert facts['actions_without_image'] == 2
    report = (compare.folder / 'out' / 'report.md').read_text()
    assert '2 actions have no image in the bag.' in report
    assert compare(run_of(answers), restart=True)['actions_without_image'] == 0


def test_images_of_one_time_of_recording_are_told_apart(compare, answers):
    messages = [(topic, BEGIN, message) for topic, _, message in run_of(answers)]
    facts = compare(messages)
    assert (facts['frames'], facts['identical']) == (6, 1.0)


def test_what_the_policy_refuses_is_counted(compare, answers):
    facts = compare(run_of(answers[:2], instruction='In: What is this? Out:' + 'x' * 3000))
    assert facts['refused'] == facts['frames'] == 2
    assert '2,000' in facts['refusals'][0] or '2000' in facts['refusals'][0]
    assert 'errors' not in facts


@pytest.mark.parametrize(
    ('messages', 'values', 'said'),
    [
        ([], {}, r"image_topic '/camera/image_raw' is missing"),
        (run_of(np.zeros((1, 7)))[:2], {}, r"action_topic '/policy/action' is missing .* none$"),
        (run_of(np.zeros((1, 7))), {'image_topic': INSTRUCTION}, r'is std_msgs/msg/String in'),
        (run_of(np.zeros((1, 7))), {'unnorm_key': 'other'}, r"'other', but .* of 'toy_arm'"),
        (run_of(np.zeros((1, 7))), {'compare': 'motion'}, r"pose_topic '/pose' is missing"),
        (
            run_of(np.zeros((2, 7)), stamps=[0, 0]),
            {},
            r'can be matched .* 2 actions, 2 images, 2 of them .*; --compare motion',
        ),
        (run_of(np.zeros((1, 7))), {'bag': ''}, r'bag is empty'),
        (run_of(np.zeros((1, 7))), {'bag': '/nowhere'}, r'there is no bag /nowhere'),
    ],
)
def test_bags_and_settings_that_do_not_fit_are_sentences(compare, messages, values, said):
    with pytest.raises(ConfigError, match=said):
        compare(messages, **values)


def test_foreign_type_of_an_action_is_a_sentence(compare, answers):
    messages = [(t, w, text('x') if t == ACTION else m) for t, w, m in run_of(answers)]
    with pytest.raises(ConfigError, match=r"'/policy/action' is std_msgs/msg/String in the bag"):
        compare(messages)


def test_interrupted_run_goes_on(compare, bag_policy, answers, tmp_path):
    bag = str(write(tmp_path / 'one bag', run_of(answers)))
    bag_policy.last = 4
    with pytest.raises(KeyboardInterrupt):
        compare(None, bag=bag)
    file = tmp_path / 'out' / 'frames.jsonl'
    assert len(file.read_text().splitlines()) == 4  # the configuration, and three images
    with file.open('a') as stream:
        stream.write('{"number": 3, "pred')  # what a crash leaves of a line
    facts = compare(None, bag=bag)
    assert bag_policy.calls == 7
    assert (facts['frames'], facts['identical']) == (6, 1.0)
    assert len(file.read_text().splitlines()) == 7
    compare(None, bag=bag, video=True)  # all is there, and the video changes no number
    assert bag_policy.calls == 7
    with pytest.raises(
        ConfigError, match=r'results of other settings.* drop them by --restart true'
    ):
        compare(None, bag=bag, max_pixels=10_000)
    compare(None, bag=bag, max_pixels=10_000, restart=True)
    assert bag_policy.calls == 13


def test_two_runs_do_not_write_into_one_directory(tmp_path):
    def begin():
        return Progress.open(tmp_path / 'out', 1, False)

    with begin(), pytest.raises(ConfigError, match='another evaluate_bag writes to'):
        begin().__enter__()
    (tmp_path / 'out' / 'frames.jsonl').write_text('hello\n')
    with pytest.raises(ConfigError, match=r'is not by evaluate_bag .*; .* set --restart true'):
        begin().__enter__()


def test_fewer_images_are_evenly_spread(compare, answers, tmp_path):
    facts = compare(run_of(answers), max_frames=3)
    results = [json.loads(line) for line in (tmp_path / 'out/frames.jsonl').open()][1:]
    assert [result['number'] for result in results] == [0, 2, 5]
    assert facts['left_out']['beyond max_frames'] == 3


@pytest.mark.parametrize(
    'name', ['frames.jsonl', 'report.part.json', 'report.part.md', 'video.part.mp4']
)
def test_full_disk_is_a_sentence_with_a_way_out(compare, answers, tmp_path, name):
    out = tmp_path / 'out'
    out.mkdir()
    (out / name).symlink_to('/dev/full')
    with pytest.raises(ConfigError, match=r'\S+ cannot be written: .*choose another out'):
        compare(run_of(answers), video=True)
    assert not [path for path in out.iterdir() if '.part' in path.name]
    (out / name).unlink(missing_ok=True)
    compare(None, bag=str(tmp_path / 'bag 1'), video=True)
    found = {path.name for path in out.iterdir()}
    assert found == {
        '.lock',
        'frames.jsonl',
        'report.json',
        'report.md',
        'report.png',
        'video.mp4',
    }


def test_restart_drops_the_report_too(compare, bag_policy, answers, tmp_path):
    compare(run_of(answers), video=True)
    bag_policy.last = bag_policy.calls + 2
    with pytest.raises(KeyboardInterrupt):
        compare(None, bag=str(tmp_path / 'bag 1'), restart=True)
    left = {path.name for path in (tmp_path / 'out').iterdir()}
    assert left == {'.lock', 'frames.jsonl'}


@pytest.mark.parametrize('below', ['', 'report'])
def test_run_goes_on_in_the_directory_of_its_bag(
    compare, bag_policy, answers, tmp_path, monkeypatch, below
):
    bag = write(tmp_path / 'one bag', run_of(answers))
    bag_policy.last = 4
    with pytest.raises(KeyboardInterrupt):
        compare(None, bag=str(bag), out=str(bag / below))
    (bag / 'notes.txt').write_text('the cup was red')
    assert compare(None, bag=str(bag), out=str(bag / below))['frames'] == 6
    assert bag_policy.calls == 7
    monkeypatch.chdir(tmp_path)
    before = fingerprint(tmp_path, Path('out', below))
    Path('out', below).mkdir(parents=True)
    Path('out', below, 'frames.jsonl').touch()
    assert fingerprint(tmp_path, Path('out', below)) == before


def test_image_that_is_none_is_counted_and_left_out_of_the_video(compare, answers, tmp_path):
    messages = run_of(answers)
    for topic, received, message in messages:
        if topic == IMAGE and received == when(3):
            message.data = message.data[:50]
    facts = compare(messages, video=True)
    assert (facts['frames'], facts['refused']) == (6, 1)
    assert f'image 3 of {IMAGE}, at 0.600 s of' in facts['refusals'][0]
    assert count_frames(tmp_path / 'out' / 'video.mp4') == 5
    for topic, _, message in messages:
        if topic == IMAGE:
            message.data = message.data[:50]
    with pytest.raises(ConfigError, match=r'no image is left .* set image_topic to another'):
        compare(messages, video=True, restart=True)


def test_video_has_images_of_every_size(compare, answers, tmp_path):
    messages = [
        (t, w, image(PICTURES[3].repeat(2, axis=0), w) if (t, w) == (IMAGE, when(3)) else m)
        for t, w, m in run_of(answers)
    ]
    assert compare(messages, video=True)['frames'] == 6
    assert count_frames(tmp_path / 'out' / 'video.mp4') == 6
