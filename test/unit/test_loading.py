"""What every program that loads a model refuses before it loads one."""

from dataclasses import fields, replace

import pytest
from recorded import record

from trt_openvla_ros.errors import ArtifactError, ConfigError
from trt_openvla_ros.policy.loading import ModelSettings, open_policy
from trt_openvla_ros.serving.settings import ServerSettings
from trt_openvla_ros.settings import list_settings


def test_a_checkpoint_must_be_named():
    with pytest.raises(ConfigError, match='parameter checkpoint is empty'):
        open_policy(ModelSettings())


def test_a_server_too_refuses_an_artifact_that_failed(tmp_path):
    record(tmp_path, verify={'failures': ['x is off by 0.1 m']})
    settings = ServerSettings(checkpoint=str(tmp_path))
    with pytest.raises(ArtifactError, match='failed its verification: x is off'):
        open_policy(settings)
    with pytest.raises(ConfigError, match=r'config\.json'):  # it got as far as the model
        open_policy(replace(settings, allow_failed_verify=True))


def test_a_server_has_every_setting_of_a_model():
    server = list_settings(ServerSettings)
    for entry in fields(ModelSettings):
        assert server[entry.name].default == entry.default


def test_a_name_that_no_file_can_have_is_an_error_of_the_family():
    with pytest.raises(ConfigError, match='cannot be read'):
        open_policy(ModelSettings(checkpoint='x' * 300))
