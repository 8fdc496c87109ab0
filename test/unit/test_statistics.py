"""Statistics that people made by hand, or that normalise actions otherwise."""

import json
import logging
from pathlib import Path
import shutil

import pytest

from trt_openvla_ros.checkpoints.released import Checkpoint
from trt_openvla_ros.errors import ConfigError

TINY = Path(__file__).parents[2] / 'models' / 'tiny_openvla'
GOOD = {'q01': [0.0] * 6 + [1.0], 'q99': [1.0] * 6 + [0.0], 'mask': [True] * 6 + [False]}
UNUSABLE = {
    'min and max only': ({'min': [0] * 14, 'max': [1] * 14}, 'action.q01 is missing'),
    'no q99': ({'q01': [0.0]}, 'action.q99 is missing'),
    'null': ({**GOOD, 'q99': None}, 'action.q99 is null; '),
    'a text': ({**GOOD, 'q99': '1'}, 'action.q99 is "1"; '),
    'an object': ({**GOOD, 'q99': {}}, 'action.q99 is {}; '),
    'texts': ({**GOOD, 'q99': ['1'] * 7}, 'action.q99[0] is "1"; '),
    'nested': ({**GOOD, 'q99': [[1] * 7]}, 'action.q99[0] is [1, 1, 1'),
    'true': ({**GOOD, 'q01': [True] * 7}, 'action.q01[0] is true; '),
    'nan': ({**GOOD, 'q01': [0] * 6 + [float('nan')]}, 'action.q01[6] is NaN; '),
    'beyond floats': ({**GOOD, 'q99': [10**400] * 7}, 'action.q99[0] is 1000'),
    'empty': ({'q01': [], 'q99': []}, 'action.q01 is []; '),
    'endless': ({'q01': [0] * 10_000, 'q99': [1] * 10_000}, 'action.q01 is [0, 0'),
    'shorter': ({**GOOD, 'q99': [1] * 6}, 'the shapes (7,), (6,) and (7,)'),
    'short mask': ({**GOOD, 'mask': [True]}, 'the shapes (7,), (7,) and (1,)'),
    'empty mask': ({**GOOD, 'mask': []}, 'the shapes (7,), (7,) and (0,)'),
    'no mask': ({**GOOD, 'mask': None}, 'action.mask is null; '),
    'mask of texts': ({**GOOD, 'mask': ['true'] * 7}, 'action.mask[0] is "true"; '),
    'mask of numbers': ({**GOOD, 'mask': [1] * 7}, 'action.mask[0] is 1; '),
    'mask is true': ({**GOOD, 'mask': True}, 'action.mask is true; '),
    'reversed': ({**GOOD, 'q01': [2.0] * 7}, 'dimension 0 ranges from q01 = 2 to q99 = 1; '),
    'overflow': (
        {**GOOD, 'q01': [-1.5e308] * 7, 'q99': [1.5e308] * 7},
        'dimension 0 ranges from q01 = -1.5e+308 to q99 = 1.5e+308; ',
    ),
    'overflow behind the mask': (
        {'q01': [0, -1.7e308], 'q99': [1, 1.7e308], 'mask': [True, False]},
        'dimension 1 ranges from',
    ),
}


@pytest.fixture
def opened(tmp_path):
    """Open a checkpoint with these statistics, in a file of their own."""

    def make(content):
        path = shutil.copytree(TINY, tmp_path / 'a checkpoint')
        (path / 'dataset_statistics.json').write_text(json.dumps(content))
        return Checkpoint.open(path)

    return make


@pytest.mark.parametrize('kind', UNUSABLE)
def test_what_cannot_be_used_is_named_and_hides_no_other(opened, caplog, kind):
    action, said = UNUSABLE[kind]
    checkpoint = opened({'good': {'action': GOOD}, 'odd': {'action': action}})
    with caplog.at_level(logging.WARNING):
        assert checkpoint.find_statistics('good')[0] == 'good'
    assert 'dataset_statistics.json: odd: action' in caplog.text
    assert said in caplog.text
    with pytest.raises(ConfigError) as error:
        checkpoint.find_statistics('odd')
    assert 'dataset_statistics.json: odd: action' in str(error.value)
    for key in ('other', None):
        with pytest.raises(ConfigError) as error:
            checkpoint.find_statistics(key)
        good, odd = str(error.value).splitlines()[1:]
        assert good.startswith('  good: [0, 1] [0, 1]')
        assert odd.startswith('  odd: cannot be used, because action')


@pytest.mark.parametrize(
    ('content', 'said'),
    [
        ({}, 'dataset_statistics.json is empty'),
        ({'action': GOOD}, '"action" where the name of a data set belongs'),
        (GOOD, 'q01: no object with statistics'),
        ({'my_robot': GOOD}, 'my_robot: action is missing'),
        ({'my_robot': None}, 'my_robot: no object with statistics'),
        ({'action': 'x'}, 'action: no object with statistics'),
        ({'my_robot': {'action': []}}, 'my_robot: action is []; '),
        ({'\x1b[2J': None}, r"'\x1b[2J': no object with statistics"),
    ],
)
def test_a_file_without_its_levels_says_which_is_missing(opened, content, said):
    with pytest.raises(ConfigError) as error:
        opened(content).find_statistics(next(iter(content), None))
    assert said in str(error.value)
    assert 'dataset_statistics.json' in str(error.value)
