"""A stand-in for pydantic on a bare machine, for the files of this checkout alone.

Our schemas say with pydantic what a checkpoint's files must hold. The benchmark only reads files
that the tests have checked, and that it has written itself. So here a schema takes values as they
are, and checks nothing. Nobody else may use it.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from inspect import get_annotations
import sys
from types import ModuleType, UnionType
from typing import Annotated, Any, get_args, get_origin, get_type_hints, Union

_REQUIRED = object()
# These import all that asks for pydantic, and neither torch nor another library with models.
_READING = ('trt_openvla_ros.policy.spec', 'trt_openvla_ros.checkpoints.trtllm')


class ValidationError(ValueError):
    """Never raised: nothing is checked."""


class BaseModel:
    """An object whose attributes are the annotated keys; objects inside it become schemas too."""

    model_fields: dict[str, Any] = {}  # noqa: RUF012 - pydantic's own form

    def __init__(self, **values: Any) -> None:
        """Take values by keyword."""
        for name, kind in self._kinds().items():
            default = getattr(type(self), name, _default(kind))
            if name in values:
                setattr(self, name, _made(kind, values[name]))
            elif default is not _REQUIRED:
                setattr(self, name, default)

    def __init_subclass__(cls, **_: Any) -> None:
        """Collect the names of the fields."""
        own = dict.fromkeys(get_annotations(cls))
        cls.model_fields = {**cls.model_fields, **own}

    @classmethod
    def _kinds(cls) -> dict[str, Any]:
        # Read late, because annotations name classes that stand further down.
        if '_read_kinds' not in cls.__dict__:
            hints = get_type_hints(cls, include_extras=True)
            cls._read_kinds = {n: hints[n] for n in cls.model_fields if n != 'model_config'}
        return cls._read_kinds

    @classmethod
    def model_validate(cls, content: Any) -> Any:
        """Make an object of a mapping."""
        return cls(**content)

    def model_dump(self, *, exclude_none: bool = False) -> dict[str, Any]:
        """Give the values by name."""
        values = {name: getattr(self, name) for name in self._kinds() if hasattr(self, name)}
        return {name: v for name, v in values.items() if v is not None or not exclude_none}


class _FieldInfo:
    def __init__(self, default: Any = _REQUIRED, **_: Any) -> None:
        self.default = default


def _default(kind: Any) -> Any:
    given = [one for one in get_args(kind)[1:] if isinstance(one, _FieldInfo)]
    return given[0].default if get_origin(kind) is Annotated and given else _REQUIRED


def _made(kind: Any, value: Any) -> Any:
    """Turn mappings into schemas wherever the annotation has one."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _made(inner[0], value)
    if origin in (Union, UnionType):
        schema = next((one for one in inner if _is_schema(one)), None)
        lists = next((one for one in inner if get_origin(one) in (list, dict)), None)
        one = schema if isinstance(value, dict) and schema else lists
        return value if value is None or one is None else _made(one, value)
    if origin is list and isinstance(value, list):
        return [_made(inner[0], one) for one in value]
    if origin is dict and isinstance(value, dict):
        return {name: _made(inner[1], one) for name, one in value.items()}
    return kind(**value) if _is_schema(kind) and isinstance(value, dict) else value


def _is_schema(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _unchanged(*_: Any, **__: Any) -> Any:
    """Take the place of a decorator with arguments."""
    return lambda method: method


def import_checkpoints() -> bool:
    """Import what reads checkpoints, with the stand-in if there is no pydantic.

    Only these imports see it: other libraries ask whether there is a pydantic, and would use it.

    Returns:
        Whether the stand-in was needed.
    """
    missing = 'pydantic' not in sys.modules and find_spec('pydantic') is None
    if missing:
        module = ModuleType('pydantic', __doc__)
        module.BaseModel, module.ValidationError = BaseModel, ValidationError
        module.ConfigDict, module.Field = dict, _FieldInfo
        module.AfterValidator = _FieldInfo
        module.field_validator = module.model_validator = _unchanged
        sys.modules['pydantic'] = module
    for name in _READING:
        import_module(name)
    if missing:
        del sys.modules['pydantic']
    return missing
