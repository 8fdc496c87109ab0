"""Pip's door to the rooms that need no ROS; colcon builds with CMakeLists.txt instead."""

from pathlib import Path
from xml.etree import ElementTree

from setuptools import find_packages, setup

_MESSAGES = 'trt_openvla_ros.bags.messages'
root = Path(__file__).parent
manifest = ElementTree.parse(root / 'package.xml').getroot()


def requirements(name):
    """Read requirements/NAME.txt, and the files that it names."""
    lines = (root / 'requirements' / f'{name}.txt').read_text().splitlines()
    stated = [line.split('#')[0].strip() for line in lines]
    files = [line.removeprefix('-r ').removesuffix('.txt') for line in stated if line[:3] == '-r ']
    own = [line for line in stated if line and not line.startswith('-')]
    return own + [line for file in files for line in requirements(file)]


setup(
    name=manifest.findtext('name'),
    version=manifest.findtext('version'),
    description=' '.join(manifest.findtext('description').split()),
    license=manifest.findtext('license'),
    packages=[
        *find_packages(include=['trt_openvla_ros*'], exclude=['trt_openvla_ros.nodes*']),
        _MESSAGES,
    ],
    # ROS wants msg/ at the root, and pip installs what is inside a package.
    package_dir={_MESSAGES: 'msg'},
    package_data={
        _MESSAGES: ['*.msg'],
        'trt_openvla_ros.engines.tensorrt_llm': ['trtllm_contract.json'],
        'trt_openvla_ros.pipeline': ['coffee.jpg'],
        'trt_openvla_ros.robot': ['action_meanings.yaml'],
        'trt_openvla_ros.serving': ['page/*'],
    },
    # Not entry points: these import the module first, and then nothing answers a signal.
    scripts=[
        f'scripts/{name}'
        for name in (
            'agreement',
            'bag_to_lerobot',
            'deploy_server',
            'evaluate_bag',
            'query_server',
        )
    ],
    python_requires='>=3.10',
    install_requires=requirements('policy'),
    extras_require={
        name: requirements(name) for name in ('bags', 'evaluate', 'pipeline', 'robot', 'serve')
    },
)
