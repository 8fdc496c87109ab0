"""Calls of a runner as our engine makes them, on random image embeddings."""

import torch

END = 2


def prompt_for(runner, count):
    """Give <s>, virtual ids, and text; and a table of random embeddings, as [1, N, D]."""
    virtual = range(runner.vocab_size, runner.vocab_size + count)
    ids = torch.tensor([1, *virtual, 450, 3575, 29871], dtype=torch.int32)
    generator = torch.Generator().manual_seed(0)
    return ids, torch.randn(1, count, runner.hidden_size, generator=generator)


def call(runner, ids, table, **changes):
    arguments = {
        'max_new_tokens': 7,
        'end_id': END,
        'pad_id': 0,
        'return_dict': True,
        'output_sequence_lengths': True,
        'prompt_table': table,
        'prompt_tasks': '0',
        'num_beams': 1,
        'top_k': 1,
        **changes,
    }
    return runner.generate([ids], **arguments)
