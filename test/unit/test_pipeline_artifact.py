"""The artifact: written wholly or not at all, once, by one process."""

import os
from pathlib import Path
import signal
import subprocess
import sys
import time

import pytest

from trt_openvla_ros.checkpoints.artifact import Manifest
from trt_openvla_ros.errors import ArtifactError
from trt_openvla_ros.pipeline.artifact import Artifact

ROOT = Path(__file__).parents[2]


class Stage:
    """A stage that counts how often it works."""

    def __init__(self, source):
        self.source = source
        self.ran = 0

    def work(self, directory):
        self.ran += 1
        (directory / 'sub').mkdir()
        (directory / 'sub' / 'copy').write_bytes(self.source.read_bytes())
        (directory / 'note').write_text(str(self.ran))
        return {'ran': self.ran, 'shape': (1, 2)}

    def make(self, path, force=(), **settings):
        with Artifact.open(path, force) as artifact:
            return artifact.make(
                'first', settings=settings, inputs={'source': self.source}, work=self.work
            )


@pytest.fixture
def stage(tmp_path):
    source = tmp_path / 'source'
    source.write_text('weights')
    return Stage(source)


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'an artifact'  # with a space, in every test


def files(path):
    return sorted(str(file.relative_to(path)) for file in path.rglob('*') if file.is_file())


def test_stage_is_written_recorded_and_skipped(stage, path):
    assert stage.make(path, level=3) == {'ran': 1, 'shape': [1, 2]}
    assert files(path) == ['manifest.json', 'note', 'sub/copy']
    assert stage.make(path, level=3)['ran'] == 1
    written = Manifest.read(path).stages['first']
    assert written['settings'] == {'level': 3}
    assert len(written['inputs']['source']) == 64
    assert set(written['outputs']) == {'note', 'sub/copy'}
    assert {'python', 'torch', 'trt_openvla_ros'} <= set(written['versions'])
    assert written['versions']['trt_openvla_ros'] == '0.1.0'
    assert 'gpu' in written
    assert written['seconds'] >= 0


def test_stage_runs_again_where_something_changed(stage, path):
    stage.make(path, level=3)
    assert stage.make(path, level=4)['ran'] == 2  # settings
    stage.source.write_text('other weights')
    assert stage.make(path, level=4)['ran'] == 3  # inputs
    (path / 'note').write_text('by hand')
    assert stage.make(path, level=4)['ran'] == 4  # outputs
    (path / 'sub' / 'copy').unlink()
    assert stage.make(path, level=4)['ran'] == 5
    assert stage.make(path, ('first',), level=4)['ran'] == 6  # force
    os.utime(stage.source)  # touched, and still the same
    assert stage.make(path, level=4)['ran'] == 6


def test_files_that_a_stage_wrote_before_and_no_more_go(stage, path):
    stage.make(path)
    with Artifact.open(path, ('first',)) as artifact:
        artifact.make('first', settings={}, inputs={}, work=lambda _: {})
    assert files(path) == ['manifest.json']


def test_interrupted_stage_leaves_what_was_there(stage, path):
    stage.make(path, level=3)
    before = {name: (path / name).read_bytes() for name in files(path)}

    def interrupted(directory):
        (directory / 'note').write_text('half')
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Artifact.open(path) as artifact:
        artifact.make('first', settings={'level': 4}, inputs={}, work=interrupted)
    after = {name: (path / name).read_bytes() for name in files(path)}
    assert {k: v for k, v in after.items() if k != 'manifest.json'} == {
        k: v for k, v in before.items() if k != 'manifest.json'
    }
    assert stage.make(path, level=3)['ran'] == 1


def test_artifact_that_nothing_was_put_into_goes(path):
    with pytest.raises(ZeroDivisionError), Artifact.open(path) as artifact:
        artifact.make('first', settings={}, inputs={}, work=lambda _: 1 / 0)
    assert not path.exists()


@pytest.fixture
def holder(path):
    """Another process that is in the middle of a stage."""
    code = f"""
import sys, time
sys.path.insert(0, {str(ROOT)!r})
from trt_openvla_ros.pipeline.artifact import Artifact
def work(directory):
    (directory / 'note').write_text('half')
    print('working', flush=True)
    time.sleep(120)
with Artifact.open({str(path)!r}) as artifact:
    artifact.make('first', settings={{}}, inputs={{}}, work=work)
"""
    process = subprocess.Popen(
        [sys.executable, '-c', code],
        stdout=subprocess.PIPE,
        text=True,
        # A shell starts what is in its background with the signal ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout.readline() == 'working\n'
    yield process
    process.kill()
    process.wait()


def test_second_run_on_one_artifact_says_so(stage, path, holder):
    with pytest.raises(ArtifactError, match=f'another run \\(process {holder.pid}\\)'):
        stage.make(path)


def test_killed_run_is_swept_by_the_next(stage, path, holder):
    assert any(name.startswith('.part-first-') for name in files(path))
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert stage.make(path)['ran'] == 1
    assert files(path) == ['manifest.json', 'note', 'sub/copy']


def test_interrupted_process_leaves_no_trace(path, holder):
    holder.send_signal(signal.SIGINT)
    holder.wait()
    deadline = time.monotonic() + 10
    while path.exists() and time.monotonic() < deadline:
        pass
    assert not path.exists()


def test_too_little_disk_is_found_before(path):
    def work(_):
        pytest.fail('started all the same')

    with (
        pytest.raises(ArtifactError, match=r'free and 1000000000\.0 GB are needed; free some'),
        Artifact.open(path) as artifact,
    ):
        artifact.make('first', settings={}, inputs={}, work=work, disk=10**18)
    assert not path.exists()


def test_disk_that_becomes_full_is_a_sentence(path):
    def work(directory):
        (directory / 'part').write_text('x')
        with Path('/dev/full').open('w') as file:
            file.write('x')

    with (
        pytest.raises(ArtifactError, match=f'the disk of {path} is full; free some space'),
        Artifact.open(path) as artifact,
    ):
        artifact.make('first', settings={}, inputs={}, work=work)
    assert not path.exists()


@pytest.fixture
def nobody():
    """Be a user whom permissions bind."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_read_only_target_is_a_sentence(tmp_path, nobody):
    target = tmp_path if os.geteuid() == 65534 else tmp_path / 'locked'
    if target != tmp_path:
        target.mkdir(mode=0o555)
    with pytest.raises(ArtifactError, match=r'cannot be written or read \(Permission denied\)'):
        Artifact.open(target / 'artifact').__enter__()


def test_target_that_is_a_file_is_a_sentence(stage):
    with pytest.raises(ArtifactError, match='is a file; set another'):
        stage.make(stage.source)
    with pytest.raises(ArtifactError, match='is a file; set another'):
        stage.make(stage.source / 'below')


@pytest.mark.parametrize('target', ['/proc/nobody/artifact', '/tmp/' + 300 * 'x'])
def test_target_that_cannot_be_is_a_sentence(stage, target):
    with pytest.raises(ArtifactError, match=r'cannot be written or read \(.*; set artifact to an'):
        stage.make(Path(target))


def test_missing_input_and_missing_stage_are_sentences(path, stage):
    stage.make(path)
    with Artifact.open(path) as artifact:
        with pytest.raises(ArtifactError, match='run the stage quantize first'):
            artifact.facts('quantize')
        with pytest.raises(ArtifactError, match='weights is missing: there is no /nowhere'):
            artifact.make(
                's', settings={}, inputs={'weights': Path('/nowhere')}, work=lambda _: {}
            )
        (path / 'note').unlink()
        with pytest.raises(ArtifactError, match='note is missing: run the stage first again'):
            artifact.facts('first')


@pytest.mark.parametrize('text', ['{', '[]', '{}', '{"stages": 1}'])
def test_foreign_manifest_is_refused(path, text):
    path.mkdir()
    (path / 'manifest.json').write_text(text)
    with pytest.raises(ArtifactError, match=r'manifest\.json'):
        Artifact.open(path).__enter__()


def test_checkpoint_is_not_written_into(path, tmp_path):
    with Artifact.open(path) as artifact:
        with pytest.raises(ArtifactError, match='set it to another directory'):
            artifact.refuse(tmp_path)
        artifact.refuse(tmp_path / 'elsewhere')
