"""What the README says about serving is true."""

from dataclasses import fields
from pathlib import Path
import re
import shlex
import shutil
import subprocess

import pytest

from trt_openvla_ros.serving import query
from trt_openvla_ros.serving.settings import ServerSettings, TOKEN_VARIABLE

ROOT = Path(__file__).parents[2]
SECTION = (ROOT / 'README.md').read_text().split('\n## Serve it\n')[1].split('\n## ')[0]


def commands(word):
    return [line for line in SECTION.splitlines() if line.startswith(word) or f' {word} ' in line]


@pytest.fixture
def here(server, monkeypatch):
    """Make the text's address the server's."""
    monkeypatch.chdir(ROOT)
    return lambda text: text.replace('http://127.0.0.1:8000', server.url)


@pytest.mark.skipif(shutil.which('curl') is None, reason='there is no curl')
def test_the_curl_line_gets_an_action(here):
    command = shlex.split(here(commands('curl')[0]))
    shown = subprocess.run([*command, '-s'], capture_output=True, text=True, check=True).stdout
    assert shown.startswith('{"action":[')


def test_the_python_client_gets_an_action(here, capsys):
    exec(
        compile(
            here(re.search(r'```python\n(.*?)```', SECTION, re.DOTALL)[1]), 'README.md', 'exec'
        )
    )
    assert len(capsys.readouterr().out.strip('[]\n').split()) == 7


def test_the_query_gets_an_action(here, server, capsys):
    arguments = shlex.split(commands('query_server')[0].split(' query_server ')[1])
    query.main([*arguments, '--port', str(server.port), '--repeat', '2'])
    assert 'action' in capsys.readouterr().out


def test_parameters_named_exist():
    names = {f.name for f in fields(ServerSettings)}
    assert set(re.findall(r'-p (\w+):=', SECTION)) <= names
    assert TOKEN_VARIABLE in SECTION
    assert 'queue_size' in names


def test_paths_named_exist(server):
    for path in re.findall(r'`(?:GET )?(/[a-z]+)`', SECTION):
        assert server.http.get(path).status_code == 200, path
