"""One batch of a causal language model, generated in stretches, so that a text that has ended can leave it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig

from skillfactory.engines.cache import roomy
from skillfactory.engines.nucleus import processors
from skillfactory.flow import Sampling

STRETCH = 32  # tokens; measured with texts of 20 tokens on average and a limit of 256: 40 % faster than in one go


@dataclass(frozen=True, slots=True)
class Network:
    """A model with what a batch must know of it."""

    model: Any
    pad: int
    ends: Sequence[int]  # the tokens that end a text
    rows: Callable[[int], int]  # texts under way → rows to compute


@dataclass(frozen=True, slots=True)
class Line:
    """What one row of a batch starts from."""

    prompt: tuple[int, ...]
    seed: int
    limit: int | None = None  # tokens at most; None: that of its batch


class Batch:
    """Texts under way whose prompts are padded to `length`, of equal sampling, each of at most `limit` tokens."""

    def __init__(self, network: Network, lines: Sequence[Line], length: int, sampling: Sampling, limit: int) -> None:
        self._network, self._lines, self._sampling = network, lines, sampling
        self._length, self._limit = length, limit
        self._shown = self._filled(list(range(len(lines))))  # the line that each row is of
        prompts = [[network.pad] * (length - len(line.prompt)) + list(line.prompt) for line in lines]
        self._ids = torch.tensor([prompts[n] for n in self._shown], device=network.model.device)
        # Models with a state in place of a cache can't be taken up again: theirs is one stretch.
        self._step = limit if getattr(network.model, "_is_stateful", False) else STRETCH
        self._cache: Any = None if self._step == limit else roomy(network.model.config)

    @property
    def over(self) -> bool:
        """Whether all texts have ended."""
        return not self._shown

    def stretch(self) -> list[tuple[int, list[int]]]:
        """The texts that ended within the next STRETCH tokens: (number of the line, its tokens with the end token)."""
        with torch.inference_mode():
            self._advance()
            ended, going = [], []
            made = dict(zip(self._shown, self._ids[:, self._length :].tolist(), strict=True))
            for n, tokens in made.items():
                end = next((k for k, token in enumerate(tokens, 1) if token in self._network.ends), None)
                limit = self._lines[n].limit or self._limit
                if end is None and len(tokens) < limit:
                    going.append(n)
                else:
                    ended.append((n, tokens[: limit if end is None else min(end, limit)]))
            self._keep(going)
        return ended

    def _advance(self) -> None:
        done = self._ids.shape[1] - self._length
        padding = torch.tensor([self._length - len(self._lines[n].prompt) for n in self._shown], device=self._ids.device)
        places = torch.arange(self._ids.shape[1], device=self._ids.device)
        config = GenerationConfig(
            do_sample=False,
            max_new_tokens=min(self._step, self._limit - done),
            eos_token_id=list(self._network.ends) or None,
            pad_token_id=self._network.pad,
            return_dict_in_generate=True,
        )
        seeds = [self._lines[n].seed for n in self._shown]
        output = self._network.model.generate(
            input_ids=self._ids,
            attention_mask=(places >= padding[:, None]).long(),
            generation_config=config,
            logits_processor=processors(self._sampling, seeds, padding, done),
            **({} if self._cache is None else {"past_key_values": self._cache}),
        )
        self._ids, self._cache = output.sequences, getattr(output, "past_key_values", None)

    def _keep(self, going: list[int]) -> None:
        """Leaves the rows of these lines, and idle ones; all others make way."""
        shown = self._filled(going)
        if shown and shown != self._shown:
            kept = torch.tensor([self._shown.index(n) for n in shown], device=self._ids.device)
            self._ids = self._ids[kept]
            self._cache.batch_select_indices(kept)
        self._shown = shown

    def _filled(self, going: list[int]) -> list[int]:
        """The lines, and as many more of the first one as rows are to be computed."""
        return going and going + going[:1] * (self._network.rows(len(going)) - len(going))
