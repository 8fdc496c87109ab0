"""check_contract: is the TensorRT-LLM that is installed the one that this package was written for?

Compares what our code calls of TensorRT-LLM and TensorRT, and the flags of trtllm-build, as the
contract file has them, with what is installed. The first thing to run in the container.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import import_module
from importlib.util import find_spec
import inspect
from inspect import Parameter, Signature
import shutil
import sys
from typing import Any

from trt_openvla_ros.errors import EngineError, PolicyError
from trt_openvla_ros.pipeline.trtllm_build import Features, read_features
from trt_openvla_ros.pipeline.trtllm_contract import Contract

_CONTAINER = 'docker compose -f docker/compose.yaml run --rm policy'
_ANY = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
_LAST = '1.2.1 is the last stable release that has engines (docker/Dockerfile)'


def main() -> None:
    """Print what differs; exit with 1 where something does, with 2 where nothing is installed."""
    if {'-h', '--help'} & set(sys.argv[1:]):
        print(f'usage: check_contract\n\n{(__doc__ or "").strip()}')
        return
    try:
        sys.exit(report(Contract()))
    except PolicyError as error:
        print(f'check_contract: {error}', file=sys.stderr)
        sys.exit(2)


def report(contract: Contract) -> int:
    """Print what differs from the contract; 1 where it breaks our calls, 0 where it does not.

    Raises:
        EngineError: TensorRT-LLM is not installed, or cannot be imported.
    """
    version = installed_version()
    release = contract.nearest(version)
    known = 'which the contract has' if version == release else f'compared with {release}'
    print(f'TensorRT-LLM {version}, {known}', flush=True)
    broken = [*runtime_differences(contract, release), *tensorrt_differences(contract)]
    added = []
    executable = shutil.which('trtllm-build')
    if executable is None:
        broken.append('trtllm-build is not on the PATH')
    else:
        try:
            lost, added = flag_differences(contract.flags(release), read_features(executable))
            broken += lost
        except EngineError as error:
            broken.append(str(error))
    for line in broken:
        print(f'differs: {line}')
    for line in added:
        print(f'new, and not used: {line}')
    count = f'{len(broken)} difference{"s" if len(broken) > 1 else ""}'
    print(count if broken else 'nothing that is called differs')
    return 1 if broken else 0


def installed_version() -> str:
    """Import TensorRT-LLM and give its version.

    Raises:
        EngineError: It is not installed, or cannot be imported.
    """
    if find_spec('tensorrt_llm') is None:
        raise EngineError(
            'TensorRT-LLM is not installed here; its container has it: on the robot, from the '
            f'root of the repository, {_CONTAINER} ros2 run trt_openvla_ros check_contract'
        )
    try:
        return str(import_module('tensorrt_llm').__version__)
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        raise EngineError(
            f'TensorRT-LLM is installed and cannot be imported: {error}; use its container: '
            f'{_CONTAINER} ros2 run trt_openvla_ros check_contract'
        ) from error


def runtime_differences(contract: Contract, release: str) -> Iterator[str]:
    """Compare functions and attributes of TensorRT-LLM with those of a release."""
    try:
        import_module('tensorrt_llm.runtime.model_runner_cpp')
    except ImportError:
        yield f'tensorrt_llm.runtime.model_runner_cpp is gone; {_LAST}'
        return
    for name, signature in contract.functions(release).items():
        found = _find(name)
        if found is None:
            yield f'{name} is gone'
            continue
        try:
            here = inspect.signature(found)
        except ValueError:
            yield f'{name} tells no signature'
            continue
        yield from (f'{name}: {line}' for line in _compare(signature, here))
    for owner, facts in contract.data['tensorrt_llm']['attributes'].items():
        kind = _find(owner)
        lost = [n for n in facts['names'] if not hasattr(kind, n)]
        lost += [n for n in facts.get('set_by_init', ()) if f'self.{n} =' not in _init_of(kind)]
        yield from (f'{owner}.{name} is gone' for name in lost)


def tensorrt_differences(contract: Contract) -> Iterator[str]:
    """Compare functions of TensorRT, which tell no signatures, by their names."""
    try:
        version = import_module('tensorrt').__version__
    except (ImportError, OSError) as error:
        yield f'the Python package tensorrt cannot be imported: {error}'
        return
    names = list(contract.data['tensorrt']['functions'])
    for owner, members in contract.data['tensorrt']['attributes'].items():
        names += [f'{owner}.{member}' for member in members]
    yield from (f'{name} is gone from TensorRT {version}' for name in names if _find(name) is None)


def flag_differences(wanted: Features, here: Features) -> tuple[list[str], list[str]]:
    """Compare flags of trtllm-build; what was lost, and what is new."""
    lost = [f'trtllm-build --{name} is gone' for name in wanted if name not in here]
    for name in wanted.keys() & here.keys():
        # Where any value goes, none can be missing.
        values = sorted(set(wanted[name]) - set(here[name])) if here[name] else []
        if values:
            lost.append(f'trtllm-build --{name} no longer takes {", ".join(values)}')
    return sorted(lost), sorted(f'trtllm-build --{name}' for name in here.keys() - wanted.keys())


def _compare(wanted: Signature, here: Signature) -> Iterator[str]:
    for name, parameter in wanted.parameters.items():
        found = here.parameters.get(name)
        if found is None:
            yield f'{name} is gone'
        elif found.kind is not parameter.kind:
            yield f'{name} is {found.kind.description} now'
        elif found.default != parameter.default:
            yield f'{name} is {_default(found)} by default now, and was {_default(parameter)}'
    for name, parameter in here.parameters.items():
        optional = parameter.default is not Parameter.empty or parameter.kind in _ANY
        if name not in wanted.parameters and not optional:
            yield f'{name} is new, and has to be given'
    before, now = _positional(wanted.parameters.values()), _positional(here.parameters.values())
    if now[: len(before)] != before:
        yield 'its positional parameters have another order now'


def _positional(parameters: Iterable[Parameter]) -> list[str]:
    return [p.name for p in parameters if p.kind is Parameter.POSITIONAL_OR_KEYWORD]


def _default(parameter: Parameter) -> str:
    return 'nothing' if parameter.default is Parameter.empty else repr(parameter.default)


def _find(name: str) -> Any:
    """Give what a dotted name means; None where there is nothing."""
    parts = name.split('.')
    for count in range(len(parts) - 1, 0, -1):
        try:
            found: Any = import_module('.'.join(parts[:count]))
        except ImportError:
            continue
        for part in parts[count:]:
            found = getattr(found, part, None)
        return found
    return None


def _init_of(kind: Any) -> str:
    try:
        return inspect.getsource(kind.__init__)
    except (OSError, TypeError, AttributeError):
        return ''
