"""Stands in for trtllm-build: knows the flags of one release, refuses all others, builds nothing.

It holds a command line against the contract; whether TensorRT-LLM likes the engine it cannot say.
Environment: FLAGS_FILE and RELEASE name the table, FAIL makes it fail as TensorRT-LLM does.
"""

import argparse
import json
import os
from pathlib import Path
import sys


def make_parser(release: str) -> argparse.ArgumentParser:
    table = json.loads(Path(os.environ['FLAGS_FILE']).read_text())
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


def main() -> int:
    # TensorRT-LLM says so on standard output whenever it is imported.
    print(f'[TensorRT-LLM] TensorRT-LLM version: {os.environ["RELEASE"]}')
    args = make_parser(os.environ['RELEASE']).parse_args()
    checkpoint = json.loads((Path(args.checkpoint_dir) / 'config.json').read_text())
    assert checkpoint['mapping']['world_size'] == 1
    for number in ('max_batch_size', 'max_input_len', 'max_seq_len', 'max_num_tokens'):
        assert int(getattr(args, number)) > 0
    Path('model.cache').write_text('timings, in whatever directory this runs')
    output = Path(args.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    (output / 'config.json').write_text(
        json.dumps({'version': os.environ['RELEASE'], 'build_config': vars(args)})
    )
    if os.environ.get('FAIL'):
        print('[TensorRT-LLM][ERROR] no kernel found for node 17')
        return 1
    (output / 'rank0.engine').write_bytes(b'engine')
    return 0


if __name__ == '__main__':
    sys.exit(main())
