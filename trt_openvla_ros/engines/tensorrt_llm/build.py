"""The command line of trtllm-build, for the flags that the installed trtllm-build knows.

Source of the flags: tensorrt_llm/commands/build.py and plugin/plugin.py of NVIDIA/TensorRT-LLM.
Source of our values: docs/source/legacy/performance/performance-tuning-guide of the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
import logging
from pathlib import Path
import re
import shlex
import subprocess

from trt_openvla_ros.checkpoints.trtllm import FORMAT_NAMES
from trt_openvla_ros.engines.tensorrt_llm.child import clean_environment
from trt_openvla_ros.errors import ConfigError, EngineError

# Values that each flag may have; () for a flag that takes any value, or none.
Features = Mapping[str, tuple[str, ...]]

# Flags that every engine of ours needs.
_NEEDED = (
    'checkpoint_dir',
    'output_dir',
    'max_batch_size',
    'max_input_len',
    'max_seq_len',
    'max_num_tokens',
    'max_prompt_embedding_table_size',
)
_DIRECTORIES = ('checkpoint_dir', 'output_dir')
_ADA = (8, 9)
_HOPPER = (9, 0)
_BLACKWELL = (10, 0)  # of data centres; that of workstations is 12.0
_BLACKWELL_RTX = (12, 0)
_TAIL = 12  # lines of output at the end of a message

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Build:
    """The settings of one engine to be built; lengths in tokens.

    Attributes:
        checkpoint: Directory of the TensorRT-LLM checkpoint.
        output: Directory for the engine.
        format: Format of the weights: 'bf16', 'fp8', 'int4_awq' or 'int8_sq'.
        fp8_cache: Whether keys and values are cached in FP8.
        capability: Compute capability of the GPU.
        image_tokens: Number of image embeddings of a request.
        max_batch_size: Most requests at once.
        max_input_len: Longest prompt, image embeddings included.
        max_seq_len: Longest prompt and answer together.
        max_num_tokens: Most tokens in one pass; at least the longest prompt.
        multiple_profiles: Whether TensorRT chooses from more kernels; the build takes longer.
        overrides: Flags that win over ours, each 'FLAG VALUE'; the value 'default' leaves a flag
            out.
    """

    checkpoint: Path
    output: Path
    format: str
    fp8_cache: bool
    capability: tuple[int, int]
    image_tokens: int
    max_batch_size: int
    max_input_len: int
    max_seq_len: int
    max_num_tokens: int
    multiple_profiles: bool
    overrides: tuple[str, ...] = ()


def flags(build: Build, features: Features) -> list[str]:
    """Compute the arguments of trtllm-build; the first four name the two directories.

    Args:
        build: The engine.
        features: Flags of the installed trtllm-build. If it does not know a flag of ours, and the
            engine does not need that flag, the flag is left out.

    Raises:
        ConfigError: The settings contradict each other, or an override is not possible.
        EngineError: The GPU cannot run the format, or trtllm-build lacks a flag that we need.
    """
    _check(build)
    missing = [name for name in _NEEDED if name not in features]
    if missing:
        raise EngineError(
            f'this trtllm-build does not know --{", --".join(missing)}; releases 0.20 to 1.2.1 do'
        )
    chosen = {name: value for name, value in _wanted(build).items() if name in features}
    chosen = {k: v for k, v in chosen.items() if not features[k] or v in features[k]}
    for text in build.overrides:
        name, _, value = text.strip().removeprefix('--').partition(' ')
        value = value.strip()
        if name in _DIRECTORIES:
            raise ConfigError(
                f'build_engine.overrides: --{name} cannot be changed; the artifact decides it'
            )
        if name not in features:
            raise ConfigError(f'build_engine.overrides: this trtllm-build does not know --{name}')
        if value == 'default':
            chosen.pop(name, None)
            continue
        if features[name] and value not in features[name]:
            raise ConfigError(
                f'build_engine.overrides: --{name} is {value!r}; it may be '
                f'{", ".join(features[name])}'
            )
        chosen[name] = value
    return [word for name, value in chosen.items() for word in (f'--{name}', value) if word]


def passed() -> dict[str, set[str]]:
    """Give all flags that our builds pass, with all values that they pass."""
    found: dict[str, set[str]] = {}
    for form, cache, gpu, profiles in product(
        FORMAT_NAMES, (False, True), (_ADA, _HOPPER), (False, True)
    ):
        here = Path()
        build = Build(here, here, form, cache, gpu, 1, 1, 2, 3, 2, multiple_profiles=profiles)
        for name, value in _wanted(build).items():
            found.setdefault(name, set()).add(value)
    return found


def parse_help(text: str) -> dict[str, tuple[str, ...]]:
    """Read the flags and the values of each from the output of --help."""
    features = {}
    for line in text.splitlines():
        if not re.match(r'\s{1,4}-', line):
            continue  # not the line of a flag: usage, or prose that mentions a flag
        head = re.split(r'\s{2,}', line.strip(), maxsplit=1)[0]
        for name, values in re.findall(r'--([a-z][a-z0-9_]*)(?:[ =]\{([^}]*)\})?', head):
            features[name] = tuple(values.split(',')) if values else ()
    features.pop('help', None)
    return features


def read_features(executable: str) -> dict[str, tuple[str, ...]]:
    """Ask trtllm-build for its flags, instead of guessing them from its version.

    Raises:
        EngineError: It cannot be started, or prints no flags.
    """
    # argparse breaks lines at the width of a terminal.
    environment = {**clean_environment(), 'COLUMNS': '1000'}
    try:
        answer = subprocess.run(
            [executable, '--help'], capture_output=True, text=True, env=environment, check=False
        )
    except OSError as error:
        raise EngineError(f'{executable} cannot be started: {error}') from error
    features = parse_help(answer.stdout)
    if answer.returncode or not features:
        last = (answer.stderr.strip() or answer.stdout.strip() or 'no output').splitlines()[-1]
        raise EngineError(
            f'`{executable} --help` ended with {answer.returncode}: {last}; TensorRT-LLM is not '
            'completely installed here; use its container'
        )
    return features


def run_build(executable: str, arguments: Sequence[str], directory: Path) -> None:
    """Run trtllm-build; its output goes to the log.

    Args:
        executable: Path of trtllm-build.
        arguments: Arguments from flags().
        directory: Working directory, where trtllm-build may leave its timing cache.

    Raises:
        EngineError: trtllm-build failed; the message ends with the last lines of its output.
    """
    command = [executable, *arguments]
    _log.info('%s', shlex.join(command))
    tail: list[str] = []
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=directory,
        env=clean_environment(),
    ) as process:
        try:
            for line in process.stdout or ():
                _log.info('trtllm-build: %s', line.rstrip())
                tail = [*tail[1 - _TAIL :], line.rstrip()]
        except KeyboardInterrupt:
            process.kill()  # else it would go on by itself, for minutes
            raise
    if process.returncode:
        end = '\n  '.join(tail) or 'it printed nothing'
        raise EngineError(
            f'trtllm-build ended with {process.returncode}; its last lines:\n  {end}\n'
            f'the command was: {shlex.join(command)}'
        )


def _check(build: Build) -> None:
    name = '.'.join(map(str, build.capability))
    if build.format == 'fp8' and build.capability < _ADA:
        raise EngineError(
            f'fp8 needs a GPU of compute capability 8.9 (Ada) or more, and this one has {name}; '
            'quantise to bf16 or int4_awq'
        )
    # Source: build() of tensorrt_llm/builder.py.
    if build.format.startswith('int') and _BLACKWELL <= build.capability < _BLACKWELL_RTX:
        raise EngineError(
            f'TensorRT-LLM builds no {build.format} engine for compute capability {name}; '
            'quantise to bf16 or fp8'
        )
    if build.max_input_len <= build.image_tokens:
        raise ConfigError(
            f'build_engine.max_input_len is {build.max_input_len}, and the image alone takes '
            f'{build.image_tokens}; some 100 more are needed for the text'
        )
    if build.max_seq_len <= build.max_input_len:
        raise ConfigError(
            f'max_seq_len is {build.max_seq_len} and max_input_len {build.max_input_len}, which '
            'leaves no token for the answer'
        )
    if build.max_num_tokens < build.max_input_len:
        raise ConfigError(
            f'build_engine.max_num_tokens is {build.max_num_tokens}; a prompt of max_input_len '
            f'{build.max_input_len} must fit'
        )


def _wanted(build: Build) -> dict[str, str]:
    fp8 = build.format == 'fp8'
    # Kernels for few rows, which are compiled for 9.0 alone: "only supported in SM90" says
    # tests/unittest/trt/functional/test_low_latency_gemm.py of TensorRT-LLM.
    low_latency = fp8 and build.capability == _HOPPER
    return {
        'checkpoint_dir': str(build.checkpoint),
        'output_dir': str(build.output),
        'max_batch_size': str(build.max_batch_size),
        'max_beam_width': '1',
        'max_input_len': str(build.max_input_len),
        'max_seq_len': str(build.max_seq_len),
        'max_num_tokens': str(build.max_num_tokens),
        # A request may use this many rows divided by max_batch_size.
        'max_prompt_embedding_table_size': str(build.image_tokens * build.max_batch_size),
        'gpt_attention_plugin': 'auto',
        'remove_input_padding': 'enable',
        'context_fmha': 'enable',
        'use_paged_context_fmha': 'enable',
        # Without an FP8 cache, the builder turns it off anyway.
        'use_fp8_context_fmha': 'enable' if fp8 and build.fp8_cache else 'disable',
        # The guide advises the plugin for bf16, and low-latency kernels for FP8 where they are.
        'gemm_plugin': ('disable' if low_latency else 'fp8') if fp8 else 'auto',
        'low_latency_gemm_plugin': 'fp8' if low_latency else 'disable',
        'multiple_profiles': 'enable' if build.multiple_profiles else 'disable',
        # modelopt writes float16, which rounds the logits and may make two of them equal.
        'logits_dtype': 'float32',
        'workers': '1',
    }
