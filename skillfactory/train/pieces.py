"""A batch of responses cut into pieces of like length, so that a forward pass computes little padding.

Importing it loads torch.
"""

from collections.abc import Mapping
from typing import Any

import torch

Batch = dict[str, Any]  # tensors whose first dimension is the response, and scalars


def pieces(inputs: Mapping[str, Any], tokens: int, skip: bool) -> list[Batch]:
    """The rows of `inputs` in pieces of at most `tokens` tokens with padding, or of one row; at least one piece.

    With `skip`, rows of advantage 0 or without a token in the loss are left out: their gradient is 0 where the loss has no
    other term. The normaliser in the inputs counts them all the same.
    """
    prompts, responses = inputs["prompt_mask"].sum(1), inputs["completion_mask"].sum(1)
    lengths = prompts + responses
    order = torch.argsort(lengths, stable=True)
    if skip:
        telling = (inputs["advantages"] != 0) & (responses > 0)
        order = order[telling[order]] if bool(telling.any()) else order[:1]
    found: list[list[int]] = []
    width = 0
    for row in order.tolist():
        prompt, response = int(prompts[row]), int(responses[row])
        if found:
            widest = max(width, prompt + response)  # of the piece with this row in it
            if widest * (len(found[-1]) + 1) <= tokens:
                found[-1].append(row)
                width = widest
                continue
        found.append([row])
        width = prompt + response
    return [trimmed(inputs, torch.tensor(rows, device=order.device)) for rows in found]


def trimmed(inputs: Mapping[str, Any], rows: torch.Tensor) -> Batch:
    """The `rows` of `inputs` without the columns that hold nothing but padding: prompts have it left, responses right."""
    prompt = int(inputs["prompt_mask"][rows].sum(1).max())
    response = max(1, int(inputs["completion_mask"][rows].sum(1).max()))
    widest = inputs["completion_ids"].shape[1]
    made: Batch = {}
    for name, value in inputs.items():
        if not isinstance(value, torch.Tensor) or value.ndim == 0:
            made[name] = value
        elif name.startswith("prompt_"):
            made[name] = value[rows, value.shape[1] - prompt :]
        elif value.ndim == 2 and value.shape[1] == widest:
            made[name] = value[rows, :response]
        else:
            made[name] = value[rows]
    return made


def share(loss: str, piece: Mapping[str, Any], whole: Mapping[str, Any]) -> float:
    """What the loss of a piece counts in that of the whole batch, so that the sum over all pieces is the whole's.

    Losses that are sums over a normaliser of the whole batch count fully; means over rows or tokens by their rows or tokens.
    """
    if loss in ("grpo", "dr_grpo"):
        return len(piece["completion_mask"]) / len(whole["completion_mask"])
    if loss == "bnpo":
        return float(piece["completion_mask"].sum() / whole["completion_mask"].sum().clamp(min=1))
    return 1.0
