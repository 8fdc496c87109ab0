"""The manifest binds what stages wrote: whoever loads a part is told if it is another."""

import json
import os
import shutil

import pytest
from recorded import record

from trt_openvla_ros.checkpoints.artifact import LLM_BACKBONE, Manifest, VISION
from trt_openvla_ros.errors import ArtifactError
from trt_openvla_ros.pipeline.artifact import Artifact


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'an artifact'


def files(path):
    return sorted(str(file.relative_to(path)) for file in path.rglob('*') if file.is_file())


def chain(path, content, stages='abc', force=()):
    """Run stages, each of which copies what the one before wrote; give those that ran."""
    ran = []
    with Artifact.open(path, force) as artifact:
        for stage in stages:
            before = {'a': '', 'b': 'a', 'c': 'b'}[stage]

            def work(directory, stage=stage, before=before):
                ran.append(stage)
                (directory / stage).write_text((path / before).read_text() if before else content)
                return {}

            inputs = {before: path / before} if before else {}
            settings = {} if before else {'content': content}
            artifact.make(stage, settings=settings, inputs=inputs, work=work)
    return ran


def test_what_depends_on_a_stage_goes_when_that_writes_something_else(path):
    assert chain(path, 'one') == ['a', 'b', 'c']
    assert chain(path, 'two', 'a') == ['a']
    # b and c were made from a file that is no longer there.
    assert set(Manifest.read(path).stages) == {'a'}
    assert files(path) == ['a', 'manifest.json']
    assert chain(path, 'two') == ['b', 'c']


def test_what_depends_on_a_stage_stays_when_that_writes_the_same(path):
    chain(path, 'one')
    assert chain(path, 'one', 'a', force=('a',)) == ['a']
    assert files(path) == ['a', 'b', 'c', 'manifest.json']
    assert chain(path, 'one') == []


def lower(path):
    path.write_bytes(bytes(b ^ 1 for b in path.read_bytes()))


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        (lambda p: lower(p / 'a'), 'a is not as the stage a wrote it: run that stage again'),
        (lambda p: (p / 'a').unlink(), 'a is missing: run the stage a again'),
        (lambda p: (p / 'x.json').write_text('{}'), 'x.json was not written by the pipeline'),
        (
            lambda p: (p / 'manifest.json').write_text(
                (p / 'manifest.json').read_text().replace('"facts": {}', '"facts": {"f": 1}', 1)
            ),
            'not as this release of the pipeline wrote it: .* or it was changed; delete',
        ),
    ],
)
def test_what_is_not_as_it_was_written_is_named(path, change, said):
    chain(path, 'one')
    Manifest.read(path).check_small()
    change(path)
    with pytest.raises(ArtifactError, match=said):
        Manifest.read(path).check_small()


def test_an_artifact_without_its_manifest_is_refused(path):
    (path / LLM_BACKBONE).mkdir(parents=True)
    (path / VISION).write_bytes(b'')
    with pytest.raises(
        ArtifactError, match=r'manifest\.json is missing, and .* looks like an art'
    ):
        Manifest.read(path)


def test_a_large_file_is_read_where_its_time_changed_or_that_is_asked(path, monkeypatch):
    monkeypatch.setattr('trt_openvla_ros.checkpoints.hashes._LARGE', 2)
    chain(path, 'one')
    stat = (path / 'a').stat()
    lower(path / 'a')
    os.utime(path / 'a', ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as a fault of a disk does
    Manifest.read(path).check(['a'])
    with pytest.raises(ArtifactError, match='a is not as the stage a wrote it'):
        Manifest.read(path).check_content()
    os.utime(path / 'a')
    with pytest.raises(ArtifactError, match='a is not as the stage a wrote it'):
        Manifest.read(path).check(['a'])
    lower(path / 'a')  # what matters is the content
    Manifest.read(path).check(['a'])


def test_a_copy_of_an_artifact_keeps_its_hashes(path, tmp_path, monkeypatch):
    monkeypatch.setattr('trt_openvla_ros.checkpoints.hashes._LARGE', 2)
    chain(path, 'one')
    shutil.move(path, tmp_path / 'elsewhere')
    manifest = Manifest.read(tmp_path / 'elsewhere')
    monkeypatch.setattr('hashlib.sha256', lambda *_: pytest.fail('read a large file again'))
    manifest.check(['a', 'b', 'c'])


def test_verdict_is_read_by_whoever_loads(path):
    assert Manifest.read(path) is None
    path.mkdir()
    record(path, verify={'failures': ['x is off', 'y is off']})
    assert Manifest.read(path).failures == 'x is off; y is off'


def stage(**changed):
    return {'stages': {'a': {'inputs': {}, 'outputs': {}, 'facts': {}, **changed}}}


@pytest.mark.parametrize(
    ('changed', 'said'),
    [
        ({'stages': []}, 'stages is []; '),
        ({}, 'stages is missing'),
        ({'stages': {'a': None}}, 'stages.a is null; '),
        ({'stages': {'verify': stage()['stages']['a']}}, 'stages.verify has no list of failures'),
        (stage(facts=3), 'stages.a.facts is 3; '),
        (
            stage(facts={'failures': 'bad'}),
            'stages.a.facts.failures is "bad"; input should be a valid list',
        ),
        (
            stage(facts={'failures': [1]}),
            'stages.a.facts.failures[0] is 1; ',
        ),
        (
            stage(facts={'vision': None}),
            'stages.a.facts.vision is null; ',
        ),
        (stage(inputs={'b': 1}), 'stages.a.inputs.b is 1; '),
        (stage(outputs=['b']), "stages.a.outputs is ['b']; "),
        ({'stages': {}, 'hashes': {'/a': [1, 2]}}, 'hashes./a is [1, 2]; '),
        ({'stages': {}, 'hashes': {'/a': [1, [], 'x']}}, 'hashes./a[1] is []; '),
        # What a stage wrote is removed before it runs again.
        (
            stage(outputs={'../b': 'x'}),
            'a path inside the artifact is needed',
        ),
        (
            stage(outputs={'/etc': 'x'}),
            'a path inside the artifact is needed',
        ),
        (
            stage(outputs={'': 'x'}),
            'a path inside the artifact is needed',
        ),
    ],
)
def test_a_manifest_with_a_value_of_another_type_is_refused_by_its_name(path, changed, said):
    path.mkdir()
    (path / 'manifest.json').write_text(json.dumps({'hashes': {}, **changed}))
    with pytest.raises(ArtifactError) as error:
        Manifest.read(path)
    assert str(error.value).startswith(f'{path}/manifest.json: ')
    assert said in str(error.value)
    assert str(error.value).endswith('run the pipeline again')
