"""The one version number, which package.xml has."""

from importlib import metadata
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from xml.etree import ElementTree

from trt_openvla_ros.version import package_version

ROOT = Path(__file__).parents[2]
WANTED = ElementTree.parse(ROOT / 'package.xml').findtext('version')


def test_an_installed_package_says_the_version_of_its_manifest():
    assert package_version() == WANTED


def test_a_checkout_says_the_version_of_its_manifest(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, 'version', missing)
    spec = spec_from_file_location('checkout', ROOT / 'trt_openvla_ros' / 'version.py')
    checkout = module_from_spec(spec)
    spec.loader.exec_module(checkout)
    assert checkout.package_version() == WANTED
