"""The one list of requirements: who reads it, and whether it has what the code imports."""

import ast
from collections import Counter
from functools import cache
from importlib.metadata import packages_distributions, version
import os
from pathlib import Path
import re
import subprocess
import sys
from xml.etree import ElementTree

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / 'requirements'
PACKAGE = ROOT / 'trt_openvla_ros'
# The file that is for a room; for other rooms it is policy.txt.
ROOMS = {
    'bags': 'bags',
    'serving': 'serve',
    'pipeline': 'pipeline',
    'training': 'pipeline',
    'evaluation': 'bags',
    'nodes': 'robot',
    'poses': 'robot',
    'robot': 'robot',
    'safety': 'robot',
    'poses.py': 'robot',  # no room that does without scipy imports it
    'sim': 'evaluate',
}
COME_WITH = {'apsw': 'rosbags', 'h11': 'uvicorn', 'starlette': 'fastapi', 'triton': 'torch'}
# The code says how to get them, or goes without.
NOT_NEEDED = {'control_msgs', 'foxglove_msgs', 'moveit_msgs', 'ray', 'tf2_ros'}
MANIFEST = ElementTree.parse(ROOT / 'package.xml')
ROS = {found.text for kind in ('depend', 'exec_depend') for found in MANIFEST.findall(kind)}
MODULES = sorted(PACKAGE.rglob('*.py'))


def lines(name):
    """Give the lines of a file without comments."""
    stripped = [line.split('#')[0].strip() for line in (FOLDER / f'{name}.txt').open()]
    return [line for line in stripped if line]


def listed(name):
    """Give the requirements of a file, and of the files that it names."""
    found = [Requirement(line) for line in lines(name) if not line.startswith('-r ')]
    for file in re.findall(r'^-r (\w+)\.txt$', '\n'.join(lines(name)), re.MULTILINE):
        found += listed(file)
    return found


distributions_of = cache(packages_distributions)  # it looks at every file that is installed


def names(requirements):
    return {canonicalize_name(requirement.name) for requirement in requirements}


def test_each_package_is_listed_once():
    own = [line for file in FOLDER.iterdir() for line in lines(file.stem) if line[:3] != '-r ']
    counts = Counter(canonicalize_name(Requirement(line).name) for line in own)
    assert [name for name, count in counts.items() if count > 1] == []


@pytest.mark.parametrize('path', MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_what_a_module_imports_is_in_the_file_for_its_room(path):
    room = path.relative_to(PACKAGE).parts[0]
    allowed = names(listed(ROOMS.get(room, 'policy')))
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split('.')[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module.split('.')[0])
    imported -= {*sys.stdlib_module_names, *ROS, *NOT_NEEDED, PACKAGE.name}
    for module in imported:
        distributions = distributions_of().get(module, [module])
        known = {canonicalize_name(name) for name in distributions}
        assert allowed & (known | {COME_WITH.get(module)}), (path, module)


def test_what_is_installed_here_is_what_is_listed():
    for requirement in listed('development'):
        assert requirement.specifier.contains(version(requirement.name), prereleases=True)


def test_pip_reads_the_list(tmp_path):
    command = [sys.executable, 'setup.py', '-q', 'egg_info', '-e', tmp_path]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (file,) = tmp_path.glob('*/requires.txt')
    base, *extras = re.split(r'\n*\[(\w+)\]\n', file.read_text().strip())
    found = dict(zip(['policy', *extras[::2]], [base, *extras[1::2]], strict=True))
    assert found.keys() == {'policy', 'bags', 'robot', 'serve', 'pipeline', 'evaluate'}
    for name, text in found.items():
        assert {str(Requirement(line)) for line in text.split()} == set(map(str, listed(name)))


def test_pip_takes_the_files_that_are_no_python(tmp_path):
    command = [sys.executable, 'setup.py', '-q', 'build_py', '--build-lib', tmp_path]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    there = {str(path.relative_to(tmp_path / 'trt_openvla_ros')) for path in tmp_path.rglob('*.*')}
    assert there >= {
        'engines/tensorrt_llm/trtllm_contract.json',
        'pipeline/coffee.jpg',
        'robot/action_meanings.yaml',
        'serving/page/index.html',
    }
    # A bag without definitions is read where there is no checkout, and no ROS.
    code = 'from trt_openvla_ros.bags.definitions import typestore; print(*typestore().types)'
    environment = {**os.environ, 'PYTHONPATH': str(tmp_path), 'AMENT_PREFIX_PATH': ''}
    found = subprocess.run(
        [sys.executable, '-c', code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    known = {f'trt_openvla_ros/msg/{path.stem}' for path in (ROOT / 'msg').glob('*.msg')}
    assert known <= set(found.stdout.split()), found.stderr


def test_the_container_and_the_venv_read_the_list():
    dockerfile = (ROOT / 'docker' / 'Dockerfile').read_text().replace('\\\n', '')
    (pip,) = re.findall(r'^RUN .*pip install (.*)$', dockerfile, re.MULTILINE)
    words = [word for word in pip.split() if word[:2] != '--' and word != '/etc/pip/image.txt']
    assert words == [f'/tmp/requirements/{name}.txt' for name in ('bags', 'robot', 'serve')]
    assert 'COPY requirements /tmp/requirements\n' in dockerfile
    script = (ROOT / 'tools' / 'setup_env.sh').read_text()
    read = re.findall(r'requirements\S*/\S*\.txt', script)
    assert set(read) == {f'requirements/{name}.txt' for name in ('*', 'development', 'ros')}
    for name in ('policy', 'bags', 'robot', 'serve', 'pipeline', 'evaluate'):
        assert names(listed(name)) <= names(listed('development'))


def test_the_server_is_in_the_image():
    image = names(listed('bags') + listed('robot') + listed('serve'))
    assert {'python-multipart', 'msgpack', 'uvicorn', 'mujoco', 'nvidia-modelopt'} <= image
