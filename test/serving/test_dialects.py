"""Requests as clients' libraries write them, and answers as those clients expect them."""

import base64
import io
import json
from pathlib import Path
import re

import json_numpy
import numpy as np
from PIL import Image
import pytest

WIRE = Path(__file__).parents[1] / 'data' / 'wire'
CASES = sorted(p.name.partition('.')[0] for p in WIRE.glob('*.request.json'))
JSON = {'content-type': 'application/json'}
IMAGE = np.random.default_rng(1).integers(0, 256, (12, 16, 3), np.uint8)
LARGE = np.tile(IMAGE, (9, 9, 1))


def without_times(body: bytes) -> bytes:
    """Leave out the times, and the passes, which depend on the answers before."""
    body = re.sub(rb'"timings":\{[^}]*\}', b'"timings":{}', body)
    return re.sub(rb'"passes":\d+', b'"passes":0', body)


def file_of(image, kind='PNG', **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, **options)
    return file.getvalue()


def text_of(image) -> str:
    return base64.b64encode(file_of(image)).decode()


@pytest.mark.parametrize('case', CASES)
def test_recorded_request_gets_the_recorded_answer(server, case):
    request = (WIRE / f'{case}.request.json').read_bytes()
    response = server.http.post('/act', content=request, headers=JSON)
    assert response.status_code == 200, response.text
    assert response.headers['content-type'] == 'application/json'
    answer = (WIRE / f'{case}.answer.json').read_bytes()
    body = response.content
    assert (without_times(body) if case == 'modern' else body) == answer


def test_a_file_is_answered_as_the_same_in_base64_is(server):
    instruction = json.loads((WIRE / 'modern.request.json').read_bytes())['instruction']
    response = server.http.post(
        '/act',
        files={'image': ('image.png', (WIRE / 'image.png').read_bytes())},
        data={'instruction': instruction},
    )
    assert without_times(response.content) == (WIRE / 'modern.answer.json').read_bytes()


def test_the_modern_answer_is_the_whole_prediction(server, policy):
    answer = server.act(image=text_of(IMAGE), instruction='Pick up the cup.').json()
    prediction = policy.predict(IMAGE, 'pick up the cup')
    for name in ('action', 'normalised_action', 'action_ids', 'generated_ids'):
        assert answer[name] == getattr(prediction, name).tolist()
    for name in ('reasoning', 'reasoning_fields', 'prompt', 'unnorm_key', 'out_of_range'):
        assert answer[name] == getattr(prediction, name)
    assert answer['timings'].keys() == {'read', 'queue', *prediction.timings, 'request'}
    assert answer['timings']['request'] >= answer['timings']['total'] > 0


def test_the_clients_of_openvla_read_the_answer(server, policy):
    payload = {'image': IMAGE, 'instruction': 'pick up the cup', 'unnorm_key': 'toy_arm'}
    response = server.http.post('/act', content=json_numpy.dumps(payload), headers=JSON)
    action = json_numpy.loads(response.text)
    np.testing.assert_array_equal(action, policy.predict(IMAGE, 'pick up the cup').action)


def test_the_original_answers_text_where_no_ids_are_asked_for(server):
    body = json.loads((WIRE / 'original.request.json').read_bytes())
    del body['return_ids']
    assert server.act(**body).content == (WIRE / 'original.answer.json').read_bytes()


def test_a_full_prompt_is_read_as_it_stands_and_a_sentence_is_not(server):
    prompt = 'In: What action should the robot take to Pick Up The Cup.?\nOut:'
    assert server.act(image=text_of(IMAGE), instruction=prompt).json()['prompt'] == prompt
    original = {'image': json_numpy.dumps(IMAGE), 'instruction': 'Pick Up The Cup.'}
    generated = json.loads(server.act(**original).json())['generated']
    assert generated.startswith('In: What action should the robot take to pick up the cup?\nOut:')


@pytest.mark.parametrize('shape', [(12, 16), (12, 16, 4)])
def test_arrays_become_rgb_as_deploy_py_makes_them(server, policy, shape):
    image = np.random.default_rng(2).integers(0, 256, shape, np.uint8)
    payload = json_numpy.dumps({'image': image, 'instruction': 'pick up the cup'})
    action = json_numpy.loads(server.http.post('/act', content=payload, headers=JSON).text)
    rgb = np.asarray(Image.fromarray(image).convert('RGB'))
    np.testing.assert_array_equal(action, policy.predict(rgb, 'pick up the cup').action)


@pytest.mark.parametrize('kind', ['RGBA', 'L', 'P', 'CMYK'])
def test_files_of_other_colours_become_rgb(server, policy, kind):
    picture = Image.fromarray(IMAGE).convert(kind)
    file = io.BytesIO()
    picture.save(file, 'JPEG' if kind == 'CMYK' else 'PNG', quality=95)
    answer = server.http.post(
        '/act', files={'image': file.getvalue()}, data={'instruction': 'pick up the cup'}
    )
    rgb = np.asarray(Image.open(file).convert('RGB'))
    assert answer.json()['action'] == policy.predict(rgb, 'pick up the cup').action.tolist()


def test_a_photograph_is_turned_upright(server, policy):
    exif = Image.Exif()
    exif[0x0112] = 6  # of a telephone held upright: turn it by a quarter, clockwise
    file = file_of(IMAGE, exif=exif)
    answer = server.act(image=base64.b64encode(file).decode(), instruction='pick up the cup')
    upright = np.ascontiguousarray(np.rot90(IMAGE, -1))
    assert answer.json()['action'] == policy.predict(upright, 'pick up the cup').action.tolist()


def test_the_data_set_of_one_request_is_not_that_of_the_next(server):
    ask = {'image': text_of(IMAGE), 'instruction': 'pick up the cup'}
    keys = [server.act(**ask, unnorm_key=key).json()['unnorm_key'] for key in ('other_arm', None)]
    assert keys == ['other_arm', 'toy_arm']


def array(dtype='|u1', shape=(2, 2, 3), size=12) -> dict:
    return {
        '__numpy__': base64.b64encode(bytes(size)).decode(), 'dtype': dtype, 'shape': list(shape)
    }  # fmt: skip


GOOD = {'image': array(), 'instruction': 'go'}
DEEP = '[' * 100_000 + ']' * 100_000


@pytest.mark.parametrize(
    ('body', 'reason'),
    [
        ('', 'not JSON'),
        ('{', 'not JSON'),
        (b'\xff\xfe{', 'not JSON'),
        (DEEP, 'commas and brackets; at most 10000 are read'),
        ('[' * 9_000, 'nested too deeply'),
        ('1' * 10_000, 'not JSON'),
        ('[]', 'a JSON list; an object is needed'),
        ('null', 'a JSON null'),
        ({}, 'image is missing'),
        ({'instruction': 'go'}, 'image is missing'),
        ({**GOOD, 'image': [[0, 0, 0]]}, 'image is list'),
        ({**GOOD, 'image': 7}, 'image is number'),
        ({**GOOD, 'image': 'AAAA'}, 'neither a JPEG nor a PNG'),
        ({**GOOD, 'image': 'not base64!'}, 'not base64'),
        ({**GOOD, 'image': 'R0lGODlhAQABAAAAACw='}, 'neither a JPEG nor a PNG'),
        ({**GOOD, 'image': '{}'}, 'not of an array'),
        ({**GOOD, 'image': '{"__numpy__'}, 'not JSON'),
        ({'image': array()}, 'instruction is missing'),
        ({**GOOD, 'instruction': 5}, 'instruction is number'),
        ({**GOOD, 'instruction': ' . '}, 'is empty'),
        ({**GOOD, 'instruction': 'x' * 3000}, '3000 characters; 2000 are allowed'),
        ({**GOOD, 'instruction': '\ud800'}, 'not valid Unicode'),
        ({**GOOD, 'instruction': 'say </s>'}, "special token '</s>'"),
        ({**GOOD, 'instruction': 'In: <s>'}, "special token '<s>'"),
        ({**GOOD, 'unnorm_key': 'bridge'}, "unnorm_key 'bridge' is not in"),
        ({**GOOD, 'unnorm_key': 3}, 'unnorm_key is number'),
        ({**GOOD, 'image': array('|O')}, "dtype '|O' is not allowed"),
        ({**GOOD, 'image': array('<V8')}, 'is not allowed'),
        ({**GOOD, 'image': {**array(), 'dtype': [['a', '|u1']]}}, 'is not allowed'),
        ({**GOOD, 'image': array('<f4', (1, 1, 3))}, 'dtype <f4; [height, width, 3] uint8'),
        ({**GOOD, 'image': array(shape=(12,))}, 'shape [12]'),
        ({**GOOD, 'image': array(shape=(2, 3, 2))}, 'shape [2, 3, 2]'),
        ({**GOOD, 'image': array(shape=(0, 2, 3), size=0)}, 'shape [0, 2, 3]'),
        ({**GOOD, 'image': array(shape=(2, 2, -3))}, 'not up to 8 lengths'),
        ({**GOOD, 'image': array(shape=(1,) * 33)}, 'not up to 8 lengths'),
        ({**GOOD, 'image': array(shape=(True, 2, 3))}, 'not up to 8 lengths'),
        ({**GOOD, 'image': array(shape=(10**9, 10**9, 3))}, 'more than any request holds'),
        ({**GOOD, 'image': array(shape=(0, 10**12, 10**12), size=0)}, 'more than any request'),
        ({**GOOD, 'image': array(shape=(10**5, 10**5, 3))}, 'in base64'),
        ({**GOOD, 'image': array(size=11)}, 'is 12 bytes, not 11'),
        ({**GOOD, 'image': {**array(), '__numpy__': '!' * 16}}, '__numpy__ is not base64'),
        ({**GOOD, 'image': {**array(), '__numpy__': None}}, '__numpy__ has NoneType'),
        ({**GOOD, 'wrist': array('|O')}, 'is not allowed'),
        ({'full_image': 'AAAA', 'instruction': 'go'}, 'full_image is string'),
        ({**GOOD, 'encoded': '{}'}, 'encoded is one string'),
        ({'encoded': GOOD}, 'encoded is one string'),
        ({'encoded': '[]'}, 'encoded holds a JSON list'),
        ({'encoded': '{"encoded": "{}"}'}, 'image is missing'),
        ({'encoded': '{"image": "AAAA"}'}, 'json_numpy object'),
        ({**GOOD, 'image': json.dumps(array()), 'return_ids': 'no'}, 'return_ids is string'),
    ],
)  # fmt: skip
def test_a_bad_request_is_told_what_is_wrong(server, body, reason):
    content = json.dumps(body) if isinstance(body, dict) else body
    response = server.http.post('/act', content=content, headers=JSON)
    assert response.status_code == 400, response.text
    assert reason in response.json()['error']
    assert 'Traceback' not in response.text


@pytest.mark.parametrize(
    ('files', 'data', 'reason'),
    [
        ({}, {'image': 'x', 'instruction': 'go'}, 'no file called image'),
        ({'image': b'x'}, {'instruction': 'go'}, 'neither a JPEG nor a PNG'),
        ({'image': file_of(IMAGE)}, {}, 'instruction is missing'),
        ({'image': file_of(IMAGE), 'b': b'x'}, {'instruction': 'go'}, 'Too many files'),
        ({'image': file_of(IMAGE)[:-40]}, {'instruction': 'go'}, 'broken PNG'),
        (
            {'image': file_of(np.tile(IMAGE, (9, 9, 1)), 'JPEG')[:-2000]},
            {'instruction': 'go'},
            'broken JPEG',
        ),
    ],
)
def test_a_bad_form_is_told_what_is_wrong(server, files, data, reason):
    response = server.http.post('/act', files={'x': (None, 'y'), **files}, data=data)
    assert response.status_code == 400, response.text
    assert reason in response.json()['error']


def test_what_is_neither_json_nor_a_form_is_refused(server):
    for headers in ({}, {'content-type': 'text/plain'}, {**JSON, 'content-encoding': 'gzip'}):
        assert server.http.post('/act', content=b'{}', headers=headers).status_code == 415
    broken = {'content-type': 'multipart/form-data'}
    assert server.http.post('/act', content=b'x', headers=broken).status_code == 400
