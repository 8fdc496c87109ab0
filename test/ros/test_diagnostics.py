"""What /diagnostics tells, once a second."""

from diagnostic_msgs.msg import DiagnosticStatus
import numpy as np
from probe import values_of
import pytest

from trt_openvla_ros.nodes.diagnostics import Statistics

PUT = 'put the spoon on the towel'
PARTS = ('preprocess', 'vision', 'prefill', 'decode', 'total')


def test_active_node_reports_what_it_does(graph, golden):
    probe = graph.start()
    probe.instruct(PUT)
    for _ in range(5):
        probe.act(golden.image('case20'))

    status = probe.counted(actions=5)

    assert status.level == DiagnosticStatus.OK
    assert status.message == 'active'
    assert status.name == '/policy: policy'
    assert status.hardware_id == 'cpu'
    values = values_of(status)
    assert values['engine'] == 'torch'
    assert values['checkpoint'].endswith('fused')
    assert values['device'] == 'cpu'
    assert values['unnorm_key'] == 'toy_arm'
    assert values['instruction'] == PUT
    assert {name: values[name] for name in Statistics.COUNTS} == {
        **dict.fromkeys(Statistics.COUNTS, '0'),
        'images_received': str(len(probe.sent)),
        'actions': '5',
    }
    for part in PARTS:
        p50, p95 = (float(values[f'{part} p{percent} [ms]']) for percent in (50, 95))
        assert 0 < p50 <= p95
    times = [1e3 * action.inference_time for action in probe.actions]
    for percent in (50, 95):
        shown = float(values[f'total p{percent} [ms]'])
        assert shown == pytest.approx(np.percentile(times, percent), abs=0.006)


def test_report_comes_once_a_second_with_the_rate(graph, golden):
    probe = graph.start()
    probe.instruct(PUT)
    probe.act(golden.image('case20'))
    probe.status()
    first = len(probe.statuses) - 1

    while len(probe.statuses) < first + 3:
        probe.act(golden.image('case20'))

    (early, late), stamps = (
        map(values_of, probe.statuses[first + 1 :]),
        probe.reported[first + 1 :],
    )
    elapsed = stamps[1] - stamps[0]
    assert elapsed == pytest.approx(1.0, abs=0.4)
    rate = (int(late['actions']) - int(early['actions'])) / elapsed
    assert rate > 0
    assert float(late['rate [Hz]']) == pytest.approx(rate, rel=0.1)


def test_missing_images_are_a_warning_with_their_topic(graph, golden):
    graph.add(remap={'image': '/front/image_raw'}, max_image_age=0.0)
    probe = graph.probe(image_topic='/front/image_raw')
    assert probe.transit('configure')
    assert probe.transit('activate')
    probe.connect()

    silent = probe.status(lambda status: 'no images' in status.message)
    assert silent.level == DiagnosticStatus.WARN
    assert '/front/image_raw' in silent.message

    probe.send(golden.image('case20'))
    waiting = probe.status(lambda status: values_of(status)['images_received'] == '1')
    assert waiting.level == DiagnosticStatus.OK
    assert 'waiting for an instruction' in waiting.message


def test_unconfigured_node_reports_that(graph):
    graph.add()

    status = graph.probe().status()

    assert (status.level, status.message) == (DiagnosticStatus.OK, 'unconfigured')
    assert values_of(status)['rate [Hz]'] == '0.00'


def test_percentiles_are_of_the_last_200_steps():
    statistics = Statistics()
    for milliseconds in (*[1e6] * 50, *range(1, 201)):
        statistics.time(dict.fromkeys(PARTS, milliseconds * 1e-3))

    values = values_of(statistics.status('n', DiagnosticStatus.OK, '', {'device': 'cpu'}))

    assert values['decode p50 [ms]'] == '100.50'
    assert values['decode p95 [ms]'] == '190.05'


def test_error_is_a_warning_once():
    statistics = Statistics()
    statistics.count('output_errors', 3)

    first, second = (
        statistics.status('n', DiagnosticStatus.OK, 'active', {'device': 'cpu'}) for _ in range(2)
    )

    assert (first.level, first.message) == (DiagnosticStatus.WARN, 'active, 3 output_errors')
    assert (second.level, second.message) == (DiagnosticStatus.OK, 'active')
    assert values_of(second)['output_errors'] == '3'
