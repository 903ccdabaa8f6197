"""Bytes that training and generation hold on one GPU, by part.

Training is mixed precision as `train/` does it: weights, gradients and AdamW's two moments in float32, computation in bfloat16
under autocast, attention that never builds its matrix (SDPA), TRL's head that computes logits in tiles.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from skillfactory.forecast.shapes import Shape, Sized

FLOAT32, BFLOAT16 = 4, 2
TILE = (4096, 32_768)  # tokens and words of TRL 1.16's tiles of logits (trl/kernels/chunked_logprob.py, trl/trainer/utils.py)

Parts = Mapping[str, int | None]  # bytes; None where the model's shape is unknown


@dataclass(frozen=True, slots=True)
class Pass:
    """One forward and backward pass."""

    rows: int
    length: int  # tokens of each row, padding included
    checkpointing: bool
    bfloat16: bool = True
    adapters: int = 0  # rank of low-rank adapters; 0 trains all weights


def training_memory(model: Sized, work: Pass) -> dict[str, int | None]:
    """What a training step holds at its peak, by part; not all parts peak at once, so their sum is a little too much."""
    count, shape = model.parameters, model.shape
    if count is None:
        return {}
    trained: int | None = count
    if work.adapters:
        trained = shape.adapters(work.adapters) if shape else None
    parts = {
        "weights": FLOAT32 * count + (BFLOAT16 * count if work.bfloat16 else 0),  # autocast keeps its copies for the backward
        "gradients": None if trained is None else FLOAT32 * trained,
        "optimizer": None if trained is None else 2 * FLOAT32 * trained,
    }
    tokens = work.rows * work.length
    parts["activations"] = activations(shape, tokens, work.checkpointing, work.bfloat16) if shape else None
    parts["logits"] = head(shape, tokens, work.bfloat16, bool(work.adapters)) if shape else None
    return parts


def activations(shape: Shape, tokens: int, checkpointing: bool, bfloat16: bool = True) -> int:
    """What the forward pass keeps for the backward pass, in all layers.

    Bytes per token of a layer: 26 h + 4 q + 4 k + 8 m under autocast, 24 h + 8 q + 8 k + 16 m in float32, with h the hidden
    width, q and k those of queries and keys, m that of the feed-forward layer; norms of queries and keys add 6 or 8 of each.
    That is what autograd saves in transformers 5.23; a test measures it. With checkpointing 4 h, and one layer in full.
    """
    h, q, k, m = shape.hidden, shape.queries, shape.keys, shape.intermediate
    layer = 26 * h + 4 * (q + k) + 8 * m if bfloat16 else 24 * h + 8 * (q + k) + 16 * m
    if shape.qk_norm != "none":
        layer += (6 if bfloat16 and shape.qk_norm == "head" else 8) * (q + k)
    return tokens * (FLOAT32 * h * shape.layers + layer if checkpointing else layer * shape.layers)


def head(shape: Shape, tokens: int, bfloat16: bool = True, frozen: bool = False) -> int:
    """What the head needs: a tile of logits, the gradient of its input, and of its weights unless they are `frozen`."""
    tile = min(tokens, TILE[0]) * min(shape.vocab, TILE[1]) * (BFLOAT16 if bfloat16 else FLOAT32)
    return tile + FLOAT32 * shape.hidden * (tokens + (0 if frozen else shape.vocab))


def cache(model: Sized, sequences: int, length: int, bytes_each: int = BFLOAT16) -> int | None:
    """The keys and values of so many sequences at their full length."""
    return None if model.shape is None else bytes_each * sequences * model.shape.cached(length)
