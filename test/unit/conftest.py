import pytest

from trt_openvla_ros.pipeline.command import run


@pytest.fixture(scope='session')
def split_artifact(golden_dir, tmp_path_factory):
    """Give the artifact of save_backbone of a golden checkpoint, by name; to be read only."""
    made = {}

    def make(name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp('artifacts') / f'{name} artifact'
            words = ['--checkpoint', str(golden_dir / name), '--artifact', str(made[name])]
            run('save_backbone', [*words, '--onnx-dtype', 'float32', '--device', 'cpu'])
        return made[name]

    return make
