"""The rules of CONTRIBUTING.md that a machine can check."""

import ast
from pathlib import Path
import re
import subprocess
import sys
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / 'trt_openvla_ros'
# Rooms from the roof down: each may import what stands in later rows, and within its own room.
ROWS = [
    {'evaluation'},
    {'nodes', 'serving', 'training', 'pipeline'},
    {'policy', 'robot', 'sim'},
    {'safety'},
    {'engines'},
    {'bags', 'checkpoints'},
    {
        *('pictures', 'drawing', 'client', 'codec', 'contracts', 'settings'),
        *(
            'arguments',
            'camera_steps',
            'poses',
            'timings',
            'text_files',
            'errors',
            'version',
            'process',
        ),
    },
]
ROS = {
    'action_msgs',
    'builtin_interfaces',
    'control_msgs',
    'cv_bridge',
    'diagnostic_msgs',
    'foxglove_msgs',
    'geometry_msgs',
    'lifecycle_msgs',
    'moveit_msgs',
    'rcl_interfaces',
    'rclpy',
    'rosgraph_msgs',
    'sensor_msgs',
    'std_msgs',
    'std_srvs',
    'tf2_ros',
    'visualization_msgs',
}
MODULES = sorted(PACKAGE.rglob('*.py'))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix('').parts[0]


def imports_of(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path}: relative imports are not followed'
            names |= {f'{node.module}.{alias.name}' for alias in node.names}
    return names


@pytest.mark.parametrize('path', MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down(path):
    room = room_of(path)
    if room == '__init__':
        assert ast.parse(path.read_text()).body[1:] == [], 'only a docstring; see decision 1'
        return
    row = next(index for index, rooms in enumerate(ROWS) if room in rooms)
    below = set().union(*ROWS[row + 1 :]) | ({room} if row != len(ROWS) - 1 else ROWS[-1])
    for name in imports_of(path):
        parts = name.split('.')
        if parts[0] == 'trt_openvla_ros':
            allowed = below | ({'action', 'msg', 'srv'} if room == 'nodes' else set())
            assert parts[1] in allowed, f'{room} imports {name}'
        if room != 'nodes':
            assert parts[0] not in ROS, f'{room} imports {name}'
        if room not in {'evaluation', 'training', 'pipeline', 'engines', 'checkpoints'}:
            assert parts[0] not in {'torch', 'timm', 'transformers'}, f'{room} imports {name}'


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


def test_nothing_imports_in_a_circle():
    # Imports inside functions and for type checkers count: they too make two files one.
    modules = {module_of(path): path for path in MODULES}
    imports = {
        name: {
            found if found in modules else found.rpartition('.')[0] for found in imports_of(path)
        }
        & (modules.keys() - {name})
        for name, path in modules.items()
    }
    while free := [name for name, below in imports.items() if not below & imports.keys()]:
        for name in free:
            del imports[name]
    assert imports == {}, f'in a circle, or above one: {sorted(imports)}'


# A key or tensor of a format, and the file that has it; a new one touches that file alone.
@pytest.mark.parametrize(
    ('text', 'owner'),
    [
        ('featurizer', 'checkpoints/vision.py'),
        ('scale_factor', 'checkpoints/vision.py'),
        ('timm_model_kwargs', 'checkpoints/vision.py'),
        ('vision_backbone.', 'checkpoints/vision.py'),
        ('self_attn.q_proj', 'checkpoints/llama.py'),
        ('mlp.fc', 'checkpoints/llama.py'),
        ('weights_scaling_factor', 'checkpoints/trtllm.py'),
        ('W4A16_AWQ', 'checkpoints/trtllm.py'),
        ('rank0.safetensors', 'checkpoints/trtllm.py'),
        ('tvf_normalize_params', 'checkpoints/preprocessor.py'),
        ('tokenizer_config.json', 'checkpoints/tokenizer.py'),
        ('manifest.json', 'checkpoints/artifact.py'),
        ('dataset_statistics.json', 'checkpoints/released.py'),
    ],
)
def test_names_of_formats_are_in_the_room_of_checkpoints(text, owner):
    having = {
        str(path.relative_to(PACKAGE))
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and len(node.value.split()) == 1  # prose may name it
        and text in node.value
    }
    assert having == {owner}


def test_pictures_are_decoded_in_one_place():
    decoding = re.compile(r'Image\.open\(|\bimread|\bimdecode|decode_jpeg|decode_image|Parser\(\)')
    having = {
        str(path.relative_to(PACKAGE)) for path in MODULES if decoding.search(path.read_text())
    }
    # The second reads again what it has just written.
    assert having == {'pictures/files.py', 'policy/resampling.py'}


def test_nothing_unpickles():
    found = []
    for path in MODULES:
        names = {name.split('.')[0] for name in imports_of(path)}
        found += [f'{path}: {name}' for name in names & {'pickle', 'dill', 'joblib', 'shelve'}]
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == 'torch.load':
                given = {word.arg: ast.unparse(word.value) for word in node.keywords}
                found += [f'{path}: torch.load'] * (given.get('weights_only') != 'True')
            if isinstance(node, ast.keyword) and node.arg in ('allow_pickle', 'trust_remote_code'):
                found += [f'{path}: {node.arg}'] * (ast.unparse(node.value) != 'False')
    assert found == []


def test_policy_needs_no_ros_and_no_backend_before_one_is_asked_for():
    code = (
        'import sys; import trt_openvla_ros.policy; '
        "print([m for m in ('torch', 'timm', 'rclpy', 'transformers') if m in sys.modules])"
    )
    # Isolated from the current directory and given only the sources.
    command = [sys.executable, '-c', f'import sys; sys.path.insert(0, {str(ROOT)!r}); {code}']
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == '[]\n'


@pytest.mark.parametrize(
    'path',
    [
        p
        for d in ('trt_openvla_ros', 'test', 'benchmarks', 'docs', 'launch')
        for p in sorted((ROOT / d).rglob('*.py'))
    ],
    ids=lambda p: p.name,
)
def test_files_are_short_and_named_after_what_they_make(path):
    assert len(path.read_text().splitlines()) <= 300
    assert path.stem not in {'utils', 'util', 'helpers', 'common', 'misc'}


def test_dependencies_of_the_manifest_are_where_rosdep_reads_them():
    root = ElementTree.parse(ROOT / 'package.xml').getroot()
    assert root.get('format') == '3'
    inside_export = [e.tag for e in root.find('export') if e.tag.endswith('depend')]
    assert inside_export == []
    depends = {e.text for e in root if e.tag.endswith('depend')}
    imported = set()
    for path in MODULES:
        imported |= {name.split('.')[0] for name in imports_of(path)}
    assert imported & ROS <= depends
    assert root.findtext('member_of_group') == 'rosidl_interface_packages'


def test_manifest_is_valid_for_the_tools_of_ros():
    package = pytest.importorskip('catkin_pkg.package')
    parsed = package.parse_package(str(ROOT / 'package.xml'))
    warnings = []
    parsed.validate(warnings=warnings)
    assert warnings == []


def test_executables_are_short_and_may_be_run():
    for script in (ROOT / 'scripts').iterdir():
        assert script.stat().st_mode & 0o111
        assert len(script.read_text().splitlines()) <= 4
        assert script.name in (ROOT / 'CMakeLists.txt').read_text()
