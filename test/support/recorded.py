"""Manifests of artifacts that a test made or changed by hand."""

from pathlib import Path

from trt_openvla_ros.checkpoints import artifact as names
from trt_openvla_ros.checkpoints.artifact import Manifest
from trt_openvla_ros.checkpoints.hashes import Hashes

_STAGES = {
    names.TRTLLM_CHECKPOINT: 'quantize',
    names.LANGUAGE_ENGINE: 'build_engine',
    names.VISION_ENGINE: 'build_engine',
    names.VERIFICATION: 'verify',
}


def record(artifact: Path, **facts) -> Path:
    """Record every file of an artifact as written by its stage, and facts by stage; give its path.

    The facts of other stages stay. A fact that is None removes the stage.
    """
    # A manifest that was changed by hand cannot be read, so tests change it here only.
    there = artifact / names.MANIFEST
    old = Manifest.read(artifact) if there.exists() else Manifest(artifact)
    entries = {e.name: e for e in artifact.iterdir() if e.name != names.MANIFEST}
    stages = {stage: {'inputs': {}, 'outputs': {}, 'facts': {}} for stage in _STAGES.values()}
    stages = {'save_backbone': {'inputs': {}, 'outputs': {}, 'facts': {}}, **stages}
    for name, digest in Hashes({}, artifact).of(entries).items():
        stages[_STAGES.get(name.split('/')[0], 'save_backbone')]['outputs'][name] = digest
    for stage, one in stages.items():
        given = facts.get(stage, old.facts(stage))
        if given is not None and (one['outputs'] or given):
            old.stages[stage] = {**old.stages.get(stage, {}), **one, 'facts': given}
        else:
            old.stages.pop(stage, None)
    old.save()
    return artifact
