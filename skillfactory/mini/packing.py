"""Contexts of a training step, filled with whole texts."""

from collections.abc import Sequence
from random import Random
from typing import Any, NamedTuple

from skillfactory import seeds
from skillfactory.mini.texts import Text, Writer, contexts

SHARD_TOKENS = 2048  # of one shard and step
MARGIN = 12  # tokens by which a text's estimated length may be off


class Shard(NamedTuple):
    """Contexts of one step: ids and loss weights, both (contexts, tokens)."""

    ids: Any
    weights: Any


class Packer:
    """Fills contexts with whole texts."""

    def __init__(self, tokenizer: Any, lengths: Sequence[int]) -> None:
        self._encode = tokenizer.backend_tokenizer.encode_batch
        self._pad = tokenizer.pad_token_id
        self._writers = {length: Writer(length - MARGIN) for length in lengths}

    def shard(self, seed: int, step: int, shard: int, length: int) -> Shard:
        """A step's contexts."""
        import torch

        rows = SHARD_TOKENS // length
        ids = torch.full((rows, length + 1), self._pad)
        weights = torch.zeros(rows, length + 1)
        for row in range(rows):
            made = self._context(seeds.rng(seed, "context", step, shard, row), length + 1)
            ids[row, : len(made)] = torch.tensor([token for token, _ in made])
            weights[row, : len(made)] = torch.tensor([weight for _, weight in made])
        return Shard(ids, weights)

    def _context(self, random: Random, room: int) -> list[tuple[int, float]]:
        """Tokens with their weights; texts that don't fit into what is left are passed over, eight times at most."""
        made: list[tuple[int, float]] = []
        misses = 0
        for text in contexts(self._writers[room - 1], random):
            tokens = self.tokens(text)
            if len(made) + len(tokens) <= room:
                made += tokens
            else:
                misses += 1
            if misses == 8 or room - len(made) < 24:
                return made
        raise AssertionError("texts never run out")

    def tokens(self, text: Text) -> list[tuple[int, float]]:
        """The token ids of a text with the weights of their losses."""
        encoded = self._encode([piece.text for piece in text.pieces], add_special_tokens=False)
        return [(token, piece.weight) for piece, part in zip(text.pieces, encoded, strict=True) for token in part.ids]
