"""Give a server inputs that no client would send; it must answer each with a reason.

    python test/support/fuzz_serving.py --inputs 100000 --json docs/benchmarks/fuzz.json

What is looked for: an answer that is neither an action nor a 4xx with a reason, a traceback, an
exception of the parser that is no refusal, and memory that grows.
"""

from __future__ import annotations

import argparse
import base64
from collections import Counter
import io
import json
import math
from pathlib import Path
import resource
import time
from typing import Any

from hypothesis import given, HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
import msgpack
import numpy as np
from PIL import Image

from trt_openvla_ros.evaluation.report import write_json
from trt_openvla_ros.serving.arrays import DTYPES
from trt_openvla_ros.serving.dialects import Question, read_form, read_question
from trt_openvla_ros.serving.openpi import IMAGE_KEYS, read_observation
from trt_openvla_ros.serving.refusal import Refusal

WIRE = Path(__file__).parents[1] / 'data' / 'wire'
_MAX_PIXELS = 2**16


def _files() -> list[bytes]:
    """Make small files of several kinds, to be broken."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8))
    files = []
    for kind, mode, options in (
        ('PNG', 'RGB', {}), ('PNG', 'P', {}), ('PNG', 'LA', {}), ('PNG', 'I;16', {}),
        ('PNG', '1', {}), ('JPEG', 'RGB', {}), ('JPEG', 'RGB', {'progressive': True}),
        ('JPEG', 'CMYK', {}), ('GIF', 'P', {}), ('BMP', 'RGB', {}), ('TIFF', 'RGB', {}),
    ):  # fmt: skip
        file = io.BytesIO()
        exif = Image.Exif()
        exif[0x0112] = 6
        extra = {'exif': exif} if kind in ('PNG', 'JPEG') else {}
        image.convert(mode).save(file, kind, **options, **extra)
        files.append(file.getvalue())
    return files


FILES = _files()
MESSAGES = [path.read_bytes() for path in sorted(WIRE.glob('*.request.*'))]


@st.composite
def broken(draw: Any, originals: list[bytes]) -> bytes:
    """Change, cut, repeat or insert a few bytes of something that is right."""
    data = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(0, 4))):
        if not data:
            break
        at = draw(st.integers(0, len(data) - 1))
        match draw(st.integers(0, 3)):
            case 0:
                data[at] = draw(st.integers(0, 255))
            case 1:
                del data[at : at + draw(st.integers(1, 40))]
            case 2:
                data[at:at] = data[at : at + draw(st.integers(1, 200))]
            case 3:
                data[at:at] = draw(st.binary(max_size=8))
    return bytes(data)


text = st.text(max_size=20) | st.sampled_from(['go', 'In: x', '</s>', '\ud800', 'toy_arm', ''])
plain = st.none() | st.booleans() | st.integers() | st.floats() | text
tree = st.recursive(
    plain, lambda t: st.lists(t, max_size=4) | st.dictionaries(text, t, max_size=4), max_leaves=8
)
dtypes = st.sampled_from([*sorted(DTYPES), '|O', '<U4', '|S3', '<c16', 'V8', 'f4', '', 'u1'])
shapes = st.lists(st.integers(-2, 40) | st.just(10**12), max_size=5) | tree
encoded = st.binary(max_size=100).map(lambda b: base64.b64encode(b).decode()) | text


@st.composite
def arrays(draw: Any) -> dict:
    """Make json_numpy objects, sometimes right."""
    if draw(st.booleans()):
        height, width, depth = draw(st.tuples(*[st.integers(0, 6)] * 2, st.integers(1, 5)))
        size = max(0, height * width * depth + draw(st.integers(-1, 1)) * draw(st.booleans()))
        return {
            '__numpy__': base64.b64encode(bytes(size)).decode(),
            'dtype': '|u1',
            'shape': [height, width, depth],
        }
    return {
        '__numpy__': draw(encoded | tree),
        'dtype': draw(dtypes | tree),
        'shape': draw(shapes),
    }


pictures = broken(FILES).map(lambda data: base64.b64encode(data).decode())
images = arrays() | arrays().map(json.dumps) | pictures | encoded | tree
payloads = st.fixed_dictionaries(
    {'instruction': text | tree},
    optional={
        'image': images,
        'full_image': images,
        'unnorm_key': text | tree,
        'return_ids': plain,
        'encoded': text | tree,
        'wrist_image': images,
    },
)
bodies = (
    payloads.map(lambda p: json.dumps(p).encode())
    | payloads.map(lambda p: json.dumps({'encoded': json.dumps(p)}).encode())
    | tree.map(lambda t: json.dumps(t).encode())
    | broken(MESSAGES)
    | st.binary(max_size=60)
)
forms = st.fixed_dictionaries(
    {'image': broken(FILES) | text, 'instruction': text | st.binary(max_size=60)},
    optional={'unnorm_key': text, 'more': st.binary(max_size=60)},
)
packed_images = st.tuples(*[st.integers(0, 6)] * 2, st.integers(1, 5)).map(
    lambda shape: {
        b'__ndarray__': True,
        b'data': bytes(math.prod(shape)),
        b'dtype': '|u1',
        b'shape': list(shape),
    }
)
packed_arrays = packed_images | st.fixed_dictionaries(
    {b'__ndarray__': st.just(True)},
    optional={b'data': st.binary(max_size=60) | plain, b'dtype': dtypes, b'shape': shapes},
)


def _pack(value: Any) -> bytes:
    try:
        return msgpack.packb(value)
    except (ValueError, OverflowError, UnicodeEncodeError):
        return b'\xc1'


observations = (
    st.fixed_dictionaries(
        {'prompt': text | tree},
        optional=dict.fromkeys((*IMAGE_KEYS, 'unnorm_key', 'state'), packed_arrays | tree),
    ).map(_pack)
    | tree.map(_pack)
    | broken(MESSAGES)
    | st.binary(max_size=60)
)
# Name, inputs, parser.
TARGETS = {
    'json': (bodies, read_question),
    'form': (forms, read_form),
    'openpi': (observations, read_observation),
}


def check(parse: Any, data: Any) -> str:
    """Parse an input; give 'question' or the status of its refusal, and raise on all else."""
    question = refusal = None
    try:
        question = parse(data, _MAX_PIXELS)
    except Refusal as error:
        refusal = error
    if refusal is not None:
        assert 400 <= refusal.status < 500, refusal
        assert refusal.reason
        assert 'Traceback' not in refusal.reason
        return str(refusal.status)
    assert isinstance(question, Question)
    assert question.image.dtype == np.uint8
    assert question.image.ndim == 3
    assert question.image.shape[2] == 3
    assert 0 < question.image.size <= 3 * _MAX_PIXELS
    question.instruction.encode()
    return 'question'


def fuzz(target: str, inputs: int, number: int = 0) -> Counter[str]:
    """Try so many inputs on one parser; count what came of them."""
    strategy, parse = TARGETS[target]
    seen: Counter[str] = Counter()

    @seed(number)
    @settings(
        max_examples=inputs, database=None, deadline=None, phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(strategy)
    def run(data: Any) -> None:
        seen[check(parse, data)] += 1

    run()
    return seen


def main() -> None:
    """Fuzz every parser, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--inputs', type=int, default=100_000, help='all in all')
    parser.add_argument('--json', type=Path)
    args = parser.parse_args()
    begun, results = time.monotonic(), {}
    for target, share in (('json', 0.6), ('form', 0.2), ('openpi', 0.2)):
        # In parts, each with a seed: hypothesis repeats itself in long runs.
        wanted, seen, number = int(args.inputs * share), Counter(), 0
        while (missing := wanted - sum(seen.values())) > 0:
            seen += fuzz(target, min(2000, missing), number)
            number += 1
        results[target] = dict(sorted(seen.items()))
        print(target, results[target], f'{time.monotonic() - begun:.0f} s', flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    total = sum(sum(seen.values()) for seen in results.values())
    print(f'{total} inputs, peak memory {peak:.0f} MiB')
    if args.json:
        write_json(
            args.json,
            {'inputs': total, 'outcomes': results, 'peak_mib': round(peak)},
            ('numpy', 'msgpack', 'hypothesis'),
        )


if __name__ == '__main__':
    main()
