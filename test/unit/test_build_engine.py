"""The stage build_engine, on stand-ins for trtllm-build, tensorrt and the GPU.

They hold our side against the contract. That an engine comes out and runs was not seen here.
"""

from importlib import import_module
import json
import os
import shutil
import subprocess

from modelopt_reference import write_artifact
import pytest
from random_checkpoint import write_random_checkpoint
from recorded import record

from trt_openvla_ros.checkpoints.artifact import (
    LANGUAGE_ENGINE,
    MANIFEST,
    TRTLLM_CHECKPOINT,
    VISION_ENGINE,
    VISION_ONNX,
)
from trt_openvla_ros.checkpoints.released import Checkpoint
from trt_openvla_ros.engines.tensorrt_llm.child import clean_environment
from trt_openvla_ros.errors import ArtifactError, ConfigError, EngineError
from trt_openvla_ros.pipeline.build_engine import stage as build_engine
from trt_openvla_ros.pipeline.command import run

HOPPER = {'name': 'NVIDIA H100 80GB HBM3', 'capability': '9.0', 'memory': 85_000_000_000}


@pytest.fixture(scope='module')
def quantised(tmp_path_factory):
    """Make an artifact as the stages before leave it, with a graph that is none."""
    root = tmp_path_factory.mktemp('build')
    checkpoint = Checkpoint.open(write_random_checkpoint(root / 'checkpoint'))
    artifact = write_artifact(checkpoint, root / 'artifact', 'fp8')
    (artifact / VISION_ONNX).write_bytes(b'graph')
    (artifact / f'{VISION_ONNX}.data').write_bytes(b'weights')
    return record(artifact)


@pytest.fixture
def artifact(quantised, tmp_path):
    # With a space, for everything that forgets to quote.
    path = tmp_path / 'an artifact'
    shutil.copytree(quantised, path)
    return path


@pytest.fixture
def machine(monkeypatch, stand_in):
    """Pretend to be a machine that has it all."""
    monkeypatch.setattr(build_engine, 'gpu', lambda: HOPPER)
    stand_in('1.2.1')


def build(artifact, *arguments):
    words = ['--artifact', str(artifact), '--checkpoint', str(artifact), *arguments]
    return run('build_engine', words)['build_engine']


def left_behind(artifact):
    return [
        p.name
        for p in artifact.iterdir()
        if p.name in (LANGUAGE_ENGINE, VISION_ENGINE) or p.name.startswith('.part')
    ]


@pytest.mark.usefixtures('machine')
def test_mpi_of_this_process_does_not_stop_the_build(artifact, monkeypatch):
    left = import_module('tensorrt_llm').LEFT_BY_MPI
    inherited = subprocess.run(['env'], capture_output=True, text=True, check=True).stdout
    assert set(left) <= {line.split('=')[0] for line in inherited.splitlines()}
    assert not left.keys() & os.environ.keys()
    # mpirun, too: its child is no rank either.
    monkeypatch.setenv('OMPI_COMM_WORLD_RANK', '0')
    assert build(artifact)['language']['tensorrt_llm'] == '1.2.1'


@pytest.mark.parametrize(
    'name',
    [
        *('OMPI_COMM_WORLD_SIZE', 'OMPI_MCA_orte_hnp_uri', 'PMIX_RANK', 'PMIX_SERVER_URI3'),
        *('PMI_RANK', 'PMI_FD', 'PRTE_LAUNCHED', 'ORTE_SCHIZO_DETECTION', 'SLURM_PROCID'),
        *('I_MPI_MPIRUN', 'HYDRA_BSTRAP', 'MPI_LOCALNRANKS', 'MV2_COMM_WORLD_RANK'),
    ],
)
def test_a_child_is_no_rank_of_a_job(monkeypatch, name):
    kept = {'OPAL_PREFIX': '/opt/hpcx/ompi', 'CUDA_VISIBLE_DEVICES': '1', 'MPI4PY_RC_X': '1'}
    for variable, value in {name: '0', **kept}.items():
        monkeypatch.setenv(variable, value)
    given = clean_environment()
    assert name not in given
    assert kept.items() <= given.items()
    assert given['PATH'] == os.environ['PATH']


@pytest.mark.usefixtures('machine')
def test_engines_and_facts_are_written(artifact):
    facts = build(artifact)
    engine, vision = artifact / LANGUAGE_ENGINE / 'rank0.engine', artifact / VISION_ENGINE
    assert json.loads(engine.read_text())['checkpoint'] == str(artifact / TRTLLM_CHECKPOINT)
    assert json.loads(vision.read_text())['graph'] == str(artifact / VISION_ONNX)
    assert facts['gpu'] == HOPPER
    assert facts['vision'] == {'tensorrt': '10.14.1.48', 'bytes': vision.stat().st_size}
    language = facts['language']
    assert (language['tensorrt_llm'], language['bytes']) == ('1.2.1', engine.stat().st_size)
    line = ' '.join(language['command'])
    assert '--max_prompt_embedding_table_size 256 ' in line
    assert '--max_input_len 512 --max_seq_len 544 --max_num_tokens 512 ' in line
    assert '--use_fp8_context_fmha enable --gemm_plugin disable' in line
    # The timing cache of trtllm-build went neither here nor into the directory of the caller.
    assert not list(artifact.rglob('model.cache'))


@pytest.mark.usefixtures('machine')
def test_it_runs_again_only_where_something_changed(artifact, monkeypatch):
    def built(*arguments):
        build(artifact, *arguments)
        return json.loads((artifact / MANIFEST).read_text())['stages']['build_engine']

    first = built()
    assert built() == first
    second = built('--max_new_tokens', '64')
    assert second != first
    assert '--max_seq_len 576' in ' '.join(second['facts']['language']['command'])
    # Another GPU, another engine.
    other = {**HOPPER, 'name': 'NVIDIA H200'}
    monkeypatch.setattr(build_engine, 'gpu', lambda: other)
    assert built('--max_new_tokens', '64')['facts']['gpu'] == other


@pytest.mark.usefixtures('machine')
def test_one_engine_may_be_built_alone(artifact):
    assert set(build(artifact, '--vision', 'false')) == {'gpu', 'language'}
    assert left_behind(artifact) == [LANGUAGE_ENGINE]
    assert set(build(artifact, '--language', 'false')) == {'gpu', 'vision'}
    assert left_behind(artifact) == [VISION_ENGINE]
    with pytest.raises(ConfigError, match='nothing to build'):
        build(artifact, '--language', 'false', '--vision', 'false')


def test_a_machine_without_tensorrt_is_told_what_has_it(artifact):
    with pytest.raises(EngineError) as caught:
        build(artifact)
    message = str(caught.value)
    for part in ('trtllm-build', 'tensorrt', 'GPU', 'docker compose -f docker/compose.yaml run'):
        assert part in message
    assert '\n' not in message
    assert left_behind(artifact) == []


@pytest.mark.usefixtures('machine')
@pytest.mark.parametrize(
    ('break_it', 'message'),
    [
        (lambda p: p.setenv('FAIL', '1'), r'ended with 1; (.|\n)*no kernel found for node 17'),
        (
            lambda p: p.setattr(import_module('tensorrt.building'), 'graph_is_good', False),
            r'cannot read .*vision\.onnx: node 0 is odd; node 1 is odd',
        ),
        (
            lambda p: p.setattr(import_module('tensorrt.building'), 'engine_is_built', False),
            r'built no engine from .*vision\.onnx',
        ),
    ],
)
def test_a_failed_build_leaves_nothing_behind(artifact, monkeypatch, break_it, message):
    before = (artifact / MANIFEST).read_text()
    break_it(monkeypatch)
    with pytest.raises(EngineError, match=message):
        build(artifact)
    assert left_behind(artifact) == []
    assert (artifact / MANIFEST).read_text() == before


@pytest.mark.usefixtures('machine')
@pytest.mark.parametrize('broken', ['graph_is_good', 'engine_is_built'])
@pytest.mark.parametrize(
    ('dtype', 'others'), [('bfloat16', 'float16 or float32'), ('float16', 'another')]
)
def test_a_vision_graph_without_kernels_names_its_precision(
    artifact, monkeypatch, broken, dtype, others
):
    record(artifact, save_backbone={'onnx': {'dtype': dtype}})
    monkeypatch.setattr(import_module('tensorrt.building'), broken, False)
    with pytest.raises(EngineError, match=f'in {dtype}, .*onnx_dtype to {others}, and run save_b'):
        build(artifact)


@pytest.mark.usefixtures('machine')
@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--max_new_tokens', '2000'], r'512 and max_new_tokens 2000 are 2512 together.* 2048'),
        (['--max_input_len', '256'], 'the image alone takes 256'),
        (['--overrides', "['max_prompt_embedding_table_size 100']"], 'room for 100 image embed'),
        (['--max_batch_size', '0'], 'max_batch_size is 0; a whole number from 1 to 64 is needed'),
    ],
)
def test_settings_that_cannot_work_are_refused(artifact, arguments, message):
    with pytest.raises((ConfigError, EngineError), match=message):
        build(artifact, *arguments)
    assert left_behind(artifact) == []


@pytest.mark.usefixtures('machine')
def test_stages_before_must_have_run(artifact):
    (artifact / VISION_ONNX).unlink()
    with pytest.raises(ArtifactError, match=r'vision\.onnx is missing: run the stage save_back'):
        build(artifact)
    record(artifact)
    with pytest.raises(ConfigError, match=r'vision\.onnx is missing; run save_backbone with'):
        build(artifact)
    for stage in ('quantize', 'save_backbone'):
        record(artifact, **{stage: None})
        with pytest.raises(ArtifactError, match=f'run the stage {stage} first'):
            build(artifact)
