"""The profile for recording: only what rosbag2 knows, and topics that there are.

Names and rules are those of rosbag2 for Jazzy (ros2/rosbag2 at 64717ee): ros2bag/api/__init__.py,
rosbag2_storage_mcap/src/mcap_storage.cpp, config_options_from_node_params.cpp.
"""

from pathlib import Path
import re

import pytest
from rclpy.duration import Duration
from rclpy.qos import (
    qos_check_compatible,
    QoSCompatibility,
    QoSDurabilityPolicy,
    QoSHistoryPolicy,
    QoSLivelinessPolicy,
    QoSProfile,
    QoSReliabilityPolicy,
)
import yaml

from trt_openvla_ros.nodes.topics import POLICY_TOPICS, SIM_TOPICS

ROOT = Path(__file__).parents[2]
PROFILE = ROOT / 'config' / 'record'
POLICIES = {
    'history': QoSHistoryPolicy,
    'reliability': QoSReliabilityPolicy,
    'durability': QoSDurabilityPolicy,
    'liveliness': QoSLivelinessPolicy,
}
DURATIONS = ('deadline', 'lifespan', 'liveliness_lease_duration')
VALUES = ('depth', 'avoid_ros_namespace_conventions')
MCAP = {
    *('noChunkCRC', 'noAttachmentCRC', 'enableDataCRC', 'noSummaryCRC', 'noChunking'),
    *('noMessageIndex', 'noSummary', 'chunkSize', 'compression', 'compressionLevel'),
    *('forceCompression', 'noRepeatedSchemas', 'noRepeatedChannels', 'noAttachmentIndex'),
    *('noMetadataIndex', 'noChunkIndex', 'noStatistics', 'noSummaryOffsets'),
}
RECORD = {'topics', 'qos_profile_overrides_path', 'disable_keyboard_controls'}
STORAGE = {'storage_id', 'storage_preset_profile'}
# Of the robot, its drivers and robot_node.
OTHERS = {
    *('/pose', '/tf', '/tf_static', '/robot/gate', '/robot/target'),
    '/camera/image_raw/compressed',
}


def named(topics, node):
    names = {topic.name.replace('~', f'/{node}'): topic for topic in topics}
    return {name if name[0] == '/' else f'/{name}': topic for name, topic in names.items()}


TOPICS = named(SIM_TOPICS, 'sim') | named(POLICY_TOPICS, 'policy')


def read(name):
    return yaml.safe_load((PROFILE / name).read_text())


def profile_of(settings):
    """Make a profile as ros2bag does, whose rules these are."""
    made = {}
    for key, value in settings.items():
        if key in DURATIONS:
            assert value.keys() == {'sec', 'nsec'}
            assert min(value.values()) >= 0
            made[key] = Duration(seconds=value['sec'], nanoseconds=value['nsec'])
        elif key in POLICIES:
            made[key] = POLICIES[key].get_from_short_key(value)
        else:
            assert key in VALUES
            assert value >= 0
            made[key] = value
    return QoSProfile(**made)


@pytest.mark.parametrize('name', read('qos.yaml'))
def test_quality_of_service_is_rosbags_and_hears_our_publishers(name):
    settings = read('qos.yaml')[name]
    # The recorder as a node reads all of them, and fails where one is missing.
    assert settings.keys() == {*POLICIES, *DURATIONS, *VALUES}
    profile = profile_of(settings)
    assert name in TOPICS.keys() | OTHERS
    if name in TOPICS:
        qos = TOPICS[name].qos
        publisher = QoSProfile(depth=qos) if isinstance(qos, int) else qos
        assert qos_check_compatible(publisher, profile)[0] != QoSCompatibility.ERROR


def test_recorder_has_known_parameters_and_topics_that_there_are():
    values = read('recorder.yaml')['/**']['ros__parameters']
    assert values.keys() == {'use_sim_time', 'record', 'storage'}
    assert values['record'].keys() == RECORD
    assert values['storage'].keys() == STORAGE
    topics = values['record']['topics']
    assert set(topics) <= TOPICS.keys() | OTHERS
    assert set(read('qos.yaml')) <= {*topics, '/camera/image_raw/compressed'}
    # The command on the page records the same.
    page = (ROOT / 'docs' / 'recording.md').read_text().replace('\\\n', ' ')
    command = re.search(r'ros2 bag record .*--topics (.*)', page)[1]
    assert command.split() == topics


def test_storage_has_known_keys():
    assert read('mcap.yaml').keys() <= MCAP
    assert read('mcap.yaml')['compression'] in ('None', 'Lz4', 'Zstd')
    levels = ('Fastest', 'Fast', 'Default', 'Slow', 'Slowest')
    assert read('mcap.yaml')['compressionLevel'] in levels
