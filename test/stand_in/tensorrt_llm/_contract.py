"""Functions that take what the contract says they take, and nothing else."""

import functools
from inspect import Parameter

import tensorrt_llm
from trt_openvla_ros.engines.tensorrt_llm.contract import Contract

CONTRACT = Contract()
RELEASE = tensorrt_llm.__version__


def held_to_contract(function):
    """Let a function have the contract's signature; it gets what it declares by keyword.

    What it does not declare must be left alone: the stand-in does not do it.
    """
    name = f'tensorrt_llm.runtime.{function.__qualname__}'
    signature = CONTRACT.functions(RELEASE)[name]
    accepted = CONTRACT.also_accepts(name, RELEASE)
    if 'self' not in signature.parameters:
        owner = Parameter('cls', Parameter.POSITIONAL_OR_KEYWORD)
        signature = signature.replace(parameters=[owner, *signature.parameters.values()])
    code = function.__code__
    declared = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]

    @functools.wraps(function)
    def call(*args, **kwargs):
        bound = signature.bind(*args, **kwargs)
        given = {**bound.arguments, **bound.arguments.get('kwargs', {})}
        owner = given.pop(next(iter(signature.parameters)))
        extra = given.pop('kwargs', {})
        if unknown := sorted(extra.keys() - accepted):
            # TensorRT-LLM takes them and does nothing.
            raise TypeError(f'{name}() means nothing by {", ".join(unknown)}')
        for key in given.keys() - set(declared):
            default = signature.parameters[key].default if key in signature.parameters else None
            if given[key] != default:
                raise NotImplementedError(f'{name}({key}={given[key]!r}) is not in this stand-in')
        return function(owner, **{k: v for k, v in given.items() if k in declared})

    call.__signature__ = signature
    return call


def check_type(name, value, kinds):
    """Raise TypeError unless a value is of one of these types; bool is no int here."""
    if (type(value) is bool and bool not in kinds) or not isinstance(value, tuple(kinds)):
        wanted = ' or '.join(kind.__name__ for kind in kinds)
        raise TypeError(f'{name} is a {type(value).__name__} ({value!r}); {wanted} is needed')
