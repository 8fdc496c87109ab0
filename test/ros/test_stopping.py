"""Ctrl-C and SIGTERM end every command, from its imports to a running inference.

`test/unit/test_ending.py` has what a command may do worst; here are the real ones.
"""

from concurrent.futures import ThreadPoolExecutor
import os
from pathlib import Path
import signal
import socket
import subprocess
import sys
import time

from ament_index_python.packages import get_package_prefix
import numpy as np
import pytest

from trt_openvla_ros.client import Client
from trt_openvla_ros.errors import EngineError

ROOT = Path(__file__).parents[2]
COMMANDS = Path(get_package_prefix('trt_openvla_ros')) / 'lib' / 'trt_openvla_ros'
MODEL = ROOT / 'models' / 'tiny_openvla'
GOLDEN = ROOT / 'test' / 'data' / 'golden' / 'fused'
PATIENCE = 15  # [s] on a busy machine; docs/node.md has the measured times
SERVICES = ('policy_node', 'sim_node', 'deploy_server')
# Engines of the worst kind: one loads, the other encodes, for ever and deep in a library.
DEEP = """
import ctypes

from trt_openvla_ros.engines import registry
from trt_openvla_ros.engines.torch.vision import TorchVision
from {module} import main

def hang():
    print('in its depth', flush=True)
    mutex = ctypes.create_string_buffer(64)
    for _ in range(2):
        ctypes.CDLL(None).pthread_mutex_lock(mutex)

class Loading(TorchVision):
    def __init__(self, *args):
        hang()

class Encoding(TorchVision):
    calls = 0
    def encode(self, views):
        Encoding.calls += 1
        if Encoding.calls > {calls}:
            hang()
        return super().encode(views)

for name, kind in (('loading', Loading), ('encoding', Encoding)):
    registry.LANGUAGE_ENGINES[name] = registry.LANGUAGE_ENGINES['torch']
    registry.VISION_ENGINES[name] = 'deep:' + kind.__name__
"""


def catches(process):
    """Tell whether a process handles SIGTERM, as it does from its first import on."""
    status = Path(f'/proc/{process.pid}/status').read_text()
    caught = next(line for line in status.splitlines() if line.startswith('SigCgt'))
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


@pytest.fixture
def begin(domain):
    """Start a command line; the test's end ends what is left of its process group."""
    processes = []

    def start(*command, cwd=None, **environment):
        process = subprocess.Popen(
            [str(word) for word in command],
            cwd=cwd,
            env={**os.environ, 'ROS_DOMAIN_ID': str(domain), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture
def arguments(tmp_path):
    """The arguments of each command, with which it has much to do."""
    # A server that takes a question and never answers.
    with socket.create_server(('127.0.0.1', 0)) as silent:
        yield {
            'policy_node': ['--ros-args', '-p', f'checkpoint:={MODEL}'],
            'sim_node': [],
            'deploy_server': ['--checkpoint', MODEL, '--port', '0'],
            'demo': ['--out', tmp_path / 'demo.gif'],
            'evaluate': ['--episodes', '1', '--out', tmp_path],
            'agreement': [],
            'train_tiny': ['--work', tmp_path / 'work', '--out', tmp_path / 'models'],
            'pipeline': [
                '--params-file',
                ROOT / 'config' / 'pipeline' / 'tiny.yaml',
                '--artifact',
                tmp_path / 'artifact',
            ],
            'query_server': [
                '--image',
                ROOT / 'test' / 'data' / 'coffee.jpg',
                '--instruction',
                'go',
                '--port',
                silent.getsockname()[1],
            ],
        }


def stop(process, number):
    process.send_signal(number)
    output, _ = process.communicate(timeout=PATIENCE)
    assert 'Traceback' not in output, output
    assert 'Exception ignored' not in output, output
    return output


@pytest.mark.parametrize(
    ('delay', 'number'),
    [(0.0, signal.SIGTERM), (0.4, signal.SIGINT), (1.2, signal.SIGTERM), (2.5, signal.SIGINT)],
)
@pytest.mark.parametrize(
    'name',
    [
        'policy_node',
        'sim_node',
        'deploy_server',
        'demo',
        'evaluate',
        'agreement',
        'train_tiny',
        'pipeline',
        'query_server',
    ],
)
def test_a_signal_ends_it(begin, arguments, name, delay, number):
    process = begin(COMMANDS / name, *arguments[name])
    while not catches(process):
        assert process.poll() is None, process.communicate()
    time.sleep(delay)  # into whatever it does then; no condition stands for 'any moment'

    output = stop(process, number)

    assert process.returncode == (0 if name in SERVICES else 130), output


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize('name', ['sim_node', 'policy_node'])
def test_no_process_of_a_demo_outlives_it(begin, arguments, name, number):
    process = begin(COMMANDS / 'demo', *arguments['demo'])
    deadline = time.monotonic() + 60
    while name not in group_of(process):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline

    stop(process, number)

    # They were told, and may take their own time.
    while group_of(process):
        assert time.monotonic() < deadline


def group_of(leader):
    """Name the commands of a process's group, by their files."""
    listed = subprocess.run(
        ['ps', '-eww', '-o', 'pgid=,args='], capture_output=True, text=True, check=True
    ).stdout
    rows = (row.split(None, 1) for row in listed.splitlines())
    words = [args.split() for pgid, args in rows if int(pgid) == leader.pid]
    return {Path(word).name for line in words for word in line if COMMANDS.name in word}


@pytest.fixture
def begin_deep(begin, tmp_path):
    """Start a command whose engines hang: `loading` at once, `encoding` after so many calls."""

    def start(module, *words, calls=2, command=(), stopped=0):
        # Two calls belong to loading.
        (tmp_path / 'deep.py').write_text(DEEP.format(module=module, calls=calls))
        code = f"run('deep', *{command!r}, stopped={stopped})"
        return begin(
            sys.executable,
            '-c',
            f'from trt_openvla_ros.process import run; {code}',
            *words,
            cwd=tmp_path,  # the checkout's package has no messages
            PYTHONPATH=f'{tmp_path}:{os.environ["PYTHONPATH"]}',
        )

    return start


def read_until(process, text):
    for line in process.stdout:
        if text in line:
            return line
    raise AssertionError(f'ended with {process.wait()}')


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize('engine', ['loading', 'encoding'])
@pytest.mark.parametrize(
    ('module', 'words'),
    [
        ('nodes.policy_node', ['--ros-args', '-p', f'checkpoint:={MODEL}', '-p', 'engine:={}']),
        ('serving.main', ['--checkpoint', str(MODEL), '--engine', '{}', '--port', '0']),
    ],
)
def test_a_signal_ends_what_loads_for_ever(begin_deep, module, words, engine, number):
    words = [word.format(engine) for word in words]
    process = begin_deep(f'trt_openvla_ros.{module}', *words, calls=0)
    read_until(process, 'in its depth')

    stop(process, number)

    assert process.returncode == 0


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_stage_that_computes_for_ever(begin_deep, exact_artifact, number):
    words = ['--checkpoint', GOLDEN, '--unnorm-key', 'toy_arm', '--device', 'cpu']
    words += ['--artifact', exact_artifact('fused'), '--engine', 'encoding']
    process = begin_deep(
        'trt_openvla_ros.pipeline.command', *words, command=('openvla_run',), stopped=130
    )
    read_until(process, 'in its depth')

    stop(process, number)

    assert process.returncode == 130


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_node_in_an_inference_and_its_place_in_the_graph(
    begin_deep, graph, golden, number
):
    process = begin_deep(
        'trt_openvla_ros.nodes.policy_node',
        *('--ros-args', '-p', f'checkpoint:={MODEL}', '-p', 'engine:=encoding'),
    )
    probe = graph.probe()
    probe.connect()
    probe.instruct('reach the red ball')
    probe.send(golden.image('case20'))
    read_until(process, 'in its depth')

    stop(process, number)

    assert process.returncode == 0
    deadline = time.monotonic() + 5  # of a node that just vanished, DDS tells after 20 s
    while 'policy' in probe.node.get_node_names():
        assert time.monotonic() < deadline


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_server_in_an_inference_and_its_client_hears_why(begin_deep, number):
    process = begin_deep(
        'trt_openvla_ros.serving.main',
        *('--checkpoint', MODEL, '--engine', 'encoding', '--port', '0'),
    )
    url = read_until(process, 'serving ').split()[-1]
    with ThreadPoolExecutor(1) as pool, Client(url, timeout=PATIENCE) as client:
        asked = pool.submit(client.predict, np.zeros((8, 8, 3), np.uint8), 'reach the red ball')
        read_until(process, 'in its depth')

        stop(process, number)

        with pytest.raises(EngineError, match='shutting down'):
            asked.result(PATIENCE)
    assert process.returncode == 0
