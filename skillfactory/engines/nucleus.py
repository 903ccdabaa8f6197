"""Sampling of next tokens whose chance comes from each request's own seed, not from a generator that a batch shares."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from skillfactory.flow import Sampling

_GOLDEN = 0x9E3779B97F4A7C15


class SeededSampler:
    """A logits processor that draws each row's next token and leaves it as the row's only maximum, for greedy decoding to take.

    The number that decides is a function of (the row's seed, the step). Filters act as those of `transformers` do and in the
    same order: temperature, top_k, top_p. They work on the top_k scores alone: sorting a whole vocabulary, as the general
    filters do, can cost more than the model.
    """

    def __init__(self, sampling: Sampling, seeds: Sequence[int], step: int = 0) -> None:
        self._sampling = sampling
        self._seeds = np.array([seed & (2**64 - 1) for seed in seeds], np.uint64)
        self._step = step

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """The scores (rows × vocabulary) with the drawn token's raised to infinity."""
        draws = torch.from_numpy(uniforms(self._seeds, self._step)).to(scores.device)
        self._step += 1
        tokens, weights = candidates(scores, self._sampling)
        heights = weights.cumsum(-1)
        below = (heights <= draws[:, None] * heights[:, -1:]).sum(-1, keepdim=True)
        drawn = tokens.gather(-1, below.clamp(max=tokens.shape[-1] - 1))
        return scores.scatter(-1, drawn, torch.inf)


def candidates(scores: torch.Tensor, sampling: Sampling) -> tuple[torch.Tensor, torch.Tensor]:
    """The tokens that may come next, in the order of their ids, and their weights (rows × candidates; 0 is filtered out)."""
    vocabulary = scores.shape[-1]
    scaled = scores.double() / sampling.temperature
    if sampling.top_k == 0 and sampling.top_p >= 1:
        everything = torch.arange(vocabulary, device=scores.device).expand_as(scores)
        return everything, scaled.softmax(-1)
    top, tokens = scaled.topk(min(sampling.top_k or vocabulary, vocabulary), dim=-1)
    weights = top.softmax(-1)
    before = weights.cumsum(-1) - weights
    weights = weights.masked_fill(before >= sampling.top_p, 0.0)
    weights[:, 0] = 1.0 if sampling.top_p <= 0 else weights[:, 0]
    tokens, order = tokens.sort(-1)
    return tokens, weights.gather(-1, order)


def uniforms(seeds: npt.NDArray[np.uint64], step: int) -> npt.NDArray[np.float64]:
    """One number in [0, 1) for each seed at a step: the counter-based generator splitmix64."""
    x = seeds + np.uint64((step + 1) * _GOLDEN & (2**64 - 1))
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    x ^= x >> np.uint64(31)
    return (x >> np.uint64(11)).astype(np.float64) * 2.0**-53


def processors(sampling: Sampling, seeds: Sequence[int], padding: torch.Tensor, step: int) -> list[Any]:
    """The logits processors for a batch of equal sampling from a step on: repetition penalty, then the draw, if any.

    `padding` (rows) says how many tokens each row was padded with on the left. They must not count as repeated: the padding
    token often is the end token.
    """
    from transformers import RepetitionPenaltyLogitsProcessor

    chain: list[Any] = []
    if sampling.repetition_penalty != 1:
        chain.append(RepetitionPenaltyLogitsProcessor(float(sampling.repetition_penalty), prompt_ignore_length=padding))
    if sampling.temperature > 0:
        chain.append(SeededSampler(sampling, seeds, step))
    return chain
