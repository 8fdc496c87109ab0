"""Pip's door to the rooms that need no ROS; colcon builds with CMakeLists.txt instead."""

from pathlib import Path
from xml.etree import ElementTree

from setuptools import find_packages, setup

manifest = ElementTree.parse(Path(__file__).with_name('package.xml')).getroot()

setup(
    name=manifest.findtext('name'),
    version=manifest.findtext('version'),
    description=' '.join(manifest.findtext('description').split()),
    license=manifest.findtext('license'),
    packages=find_packages(include=['trt_openvla_ros*'], exclude=['trt_openvla_ros.nodes*']),
    package_data={
        'trt_openvla_ros.engines.tensorrt_llm': ['trtllm_contract.json'],
        'trt_openvla_ros.pipeline': ['coffee.jpg'],
        'trt_openvla_ros.serving': ['page/*'],
    },
    # Not entry points: these import the module first, and then nothing answers a signal.
    scripts=['scripts/agreement', 'scripts/deploy_server', 'scripts/query_server'],
    python_requires='>=3.10',
    install_requires=[
        'huggingface_hub',
        'numpy',
        'pillow',
        'safetensors>=0.4',
        'sentencepiece',
        'timm>=0.9.10',
        'tokenizers',
        # A matched pair from one index: a torchvision built for another torch does not import.
        'torch>=2.4',
        'torchvision>=0.19',
    ],
    extras_require={
        'evaluate': ['mujoco>=3.2', 'trt_openvla_ros[pipeline]'],
        'pipeline': [
            'nvidia-modelopt[hf]>=0.33',
            'onnx',
            'onnxruntime',
            'onnxscript',
            'opencv-python-headless',
            'pyyaml',
            'rosbags',
            'tqdm',
            'transformers>=4.40',
        ],
        'serve': [
            'fastapi',
            'msgpack',
            'prometheus-client',
            'python-multipart',
            'pyyaml',
            'uvicorn',
            'websockets',
        ],
    },
)
