"""The cache with room to grow holds what the one of transformers holds, whatever comes and whoever leaves."""

import pytest
import torch
from transformers import MistralConfig, Qwen2Config
from transformers.cache_utils import DynamicLayer

from skillfactory.engines.cache import ROOM, RoomyLayer, roomy


@pytest.mark.parametrize("sizes", [(1, 1, 1), (5, 1, 1), (ROOM, 1, ROOM, 1), (3 * ROOM, 2), (1, ROOM - 1, 1, 2 * ROOM)])
def test_it_holds_the_same_keys_and_values_as_that_of_transformers(sizes: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    ours, theirs = RoomyLayer(), DynamicLayer()
    rows = 6
    for size in sizes:
        keys, values = torch.randn(2, rows, 2, size, 4)
        for mine, other in zip(ours.update(keys, values), theirs.update(keys, values), strict=True):
            assert mine.equal(other)
        kept = torch.randperm(rows)[: max(1, rows - 1)]
        rows = len(kept)
        ours.batch_select_indices(kept)
        theirs.batch_select_indices(kept)
        assert ours.keys.equal(theirs.keys)
        assert ours.values.equal(theirs.values)
        assert ours.get_seq_length() == theirs.get_seq_length()


def test_a_token_that_comes_copies_nothing_while_there_is_room() -> None:
    layer = RoomyLayer()
    layer.update(*torch.randn(2, 1, 1, 4, 8))
    place = layer.keys.data_ptr()
    for _ in range(ROOM - 4):
        layer.update(*torch.randn(2, 1, 1, 1, 8))
    assert layer.keys.data_ptr() == place


def test_only_models_of_full_attention_get_it() -> None:
    small = {"num_hidden_layers": 3, "hidden_size": 8, "num_attention_heads": 2}
    cache = roomy(Qwen2Config(**small))
    assert cache is not None
    assert [type(layer) for layer in cache.layers] == [RoomyLayer] * 3
    assert roomy(MistralConfig(**small, sliding_window=16)) is None
