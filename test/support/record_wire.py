"""Record what clients of four servers send and are answered, for the tests of the dialects.

Bodies are made with the libraries that those clients and servers use (json_numpy, FastAPI's
JSONResponse, msgpack), and with none of this package's serving code. The actions are those of the
golden checkpoint.

    python test/support/record_wire.py
"""

from __future__ import annotations

import argparse
import base64
import io
from pathlib import Path

from fastapi.responses import JSONResponse
import json_numpy
import msgpack
import numpy as np
from PIL import Image

from trt_openvla_ros.policy import Policy

DATA = Path(__file__).parents[1] / 'data'
SENTENCE = 'Put the red cup on the "blé" towel.'
QUESTION = 'What action should the robot take to pick up the cup?'
PROMPT = f'In: {QUESTION}\nOut:'


def response(content: object) -> bytes:
    """Give the body that FastAPI's JSONResponse sends."""
    return JSONResponse(content).body


def pack(value: object) -> bytes:
    """Pack as openpi's clients and servers do."""

    def array(value: np.ndarray) -> dict:
        return {
            b'__ndarray__': True,
            b'data': value.tobytes(),
            b'dtype': value.dtype.str,
            b'shape': value.shape,
        }

    return msgpack.packb(value, default=array)


def main() -> None:
    """Write test/data/wire."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--target', type=Path, default=DATA / 'wire')
    target = parser.parse_args().target
    policy = Policy.from_checkpoint(DATA / 'golden' / 'fused', 'toy_arm', device='cpu')
    image = np.random.default_rng(7).integers(0, 256, (6, 8, 3), np.uint8)
    spoken = policy.predict(image, SENTENCE)
    other = policy.predict(image, SENTENCE, 'other_arm')
    prompted = policy.predict(image, PROMPT, 'other_arm', verbatim=True)
    file = io.BytesIO()
    Image.fromarray(image).save(file, 'PNG')

    json_numpy.patch()  # as deploy.py does; JSONResponse then writes arrays
    import json

    files: dict[str, bytes] = {'image.png': file.getvalue()}

    def case(name: str, request: object, answer: object) -> None:
        files[f'{name}.request.json'] = json.dumps(request).encode()
        files[f'{name}.answer.json'] = response(answer)

    text = {
        'image': json_numpy.dumps(image),
        'instruction': PROMPT,
        'unnorm_key': 'other_arm',
        'return_ids': False,
    }
    # TensorRT-LLM's output: the prompt, 256 virtual ids behind <s>, and what was generated.
    prompter = policy.spec.prompter
    _, ids = prompter(PROMPT, verbatim=True)
    ids = [ids[0], *range(32064, 32064 + 256), *ids[1:], *prompted.generated_ids.tolist()]
    words = prompter.tokenizer.decode([i for i in ids if i < 32000])
    case('original', text, json.dumps({'action': prompted.action, 'generated': words}))
    case(
        'original_ids',
        {**text, 'return_ids': True},
        json.dumps({'action': prompted.action, 'generated': np.array(ids, np.int32)}),
    )
    plain = {'image': image, 'instruction': SENTENCE}
    case('openvla', plain, spoken.action)
    case('openvla_key', {**plain, 'unnorm_key': 'other_arm'}, other.action)
    case('openvla_double', {'encoded': json.dumps(plain)}, json.dumps(spoken.action))
    observation = {
        'full_image': image,
        'left_wrist_image': image[::-1],
        'state': np.zeros(8, np.float32),
        'instruction': SENTENCE,
    }
    case('oft', observation, [spoken.action])
    case('oft_double', {'encoded': json.dumps(observation)}, json.dumps([spoken.action]))
    modern = {
        'action': spoken.action.tolist(),
        'normalised_action': spoken.normalised_action.tolist(),
        'action_ids': spoken.action_ids.tolist(),
        'generated_ids': spoken.generated_ids.tolist(),
        'reasoning': '',
        'reasoning_fields': {},
        'prompt': spoken.prompt,
        'unnorm_key': 'toy_arm',
        'out_of_range': 0,
        'timings': {},
        'passes': 0,
    }
    encoded = base64.b64encode(files['image.png']).decode()
    case('modern', {'image': encoded, 'instruction': SENTENCE}, modern)
    files['openpi.request.msgpack'] = pack(
        {
            'observation/image': image,
            'observation/wrist_image': image,
            'observation/state': np.zeros(8, np.float32),
            'prompt': SENTENCE,
        }
    )
    files['openpi.answer.msgpack'] = pack(
        {
            'actions': spoken.action[None],
            'reasoning': '',
            'policy_timing': {'infer_ms': 0.0},
            'server_timing': {'infer_ms': 0.0},
        }
    )
    target.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (target / name).write_bytes(content)
        print(f'{len(content):6d} {name}')


if __name__ == '__main__':
    main()
