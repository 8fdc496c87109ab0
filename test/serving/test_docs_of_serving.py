"""What README.md and docs/*.md say about serving is true."""

from dataclasses import fields
import re
import shlex
import shutil
import subprocess

from pages import blocks, ROOT
import pytest

from trt_openvla_ros.serving import query
from trt_openvla_ros.serving.settings import ServerSettings, TOKEN_VARIABLE

PAGE = (ROOT / 'docs' / 'serving.md').read_text()
SECTION = (ROOT / 'README.md').read_text().split('\n## Serve it over HTTP\n')[1].split('\n## ')[0]
EXAMPLES = [
    block.code
    for block in blocks('python')
    if 'Client(' in block.code and 'rclpy' not in block.code
]


def commands(word):
    """Give the commands in blocks that begin with a word or have it inside, each once."""
    lines = '\n'.join(block.code.replace('\\\n', ' ') for block in blocks('bash')).splitlines()
    found = (line for line in lines if line.startswith(word) or f' {word} ' in line)
    return list(dict.fromkeys(found))


@pytest.fixture
def here(server, monkeypatch):
    """Make the text's address the server's."""
    monkeypatch.chdir(ROOT)
    return lambda text: text.replace('http://127.0.0.1:8000', server.url)


@pytest.mark.skipif(shutil.which('curl') is None, reason='there is no curl')
@pytest.mark.parametrize('line', commands('curl'))
def test_the_curl_lines_get_an_action(line, here):
    command = shlex.split(here(line), comments=True)
    shown = subprocess.run([*command, '-s'], capture_output=True, text=True, check=True).stdout
    assert shown.startswith('{"action":[')


@pytest.mark.parametrize('code', EXAMPLES)
def test_the_python_client_gets_an_action(code, here, capsys):
    exec(compile(here(code), 'docs', 'exec'))
    assert len(capsys.readouterr().out.strip('[]\n').split()) == 7


@pytest.mark.parametrize('line', commands('query_server'))
def test_the_query_gets_an_action(line, here, server, capsys):
    arguments = shlex.split(line.split(' query_server ')[1], comments=True)
    query.main([*arguments, '--port', str(server.port), '--repeat', '2'])
    assert 'action' in capsys.readouterr().out


def test_pages_show_how_to_ask():
    assert 'make serve' in SECTION
    assert 'curl ' in SECTION
    assert EXAMPLES
    assert commands('query_server')
    assert commands('deploy_server')


def test_parameters_named_exist():
    names = {f.name for f in fields(ServerSettings)}
    for line in commands('deploy_server'):
        assert set(re.findall(r'-p (\w+):=', line)) <= names
    assert set(re.findall(r'-p (\w+):=', PAGE)) <= names
    assert TOKEN_VARIABLE in PAGE
    assert '`queue_size`' in PAGE
    assert 'queue_size' in names


def test_paths_named_exist(server):
    paths = re.findall(r'`(?:GET )?(/[a-z]+)`', PAGE + SECTION)
    assert {'/healthz', '/metadata', '/metrics', '/docs'} <= set(paths)
    for path in paths:
        assert server.http.get(path).status_code == 200, path
