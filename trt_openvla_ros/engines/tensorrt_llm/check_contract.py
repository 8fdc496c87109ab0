"""check_contract: compare the installed TensorRT-LLM with the one that this package expects.

The contract file lists the functions of TensorRT-LLM and TensorRT that our code calls, and the
flags of trtllm-build. check_contract compares them with those installed. In a new container, run
it before anything else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
import inspect
from inspect import Parameter, Signature
import shutil
import sys
from typing import Any, NamedTuple

from trt_openvla_ros.engines.tensorrt_llm.build import Features, passed, read_features
from trt_openvla_ros.engines.tensorrt_llm.contract import Contract
from trt_openvla_ros.errors import EngineError, PolicyError

_CONTAINER = 'docker compose -f docker/compose.yaml run --rm policy'
_ANY = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
_LAST = '1.2.1 is the last stable release that has engines (docker/Dockerfile)'


class Difference(NamedTuple):
    """A difference between the contract file and the installed releases.

    Attributes:
        line: Description of the difference.
        called: Whether our calls depend on it.
    """

    line: str
    called: bool = True


def main() -> None:
    """Print all differences; exit with 1 if one breaks our calls, with 2 without TensorRT-LLM."""
    if {'-h', '--help'} & set(sys.argv[1:]):
        print(f'usage: check_contract\n\n{(__doc__ or "").strip()}')
        return
    try:
        sys.exit(report(Contract()))
    except PolicyError as error:
        print(f'check_contract: {error}', file=sys.stderr)
        sys.exit(2)


def report(contract: Contract) -> int:
    """Print all differences from the contract file; give 1 if one breaks our calls, else 0.

    Raises:
        EngineError: TensorRT-LLM is not installed, or importing it fails.
    """
    version = installed_version()
    release = contract.nearest(version)
    known = 'which the contract has' if version == release else f'compared with {release}'
    print(f'TensorRT-LLM {version}, {known}', flush=True)
    found = [*runtime_differences(contract, release), *tensorrt_differences(contract)]
    executable = shutil.which('trtllm-build')
    if executable is None:
        found.append(Difference('trtllm-build is not on the PATH'))
    else:
        try:
            found += flag_differences(contract.flags(release), read_features(executable))
        except EngineError as error:
            found.append(Difference(str(error)))
    for difference in sorted(found, key=lambda d: not d.called):
        print(f'{"differs" if difference.called else "not called"}: {difference.line}')
    count = sum(difference.called for difference in found)
    print(
        f'{count} difference{"s" if count > 1 else ""}'
        if count
        else 'nothing that is called differs'
    )
    return 1 if count else 0


def installed_version() -> str:
    """Import TensorRT-LLM and give its version.

    Raises:
        EngineError: TensorRT-LLM is not installed, or importing it fails.
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
            f'TensorRT-LLM is installed, but importing it failed: {error}; use its container: '
            f'{_CONTAINER} ros2 run trt_openvla_ros check_contract'
        ) from error


def runtime_differences(contract: Contract, release: str) -> Iterator[Difference]:
    """Compare functions and attributes of TensorRT-LLM with those of a release."""
    try:
        import_module('tensorrt_llm.runtime.model_runner_cpp')
    except ImportError:
        yield Difference(f'tensorrt_llm.runtime.model_runner_cpp is gone; {_LAST}')
        return
    called = contract.called
    for name, signature in contract.functions(release).items():
        found = _find(name)
        if found is None:
            yield Difference(f'{name} is gone', name in called)
            continue
        try:
            here = inspect.signature(found)
        except ValueError:
            yield Difference(f'{name} tells no signature', name in called)
            continue
        for line, meets in _compare(signature, here, called.get(name, ())):
            yield Difference(f'{name}: {line}', meets and name in called)
    for owner, facts in contract.data['tensorrt_llm']['attributes'].items():
        kind = _find(owner)
        gone = [n for n in facts['names'] if not hasattr(kind, n)]
        gone += [n for n in facts.get('set_by_init', ()) if f'self.{n} =' not in _init_of(kind)]
        for name in gone:
            yield Difference(f'{owner}.{name} is gone', f'{owner}.{name}' in called)


def tensorrt_differences(contract: Contract) -> Iterator[Difference]:
    """Compare functions of TensorRT by name only, because they have no readable signatures."""
    try:
        version = import_module('tensorrt').__version__
    except (ImportError, OSError) as error:
        yield Difference(f'the Python package tensorrt cannot be imported: {error}')
        return
    names = list(contract.data['tensorrt']['functions'])
    for owner, members in contract.data['tensorrt']['attributes'].items():
        names += [f'{owner}.{member}' for member in members]
    for name in names:
        if _find(name) is None:
            yield Difference(f'{name} is gone from TensorRT {version}', name in contract.called)


def flag_differences(wanted: Features, here: Features) -> Iterator[Difference]:
    """Compare flags of trtllm-build; `called` means that the stage build_engine passes a flag."""
    used = passed()
    for name in sorted(wanted):
        if name not in here:
            yield Difference(f'trtllm-build --{name} is gone', name in used)
            continue
        # A flag that takes any value lacks none.
        missing = set(wanted[name]) - set(here[name]) if here[name] else set()
        if missing:
            yield Difference(
                f'trtllm-build --{name} no longer takes {", ".join(sorted(missing))}',
                bool(missing & used.get(name, set())),
            )
    for name in sorted(here.keys() - wanted.keys()):
        yield Difference(f'trtllm-build --{name} is new', called=False)


def _compare(wanted: Signature, here: Signature, given: Sequence[str]) -> Iterator[Difference]:
    """Compare two signatures; `given` holds the keywords that our calls pass."""
    # A keyword that names no parameter goes into **kwargs.
    met = {name if name in wanted.parameters else 'kwargs' for name in given}
    for name, parameter in wanted.parameters.items():
        found = here.parameters.get(name)
        if found is None:
            yield Difference(f'{name} is gone', name in met)
        elif found.kind is not parameter.kind:
            yield Difference(f'{name} is {found.kind.description} now', name in met)
        elif found.default != parameter.default:
            # Our calls pass a value, or do not depend on it.
            yield Difference(
                f'{name} is {_default(found)} by default now, and was {_default(parameter)}',
                called=False,
            )
    for name, parameter in here.parameters.items():
        optional = parameter.default is not Parameter.empty or parameter.kind in _ANY
        if name not in wanted.parameters and not optional:
            yield Difference(f'{name} is new, and has to be given')
    before, now = _positional(wanted.parameters.values()), _positional(here.parameters.values())
    if now[: len(before)] != before:
        yield Difference('its positional parameters have another order', now[:1] != before[:1])


def _positional(parameters: Iterable[Parameter]) -> list[str]:
    return [p.name for p in parameters if p.kind is Parameter.POSITIONAL_OR_KEYWORD]


def _default(parameter: Parameter) -> str:
    return 'nothing' if parameter.default is Parameter.empty else repr(parameter.default)


def _find(name: str) -> Any:
    """Find the object of a dotted name; None if there is none."""
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
