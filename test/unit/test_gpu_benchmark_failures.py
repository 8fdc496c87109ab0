"""benchmarks/gpu.py: what fails costs its own numbers and no others."""

from argparse import Namespace
import json
import time

from on_gpu import run as program


def test_rows_are_measured_if_rates_cannot_be(tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError('no kernel image')

    monkeypatch.setattr(program, 'measure_rates', fail)
    args = Namespace(
        out=tmp_path,
        json=None,
        minutes=2.0,
        device='cpu',
        model='tiny',
        rows='openvla: ours captured bfloat16',
        skip_tokens=True,
    )
    one = program.Run(args, time.monotonic())
    one.count()
    one.measure()
    one.save()
    report = json.loads(one.json.read_text())
    assert report['rates'] == {}
    assert 'openvla: ours captured bfloat16' in report['rows']
    program.print_rows(report)
