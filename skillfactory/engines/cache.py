"""A key-value cache with room to grow. The one of `transformers` copies itself whole for every token that comes."""

from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

ROOM = 128  # tokens by which the buffers grow


class RoomyLayer(DynamicLayer):  # type: ignore[misc]  # transformers has no types
    """A layer of full attention whose keys and values (batch × heads × tokens × width) are views of larger buffers."""

    is_initialized: bool

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """All keys and values, the new ones at the end."""
        if not self.is_initialized:
            self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True
            self._buffers = _buffer(key_states, 0), _buffer(value_states, 0)
            self.keys, self.values = (buffer[:, :, :0] for buffer in self._buffers)
        start = self.keys.shape[-2]
        end = start + key_states.shape[-2]
        if end > self._buffers[0].shape[-2]:
            self._move(self.keys, self.values, end)
        for buffer, new in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, start:end] = new
        self._show(end)
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keeps the rows `indices`."""
        length = self.get_seq_length()
        if length:
            self._move(self.keys[indices], self.values[indices], length)
            self._show(length)

    def _move(self, keys: torch.Tensor, values: torch.Tensor, length: int) -> None:
        """Moves to new buffers with room for `length` tokens and more."""
        self._buffers = _buffer(keys, length), _buffer(values, length)
        for buffer, held in zip(self._buffers, (keys, values), strict=True):
            buffer[:, :, : held.shape[-2]] = held

    def _show(self, length: int) -> None:
        self.keys, self.values = (buffer[:, :, :length] for buffer in self._buffers)


def roomy(config: Any) -> DynamicCache | None:
    """A cache for a model's configuration, None if it has layers of another kind than full attention."""
    cache = DynamicCache(config=config)
    if not cache.layers or any(type(layer) is not DynamicLayer for layer in cache.layers):
        return None
    cache.layers = [RoomyLayer() for _ in cache.layers]
    return cache


def _buffer(like: torch.Tensor, length: int) -> torch.Tensor:
    batch, heads, _, width = like.shape
    return like.new_empty(batch, heads, length + ROOM, width)
