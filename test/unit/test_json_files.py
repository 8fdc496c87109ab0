import json
from typing import Literal

from hypothesis import given, strategies
from pydantic import Field
import pytest

from trt_openvla_ros.checkpoints.json_files import checked, read_object, Schema
from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.text_files import read_text

ANYTHING = strategies.recursive(
    strategies.none()
    | strategies.booleans()
    | strategies.integers()
    | strategies.floats()
    | strategies.text(),
    lambda inside: strategies.lists(inside) | strategies.dictionaries(strategies.text(), inside),
    max_leaves=8,
)


class Inside(Schema):
    number: float
    size: int | list[int] | None = None


class Whole(Schema):
    text: str = 'a'
    kind: Literal['a', 'c'] = 'a'
    flag: bool = True
    layers: int = Field(3, ge=1, le=1000)
    numbers: list[float] = Field([0.5], max_length=3)
    inside: Inside = Inside(number=1.0)
    rows: list[Inside] = []  # noqa: RUF012 - pydantic copies it


def read(**content):
    return checked(Whole, content, 'x/config.json', 'download it again')


@given(key=strategies.sampled_from(sorted(Whole.model_fields)), value=ANYTHING)
def test_any_value_is_of_its_type_or_refused_with_file_and_key(key, value):
    try:
        found = getattr(read(**{key: value}), key)
    except ConfigError as error:
        message = str(error)
    else:
        assert type(found) in (str, bool, int, float, list, Inside)
        return
    assert message.startswith(f'x/config.json: {key}')
    assert message.endswith('; download it again')
    assert len(message) < 400


@pytest.mark.parametrize(
    ('key', 'value', 'said'),
    [
        ('layers', True, 'layers is true; '),
        ('layers', 3.0, 'layers is 3.0; '),
        ('layers', '3', 'layers is "3"; '),
        ('layers', -1, 'layers is -1; input should be greater than or equal to 1'),
        ('layers', 1_000_000, 'layers is 1000000; input should be less than or equal to 1000'),
        ('layers', 10**400, 'layers is 1000'),
        ('layers', None, 'layers is null; '),
        ('flag', 1, 'flag is 1; input should be a valid boolean'),
        ('flag', 'false', 'flag is "false"; '),
        ('kind', 'b', "kind is \"b\"; input should be 'a' or 'c'"),
        ('numbers', [1, True], 'numbers[1] is true; '),
        ('numbers', [0, float('nan')], 'numbers[1] is NaN; input should be a finite number'),
        ('numbers', [float('inf')], 'numbers[0] is Infinity; input should be a finite number'),
        ('numbers', [10**400], 'numbers[0] is 1000'),
        ('numbers', [[1]], 'numbers[0] is [1]; '),
        ('numbers', [1] * 4, 'numbers is [1, 1, 1, 1]; list should have at most 3 items'),
        ('numbers', {'0': 1}, "numbers is {'0': 1}; "),
        ('inside', {}, 'inside.number is missing; '),
        ('inside', {'number': 0, 'size': 'x'}, 'inside.size is "x"; '),
        ('rows', [{'number': 0}, {'number': '0'}], 'rows[1].number is "0"; '),
    ],
)
def test_what_nearly_fits_is_refused_with_the_place_of_the_value(key, value, said):
    with pytest.raises(ConfigError) as raised:
        read(**{key: value})
    assert f'x/config.json: {said}' in str(raised.value)
    assert len(str(raised.value)) < 300


def test_names_out_of_a_file_cannot_write_into_a_terminal():
    class Closed(Whole, extra='forbid'):
        pass

    with pytest.raises(ConfigError) as raised:
        checked(Closed, {'\x1b[2J\n' + 'a' * 1000: 0}, 'x', 'y')
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        ('[' * 300_000, 'is not JSON: it is nested too deeply'),
        ('{"a":' * 300_000, 'is not JSON: it is nested too deeply'),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', 'is not JSON: it has the key "c" twice'),
        (r'{"\ud800": 1}', 'is not JSON: a text in it is not Unicode'),
        (r'{"a": ["\udfff"]}', 'is not JSON: a text in it is not Unicode'),
        ('{"a": ' + '9' * 5000 + '}', 'is not JSON'),
        ('', 'is not JSON'),
        ('null', 'holds a NoneType instead of an object'),
        ('{} {}', 'is not JSON'),
    ],
)
def test_what_is_no_object_is_refused_with_its_path(tmp_path, content, reason):
    path = tmp_path / 'config.json'
    path.write_text(content)
    with pytest.raises(ConfigError, match=reason) as raised:
        read_object(path, '', 'download it again')
    assert str(path) in str(raised.value)
    assert str(raised.value).endswith('; download it again')


def test_a_missing_file_and_a_directory_are_named(tmp_path):
    with pytest.raises(ConfigError, match='a is missing; nothing is here'):
        read_object(tmp_path / 'a', 'nothing is here', 'download it again')
    with pytest.raises(ConfigError, match='cannot be read: it is no file; download it again'):
        read_object(tmp_path, 'nothing is here', 'download it again')


ENCODINGS = ('utf-8', 'utf-8-sig', 'utf-16', 'utf-32')


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_text_in_every_utf_is_read(tmp_path, encoding):
    path = tmp_path / 'a.txt'
    path.write_bytes('pick up the côté 碗\r\nnow\r'.encode(encoding))
    assert read_text(path) == 'pick up the côté 碗\nnow\n'
    path.write_bytes(json.dumps({'a': 'é'}, ensure_ascii=False).encode(encoding))
    assert read_object(path, '', '')['a'] == 'é'


@pytest.mark.parametrize('encoding', ['latin-1', 'gbk', 'utf-16-le', 'utf-16-be', 'shift-jis'])
def test_text_in_another_encoding_is_refused_with_the_way_out(tmp_path, encoding):
    path = tmp_path / 'a.txt'
    path.write_bytes(('côté' if encoding == 'latin-1' else '碗 and 皿').encode(encoding))
    with pytest.raises(ConfigError, match=r'a\.txt is not .*; save it as UTF-8$'):
        read_text(path)


@pytest.mark.parametrize('data', [b'\xff\xfea', b'\xef\xbb\xbf\xff', b'a\0b', b'\xff' * 9])
def test_broken_text_is_refused(tmp_path, data):
    path = tmp_path / 'a.txt'
    path.write_bytes(data)
    with pytest.raises(ConfigError, match='save it as UTF-8'):
        read_text(path)


def test_a_file_too_large_for_text_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / 'config.json'
    with path.open('wb') as file:
        file.truncate(1 << 36)  # sparse
    with pytest.raises(ConfigError, match='more than'):
        read_object(path, '', '')
