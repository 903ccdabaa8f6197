"""Responses drawn for training: batches that texts leave as they end, each text with a seed of its own.

Importing it loads torch.
"""

from collections.abc import Sequence
from typing import Any

from skillfactory.engines.batch import Batch, Line, Network
from skillfactory.flow import Sampling


def drawn(
    network: Network, prompts: Sequence[Sequence[int]], seeds: Sequence[int], sampling: Sampling, rows: int, context: int | None
) -> list[list[int]]:
    """The responses to `prompts` as token ids, end token included, `rows` of them generated at a time.

    A response is as long as the sampling and the context allow. It depends on the prompts it is generated with as far as
    they change the padding, and on nothing that was drawn before.
    """
    found: list[list[int]] = [[] for _ in prompts]
    for start in range(0, len(prompts), rows):
        part = range(start, min(start + rows, len(prompts)))
        length = max(len(prompts[n]) for n in part)
        limit = sampling.max_tokens if context is None else min(sampling.max_tokens, context - length)
        batch = Batch(network, [Line(tuple(prompts[n]), seeds[n]) for n in part], length, sampling, limit)
        while not batch.over:
            for n, tokens in batch.stretch():
                found[part[n]] = tokens
    return found


def network(model: Any, pad: int, ends: Sequence[int]) -> Network:
    """A model as batches need it, with as many rows as there are texts under way."""
    return Network(model, pad, ends, lambda n: n)
