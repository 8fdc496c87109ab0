"""Stands in for trtllm-build: knows the flags of one release, refuses all others.

The engine directory that it writes has TensorRT-LLM's config.json, and an engine that only names
the checkpoint; the stand-in of the runtime computes with that. Whether TensorRT-LLM likes the
checkpoint it cannot say. Environment: TRTLLM_RELEASE; WITHOUT names flags that it shall not know,
and FAIL makes it fail as TensorRT-LLM does.
"""

import argparse
import copy
import json
import os
from pathlib import Path
import sys

_ENGINE = Path(__file__).parents[2] / 'trt_openvla_ros' / 'engines' / 'tensorrt_llm'
CONTRACT = json.loads((_ENGINE / 'trtllm_contract.json').read_text(encoding='utf-8'))


def make_parser(release: str) -> argparse.ArgumentParser:
    table = CONTRACT['trtllm_build']
    known = {**table['common'], **table['releases'][release]['adds']}
    for name in filter(None, os.environ.get('WITHOUT', '').split(',')):
        del known[name]
    parser = argparse.ArgumentParser(prog='trtllm-build', allow_abbrev=False)
    for name, kind in known.items():
        if kind == 'switch':
            parser.add_argument(f'--{name}', action='store_true', help='Turns --something on.')
        elif kind == 'value':
            parser.add_argument(f'--{name}', help='Prose, in which ``--paged_thing enable``.')
        else:
            parser.add_argument(f'--{name}', choices=kind, help='One of these.')
    return parser


def engine_config(checkpoint: dict, flags: dict, release: str) -> dict:
    """Lay out config.json of an engine as tensorrt_llm.builder.EngineConfig does."""
    build = copy.deepcopy(CONTRACT['engine']['build_config'])
    plugins = copy.deepcopy(CONTRACT['engine']['plugin_config'])
    for table in (build, plugins):
        for name in table.keys() & flags.keys():
            table[name] = read_flag(flags[name], table[name])
    plugins['dtype'] = checkpoint['dtype']
    pretrained = copy.deepcopy(checkpoint)
    if 'logits_dtype' in flags:
        pretrained['logits_dtype'] = flags['logits_dtype']
    return {
        'version': release,
        'pretrained_config': pretrained,
        'build_config': {**build, 'plugin_config': plugins},
    }


def read_flag(text: str | bool, default: object) -> object:
    if text in ('enable', 'disable') and isinstance(default, bool):
        return text == 'enable'
    if text == 'disable':
        return None
    return int(text) if isinstance(text, str) and text.isdigit() else text


def start_mpi() -> None:
    """Fail where importing tensorrt_llm does: in what looks like a part of another MPI job."""
    if 'OMPI_COMM_WORLD_RANK' in os.environ:  # Open MPI 4.1.8 says this and aborts
        sys.exit('*** An error occurred in MPI_Init_thread\n*** MPI_ERRORS_ARE_FATAL')
    if 'PMIX_RANK' in os.environ:  # since TensorRT-LLM's pull request 3858
        sys.exit('RuntimeError: PMIx is detected, but OMPI_COMM_WORLD_RANK is not set.')


def main() -> int:
    start_mpi()
    release = os.environ['TRTLLM_RELEASE']
    # TensorRT-LLM says so on standard output whenever it is imported.
    print(f'[TensorRT-LLM] TensorRT-LLM version: {release}')
    args = make_parser(release).parse_args()
    flags = {k: v for k, v in vars(args).items() if v}
    place = Path(args.checkpoint_dir).absolute()
    checkpoint = json.loads((place / 'config.json').read_text())
    assert checkpoint['mapping']['world_size'] == 1
    for number in ('max_batch_size', 'max_input_len', 'max_seq_len', 'max_num_tokens'):
        assert int(flags[number]) > 0
    Path('model.cache').write_text('timings, in whatever directory this runs')
    output = Path(args.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    (output / 'config.json').write_text(json.dumps(engine_config(checkpoint, flags, release)))
    if os.environ.get('FAIL'):
        print('[TensorRT-LLM][ERROR] no kernel found for node 17')
        return 1
    stub = {'release': release, 'checkpoint': str(place), 'flags': flags}
    (output / 'rank0.engine').write_text(json.dumps(stub))
    return 0


if __name__ == '__main__':
    sys.exit(main())
