"""What docs/tasks.md says of the task node."""

import os
import runpy
import subprocess
import sys

from pages import blocks, ROOT, rows
from taskmaster import Taskmaster

from trt_openvla_ros.action import ExecuteInstruction
from trt_openvla_ros.nodes.task.node import TaskNode
from trt_openvla_ros.nodes.task.parameters import TaskParameters
from trt_openvla_ros.nodes.task.topics import TASK_ACTIONS, TASK_TOPICS
from trt_openvla_ros.settings import list_settings


def test_client_in_python_gets_feedback_and_result(graph, execute, domain, tmp_path):
    execute('task_node')
    policy = Taskmaster(graph.context)
    policy.reasoning = 'TASK: put it'
    (example,) = [b.code for b in blocks('python') if b.page.name == 'tasks.md']
    program = tmp_path / 'operator.py'
    program.write_text(example)

    client = subprocess.Popen(
        [sys.executable, program],
        env={**os.environ, 'ROS_DOMAIN_ID': str(domain)},
        stdout=subprocess.PIPE,
        text=True,
    )
    policy.wait(lambda: client.poll() is not None, 'end of the client')

    *feedback, last = client.stdout.read().splitlines()
    assert client.wait() == 0
    assert last == 'True done: 50 steps (max_steps) 50'
    assert '[0.01, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]' in feedback[-1]
    policy.close()


def test_results_are_those_of_the_action():
    result = ExecuteInstruction.Result
    page = (ROOT / 'docs' / 'tasks.md').read_text()
    told = [row[0] for row in rows('docs/tasks.md', '`error_code`')]
    codes = ('NONE', 'TIMEOUT', 'CANCELLED', 'PREEMPTED', 'STOPPED_BY_GATE', 'POLICY_FAILED')
    assert told == [*codes, 'REJECTED', 'DEACTIVATED']
    assert [getattr(result, name) for name in told] == list(range(8))
    assert 'UNKNOWN' not in page


def test_topics_actions_and_parameters_are_what_the_node_has(graph):
    tables = runpy.run_path(str(ROOT / 'docs' / 'tables.py'))
    node = TaskNode(context=graph.context)
    node.trigger_configure()
    declared = {
        name: node.get_parameter(name).value
        for name in node.get_parameters_by_prefix('')
        if name not in ('use_sim_time', 'start_type_description_service')
    }
    topics, actions = {}, set()
    for name, (kind,) in (
        *node.get_publisher_names_and_types_by_node('task', '/'),
        *node.get_subscriber_names_and_types_by_node('task', '/'),
    ):
        own = name.replace('/task/', '~/')
        if '/_action/' in own:
            actions.add(own.partition('/_action/')[0])
        elif own not in ('/rosout', '/parameter_events', '~/transition_event'):
            topics[own if own.startswith('~') else name] = kind
    node.destroy_node()

    assert declared == {n: s.default for n, s in list_settings(TaskParameters).items()}
    assert topics == {
        t.name if t.name[0] == '/' else f'/{t.name}': tables['interface'](t.type)
        for t in TASK_TOPICS
    }
    assert actions == {action.name for action in TASK_ACTIONS}
    assert {action.type for action in TASK_ACTIONS} == {ExecuteInstruction}
