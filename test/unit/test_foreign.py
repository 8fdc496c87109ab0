"""What is no OpenVLA checkpoint is told what it is, from a directory and from the Hub."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import json
import os
from pathlib import Path
import shutil
import subprocess
import sys
import threading

import pytest

from trt_openvla_ros.checkpoints.released import Checkpoint
from trt_openvla_ros.errors import ConfigError

ROOT = Path(__file__).parents[2]
TINY = ROOT / 'models' / 'tiny_openvla'
COMMIT = '0123456789abcdef0123456789abcdef01234567'


def tree(root, *files):
    """Make empty files, and the tiny checkpoint's own where they have its names."""
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if (TINY / path.name).is_file():
            shutil.copy(TINY / path.name, path)
        else:
            path.write_bytes(b'')
    root.mkdir(exist_ok=True)
    return root


WHOLE = tuple(path.name for path in TINY.iterdir())
RUN = (
    'config.json',
    'config.yaml',
    'run-metrics.jsonl',
    'checkpoints/step-000-epoch-00-loss=1.pt',
)


@pytest.mark.parametrize(
    ('files', 'reason'),
    [
        ((*WHOLE, 'action_head--150000_checkpoint.pt'), 'OFT.*action_head--150000_checkpoint.pt'),
        ((*WHOLE, 'action_head--latest_checkpoint.pt'), 'OFT.*OFT is not supported'),
        ((*WHOLE, 'noisy_action_projector--100_checkpoint.pt'), 'OFT.*noisy_action_projector'),
        ((*WHOLE, 'proprio_projector--50000_checkpoint.pt'), 'OFT.*proprio_projector'),
        ((*WHOLE, 'vision_backbone--5_checkpoint.pt'), 'OFT.*vision_backbone--5'),
        ((*WHOLE, 'action_head.safetensors'), r'OFT.*action_head\.safetensors'),
        (
            ('adapter_config.json', 'adapter_model.safetensors', 'README.md'),
            r'adapter_model\.safetensors.*LoRA.*merge_and_unload',
        ),
        ((*WHOLE, 'adapter_config.json', 'adapter_model.bin'), 'beside a whole model.*LoRA'),
        (('config.json', 'pytorch_model.bin'), r'pytorch_model\.bin is pickled.*runs code'),
        (('model.pt',), r'model\.pt is pickled.*safe_serialization'),
        (('pytorch_model-00001-of-00003.bin', 'config.json'), 'is pickled'),
        (RUN, r'training run of openvla.*convert_openvla_weights_to_hf'),
        (RUN[1:], r'training run of openvla.*convert_openvla_weights_to_hf'),
        (('openvla-7b-q4_k.gguf',), r'llama\.cpp'),
        (('config.json', 'openvla.Q8_0.gguf'), r'llama\.cpp'),
        (('vision.onnx', 'vision.onnx.data'), 'ONNX graph'),
        (('rank0.engine', 'config.json'), "built engine.*artifact's directory"),
        (('checkpoint-500/config.json', 'training_args.bin'), r'checkpoint-500/config\.json has'),
        (('latest', 'global_step100/mp_rank_00_model_states.pt'), 'DeepSpeed'),
        (('flax_model.msgpack', 'config.json'), 'Flax'),
        (('config.json', 'openvla.safetensors'), 'openvla.safetensors has weights that are not'),
        (('config.json', 'model-00001-of-00002.safetensors'), 'whose index is missing'),
        ((), r'config\.json is missing.*it is empty'),
        (('models--openvla--openvla-7b/refs/main',), "Hub's cache of several repositories"),
    ],
)
def test_what_a_directory_is_and_the_way_out(tmp_path, files, reason):
    path = tree(tmp_path / 'given', *files)
    if files in (RUN, ('rank0.engine', 'config.json')):
        (path / 'config.json').write_text('{"vla": {}}')
    elif 'config.json' in files and 'preprocessor_config.json' not in files:
        tree(path, 'preprocessor_config.json')
    with pytest.raises(ConfigError, match=f'(?s){reason}'):
        assert Checkpoint.open(path).shards


@pytest.mark.parametrize(
    ('name', 'reason'),
    [
        ('model.safetensors', 'is a file; a checkpoint is a directory'),
        ('config.json', 'is a file; a checkpoint is a directory'),
        ('step.pt', 'is pickled'),
        ('openvla.gguf', r'llama\.cpp'),
        ('rank0.engine', 'built engine'),
        ('a' * 5000, 'cannot be read|neither a directory'),
    ],
)
def test_a_file_is_no_checkpoint(tmp_path, name, reason):
    path = tmp_path / name
    if len(name) < 200:
        path.write_bytes(b'')
    with pytest.raises(ConfigError, match=reason) as error:
        Checkpoint.open(path)
    assert len(str(error.value)) < 700


@pytest.mark.parametrize(
    ('changes', 'reason'),
    [
        ({'quantization_config': {'quant_method': 'gptq', 'bits': 4}}, "'gptq'.*quantised"),
        ({'quantization_config': {'quant_method': 'bitsandbytes'}}, "'bitsandbytes'"),
        ({'quantization_config': 'awq'}, "'awq'"),
        ({'compression_config': {'format': 'pack-quantized'}}, 'compression_config'),
        ({'text_config': {'quantization_config': {'quant_method': 'fp8'}}}, "'fp8'"),
        ({'architectures': ['OpenVLAOFTForRLActionPrediction']}, 'OFT is not supported'),
        ({'model_type': 'openvla_oft'}, 'OFT is not supported'),
        ({'model_type': 'llama'}, 'language model alone.*the directory above'),
        ({'model_type': 'pi0'}, "model_type 'pi0'; an OpenVLA checkpoint"),
    ],
)
def test_configuration_of_another_kind_is_refused(tmp_path, changes, reason):
    path = tree(tmp_path / 'given', *WHOLE)
    config = json.loads((path / 'config.json').read_text())
    (path / 'config.json').write_text(json.dumps({**config, **changes}))
    with pytest.raises(ConfigError, match=reason):
        Checkpoint.open(path)


def test_keys_that_newer_releases_write_change_nothing(tmp_path):
    path = tree(tmp_path / 'given', *WHOLE)
    config = json.loads((path / 'config.json').read_text())
    dtype = config.pop('torch_dtype')
    config |= {'dtype': dtype, 'quantization_config': None, 'chat_template': '{{ x }}'}
    (path / 'config.json').write_text(json.dumps(config))
    assert Checkpoint.open(path).llm == Checkpoint.open(TINY).llm


def cache(tmp_path, *commits, main=None):
    """Make a repository in the Hub's cache, with the symbolic links that its library makes."""
    root = tmp_path / 'models--org--tiny'
    (root / 'blobs').mkdir(parents=True)
    for name in WHOLE:
        shutil.copy(TINY / name, root / 'blobs' / f'hash-of-{name}')
    for commit in commits:
        (root / 'snapshots' / commit).mkdir(parents=True)
        for name in WHOLE:
            os.symlink(f'../../blobs/hash-of-{name}', root / 'snapshots' / commit / name)
    (root / 'refs').mkdir()
    if main:
        (root / 'refs' / 'main').write_text(main)
    return root


@pytest.mark.parametrize('inside', ['', 'blobs', 'refs', 'snapshots', f'snapshots/{COMMIT}'])
def test_a_repository_in_the_cache_is_read_at_refs_main(tmp_path, inside):
    root = cache(tmp_path, 'f' * 40, COMMIT, main=f'{COMMIT}\n')
    checkpoint = Checkpoint.open(root / inside)
    assert checkpoint.path == root / 'snapshots' / COMMIT
    assert checkpoint.image_tokens == Checkpoint.open(TINY).image_tokens


def test_a_repository_in_the_cache_with_one_snapshot_needs_no_refs(tmp_path):
    assert Checkpoint.open(cache(tmp_path, COMMIT)).path.name == COMMIT


@pytest.mark.parametrize('commits', [(), ('a' * 40, 'b' * 40)])
def test_a_repository_in_the_cache_without_a_chosen_snapshot_names_them(tmp_path, commits):
    root = cache(tmp_path, *commits, main='../../elsewhere')
    (root / 'snapshots').mkdir(exist_ok=True)
    with pytest.raises(ConfigError, match=f'{len(commits)} snapshots; give one of them'):
        Checkpoint.open(root)


@contextmanager
def hub(files: dict[str, bytes]) -> Iterator[tuple[str, list[str]]]:
    """Serve one repository as the Hub does; give its address and the paths that were asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            path = self.path.partition('?')[0]
            if path.startswith('/api/models/org/repo'):
                siblings = [{'rfilename': name} for name in files]
                about = {'id': 'org/repo', 'sha': COMMIT, 'siblings': siblings}
                return self.answer(json.dumps(about).encode(), 'application/json')
            name = path.partition(f'/resolve/{COMMIT}/')[2]
            if name in files:
                return self.answer(files[name], 'application/octet-stream', name)
            return self.send_error(404)

        do_HEAD = do_GET  # noqa: N815 - the name that the library looks for

        def answer(self, body: bytes, kind: str, name: str = 'x') -> None:
            self.send_response(200)
            self.send_header('Content-Type', kind)
            self.send_header('Content-Length', str(len(body)))
            self.send_header('X-Repo-Commit', COMMIT)
            self.send_header('ETag', f'"{name}"')
            self.end_headers()
            if self.command == 'GET':
                self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f'http://127.0.0.1:{server.server_port}', asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def open_from(address, home):
    """Open 'org/repo' in a process whose Hub is at the address; give its last line of output."""
    code = (
        'from trt_openvla_ros.checkpoints.released import Checkpoint\n'
        'from trt_openvla_ros.errors import ConfigError\n'
        "try: print('opened', Checkpoint.open('org/repo').image_tokens)\n"
        "except ConfigError as error: print('refused', error)\n"
    )
    environment = {**os.environ, 'HF_ENDPOINT': address, 'HF_HOME': str(home)}
    environment |= {'HF_HUB_OFFLINE': '0', 'NO_PROXY': '127.0.0.1', 'PYTHONPATH': str(ROOT)}
    command = [sys.executable, '-c', code]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=environment, cwd=home, check=True
    )
    return done.stdout


def test_a_checkpoint_is_downloaded_without_what_it_does_not_need(tmp_path):
    files = {name: (TINY / name).read_bytes() for name in WHOLE} | {'code.py': b'raise'}
    with hub(files) as (address, asked):
        said = open_from(address, tmp_path)
    assert said == f'opened {Checkpoint.open(TINY).image_tokens}\n'
    assert not [path for path in asked if path.endswith(('.py', '.md'))]


@pytest.mark.parametrize(
    ('extra', 'reason'),
    [
        ('action_head--150000_checkpoint.pt', 'OpenVLA-OFT'),
        ('proprio_projector--50000_checkpoint.pt', 'OpenVLA-OFT'),
        ('adapter_config.json', 'adapter'),
    ],
)
def test_a_repository_is_refused_by_its_list_of_files(tmp_path, extra, reason):
    files = dict.fromkeys((*WHOLE, extra), b'{}')
    with hub(files) as (address, asked):
        said = open_from(address, tmp_path)
    assert said.startswith('refused org/repo')
    assert reason in said
    assert [path for path in asked if '/resolve/' in path] == []


@pytest.mark.parametrize(
    ('files', 'reason'),
    [
        (RUN, 'training run'),
        (('config.json', 'pytorch_model.bin'), 'runs code'),
        (('openvla.gguf', 'README.md'), 'llama.cpp'),
    ],
)
def test_a_repository_without_weights_is_told_what_it_is(tmp_path, files, reason):
    with hub(dict.fromkeys(files, b'{}')) as (address, asked):
        said = open_from(address, tmp_path)
    assert said.startswith('refused org/repo has no weights in safetensors')
    assert reason in said
    assert [path for path in asked if '/resolve/' in path] == []
