"""The contract file, trtllm_contract.json: all that our code calls of TensorRT-LLM and TensorRT.

The file holds facts with their sources, by release. Tests compare our calls with it, and
check_contract compares the installed TensorRT-LLM with it.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from importlib.resources import files
from inspect import Parameter, Signature
import json
from typing import Any

_NAME = 'trtllm_contract.json'


class Contract:
    """The contract file.

    Attributes:
        releases: Releases of TensorRT-LLM, oldest first.
        called: Keywords that our engines pass, by dotted name of the function or attribute. Our
            engines use nothing else of TensorRT-LLM and TensorRT.
        data: Whole content of the file.
    """

    def __init__(self) -> None:
        """Read the file, which lies beside this module."""
        self.data: dict[str, Any] = json.loads((files(__package__) / _NAME).read_text('utf-8'))
        self.releases = tuple(self.data['tensorrt_llm']['releases'])
        self.called: dict[str, list[str]] = {
            **self.data['tensorrt_llm']['called'],
            **self.data['tensorrt']['called'],
        }

    def functions(self, release: str) -> dict[str, Signature]:
        """Give the signature of each function of TensorRT-LLM, by dotted name."""
        return {
            name: _signature(_of(release, forms)['parameters'])
            for name, forms in self.data['tensorrt_llm']['functions'].items()
        }

    def also_accepts(self, name: str, release: str) -> frozenset[str]:
        """Name the keywords that a function understands in its **kwargs."""
        forms = self.data['tensorrt_llm']['functions'][name]
        return frozenset(_of(release, forms).get('also_accepts', ()))

    def flags(self, release: str) -> dict[str, tuple[str, ...]]:
        """Give the values of each flag of trtllm-build; () if it takes any value, or none."""
        table = self.data['trtllm_build']
        known = {**table['common'], **table['releases'][release]['adds']}
        return {k: tuple(v) if isinstance(v, list) else () for k, v in known.items()}

    def tensorrt_functions(self) -> dict[str, Signature]:
        """Give the signature of each function of TensorRT, by dotted name."""
        return {k: _signature(v) for k, v in self.data['tensorrt']['functions'].items()}

    def nearest(self, version: str) -> str:
        """Give the newest release that is not newer than a version, or the oldest of all."""
        key = _order(version)
        older = [release for release in self.releases if _order(release) <= key]
        return older[-1] if older else self.releases[0]


def _of(release: str, forms: list[Mapping[str, Any]]) -> Mapping[str, Any]:
    return next(form for form in forms if release in form['releases'])


def _order(version: str) -> tuple[int, ...]:
    """Give the numbers of a version such as 1.2.0rc6; a candidate counts as its release."""
    numbers = []
    for part in version.split('.'):
        digits = part[: len(part) - len(part.lstrip('0123456789'))]
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers[:3])


def _signature(parameters: list[str]) -> Signature:
    """Make a signature of parameters as Python writes them; a default may be a name."""
    (function,) = ast.parse(f'def f({", ".join(parameters)}): ...').body
    arguments = function.args
    positional = [(a.arg, Parameter.POSITIONAL_OR_KEYWORD) for a in arguments.args]
    without = len(positional) - len(arguments.defaults)
    defaults = [*([None] * without), *arguments.defaults]
    if arguments.vararg:
        positional.append((arguments.vararg.arg, Parameter.VAR_POSITIONAL))
        defaults.append(None)
    keywords = [(a.arg, Parameter.KEYWORD_ONLY) for a in arguments.kwonlyargs]
    defaults += arguments.kw_defaults
    if arguments.kwarg:
        keywords.append((arguments.kwarg.arg, Parameter.VAR_KEYWORD))
        defaults.append(None)
    return Signature(
        [
            Parameter(name, kind, default=Parameter.empty if node is None else _value(node))
            for (name, kind), node in zip([*positional, *keywords], defaults, strict=True)
        ]
    )


def _value(node: ast.expr) -> Any:
    return node.id if isinstance(node, ast.Name) else ast.literal_eval(node)
