"""The node and artifacts of the pipeline: one whose verification failed is not acted with."""

import shutil

from recorded import record


def failed(golden_dir, tmp_path):
    # A checkpoint with a verdict beside it: what counts here is the manifest.
    path = tmp_path / 'artifact'
    shutil.copytree(golden_dir / 'fused', path)
    (path / 'LLM_backbone').mkdir()
    facts = {'failures': ['torch on trtllm_checkpoint: x is off by 0.1 m (at most 0.002)']}
    return record(path, verify=facts)


def test_artifact_that_failed_is_refused_with_the_reason(graph, golden_dir, tmp_path):
    graph.add(checkpoint=str(failed(golden_dir, tmp_path)))
    probe = graph.probe()
    assert not probe.transit('configure')
    text = 'x is off by 0.1 m (at most 0.002); build it again, or set the parameter allow_failed'
    probe.wait(lambda: any(text in log for log in probe.logs), 'reason in the log')


def test_artifact_that_failed_is_loaded_where_that_is_wanted(graph, golden_dir, tmp_path):
    graph.add(checkpoint=str(failed(golden_dir, tmp_path)), allow_failed_verify=True)
    probe = graph.probe()
    assert not probe.transit('configure')
    # It got as far as the weights, which this one has none of.
    probe.wait(lambda: any('lacks vision.safetensors' in log for log in probe.logs), 'loading')
