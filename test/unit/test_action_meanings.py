"""What the numbers of actions mean: the table, and files over it."""

from pages import blocks
import pytest

from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.robot.meaning import find_meaning, Meaning, read_meanings, TABLE

# The data sets of openvla-7b: its training mixture oxe_magic_soup_plus_minus.
OPENVLA_7B = [
    'austin_buds_dataset_converted_externally_to_rlds',
    'austin_sailor_dataset_converted_externally_to_rlds',
    'austin_sirius_dataset_converted_externally_to_rlds',
    'bc_z',
    'berkeley_autolab_ur5',
    'berkeley_cable_routing',
    'berkeley_fanuc_manipulation',
    'bridge_orig',
    'cmu_stretch',
    'dlr_edan_shared_control_converted_externally_to_rlds',
    'dobbe',
    'fmb_dataset',
    'fractal20220817_data',
    'furniture_bench_dataset_converted_externally_to_rlds',
    'iamlab_cmu_pickup_insert_converted_externally_to_rlds',
    'jaco_play',
    'kuka',
    'nyu_franka_play_dataset_converted_externally_to_rlds',
    'roboturk',
    'stanford_hydra_dataset_converted_externally_to_rlds',
    'taco_play',
    'toto',
    'ucsd_kitchen_dataset_converted_externally_to_rlds',
    'utaustin_mutex',
    'viola',
]


def test_table_has_every_released_key_and_where_it_is_from():
    meanings = read_meanings()
    suites = [f'libero_{s}{n}' for s in ('spatial', 'object', 'goal', '10', '90') for n in NOOPS]

    assert {*OPENVLA_7B, *suites, 'bridge_oxe', 'droid', 'tabletop_sim'} <= meanings.keys()
    assert all(meaning.source for meaning in meanings.values())


NOOPS = ('', '_no_noops')


@pytest.mark.parametrize(
    ('key', 'units', 'rotation', 'reference', 'rate'),
    [
        ('bridge_orig', (1.0, 1.0), 'euler_xyz', 'bridge', 5.0),
        ('libero_10_no_noops', (0.05, 0.5), 'rotation_vector', 'measured', 20.0),
        ('droid', (0.075, 0.15), 'euler_xyz', 'measured', 15.0),
        ('tabletop_sim', (1.0, 1.0), 'euler_xyz', 'target', 5.0),
        ('kuka', (0.0, 0.0), 'unknown', 'unknown', 10.0),
        ('of nobody', (0.0, 0.0), 'unknown', 'unknown', 0.0),
    ],
)
def test_rows(key, units, rotation, reference, rate):
    meaning = find_meaning(read_meanings(), key)

    assert (meaning.translation_unit, meaning.rotation_unit) == units
    assert (meaning.rotation, meaning.reference) == (rotation, reference)
    assert meaning.control_rate == rate
    assert meaning.has_units == (units[0] > 0)


def test_file_adds_keys_and_overrides_fields(tmp_path):
    file = tmp_path / 'mine.yaml'
    file.write_text(
        'bridge_orig: {control_rate: 4}\nmine: {translation_unit: 1, source: my robot}\n'
    )

    meanings = read_meanings(file)

    before = read_meanings()['bridge_orig']
    assert meanings['bridge_orig'].control_rate == 4.0
    assert meanings['bridge_orig'].reference == before.reference
    assert meanings['bridge_orig'].source == str(file)
    assert meanings['mine'] == Meaning(translation_unit=1.0, source='my robot')
    assert meanings['droid'] == read_meanings()['droid']


@pytest.mark.parametrize(
    ('text', 'reason'),
    [
        ('mine: {gripper: ajar}', "mine: gripper is 'ajar'; one of 'open'"),
        ('mine: {rotation_unit: -1}', 'mine: rotation_unit is -1.0; a number from 0 to 10'),
        ('mine: {translation_unit: .nan}', 'mine: translation_unit is nan'),
        ('mine: {control_rate: "5"}', "mine: control_rate is '5'"),
        ('mine: {speed: 1}', "mine: unknown field 'speed'; known: translation_unit"),
        ('mine: 5', 'mine is 5; an unnorm_key with fields is needed'),
        ('mine: {}', 'an unnorm_key with fields is needed'),
        ('5: {gripper: open}', 'an unnorm_key with fields is needed'),
        ('- mine', f'has no rows; it is like {TABLE}'),
        ('', 'has no rows'),
        ('mine: [', 'is not YAML'),
    ],
)
def test_errors_name_file_key_field_and_value(tmp_path, text, reason):
    file = tmp_path / 'mine.yaml'
    file.write_text(text)

    with pytest.raises(ConfigError) as caught:
        read_meanings(file)

    assert str(caught.value).startswith(str(file))
    assert reason in str(caught.value)


def test_missing_file_is_named():
    with pytest.raises(ConfigError, match=r'nowhere\.yaml cannot be read'):
        read_meanings('/nowhere.yaml')


def test_example_of_the_page_is_read(tmp_path):
    (example,) = [block for block in blocks('yaml') if block.page.name == 'actions.md']
    file = tmp_path / 'mine.yaml'
    file.write_text(example.code)

    meaning = read_meanings(file)['my_robot']

    assert meaning.has_units
    assert 'unknown' not in (meaning.rotation, meaning.reference, meaning.frame, meaning.gripper)
