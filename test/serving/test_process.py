"""deploy_server as a process, as ros2 run, make serve and a service manager start it."""

import os
from pathlib import Path
import re
import signal
import subprocess
import sys

import pytest

from trt_openvla_ros.client import Client

ROOT = Path(__file__).parents[2]
SCRIPT = str(ROOT / 'scripts' / 'deploy_server')
GOLDEN = ROOT / 'test' / 'data' / 'golden'


def run(*rules, script=SCRIPT, env=None, **options):
    command = [sys.executable, script, '--ros-args', *(x for r in rules for x in ('-p', r))]
    environment = {**os.environ, **(env or {})}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment,
        **options,
    )  # fmt: skip


def started(process):
    """Wait until a server answers; give its URL."""
    for line in process.stdout:
        if found := re.search(r'serving .+ on (http://\S+)', line):
            return found[1]
    raise AssertionError('it ended')


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_it_is_told_to_stop(number, tmp_path):
    settings = tmp_path / 'server.yaml'
    settings.write_text(f'/**: {{ros__parameters: {{checkpoint: {GOLDEN}/fused, port: 0}}}}')
    process = subprocess.Popen(
        [sys.executable, SCRIPT, '--ros-args', '--params-file', str(settings),
         '-p', 'unnorm_key:=toy_arm', '-p', 'device:=cpu'],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        with Client(started(process)) as client:
            assert client.metadata()['unnorm_key'] == 'toy_arm'
        process.send_signal(number)
        output = process.communicate(timeout=60)[0]
    finally:
        process.kill()
    assert process.returncode == 0, output
    assert 'Traceback' not in output


@pytest.mark.parametrize(
    ('rules', 'reason'),
    [
        ((), 'parameter checkpoint is empty'),
        (('checkpoint:=/nowhere',), '/nowhere'),
        (('prot:=8000',), 'unknown setting prot; did you mean port?'),
        (('port:=70000',), 'port is 70000; a whole number from 0 to 65535'),
        (('host:=0.0.0.0',), 'there is no token'),
        (('host:=192.0.2.1', 'allow_no_token:=true'), 'cannot listen on 192.0.2.1'),
        ((f'checkpoint:={GOLDEN}/fused', 'port:=0'), 'no unnorm_key for'),
    ],
)
def test_what_cannot_be_is_one_sentence(rules, reason):
    env = {'HF_HUB_OFFLINE': '1'}
    process = run(*rules, env=env)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 1
    assert reason in output
    assert 'Traceback' not in output


def test_help_is_shown():
    command = [sys.executable, SCRIPT, '--help']
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert 'body_timeout: 10.0 (a number from 0.1 to 3600)' in shown
