"""Seconds that training and generation take: work over a GPU's peak figures, times the share of them that is reached."""

from skillfactory.forecast.gpus import Gpu
from skillfactory.forecast.memory import BFLOAT16
from skillfactory.forecast.shapes import Sized

TRAINING = 0.4  # share of peak arithmetic reached; public reports of dense models on one node: 0.35-0.55
GENERATING = 0.5  # share of peak bandwidth or arithmetic, whichever binds, reached by a batching engine


def training_flops(model: Sized, tokens: float, length: float, checkpointing: bool, passes: int = 3) -> float:
    """Operations to learn `tokens` in rows of `length`, zero if the size is unknown.

    A forward pass is 2 per weight and token, a backward pass twice that (Kaplan et al. 2020, section 2.1), and checkpointing a
    second forward pass; `passes` counts in forward passes, without the latter. An embedding apart from the head is looked up,
    not multiplied. Scores and values of causal attention add 4 q per layer, token and token seen, on average half the length.
    """
    if model.parameters is None:
        return 0.0
    weights, attention = model.parameters, 0.0
    if model.shape is not None:
        shape = model.shape
        weights -= 0 if shape.tied else shape.vocab * shape.hidden
        attention = 2 * shape.layers * shape.queries * length
    return (passes + checkpointing) * tokens * (2 * weights + attention)


def training_seconds(model: Sized, tokens: float, length: float, checkpointing: bool, gpu: Gpu, passes: int = 3) -> float:
    """Seconds on one GPU."""
    return training_flops(model, tokens, length, checkpointing, passes) / (gpu.tflops * 1e12 * TRAINING)


def updating_seconds(weights: int | None, updates: float, gpu: Gpu) -> float:
    """Seconds on one GPU for so many updates: AdamW reads weight, gradient and two moments and writes all but the gradient."""
    return (weights or 0) * 28 * updates / (gpu.bandwidth * 1e9 * GENERATING)


def generating_seconds(model: Sized, tokens: float, prompt_tokens: float, length: float, sequences: int, gpu: Gpu) -> float:
    """Seconds on one GPU for so many new `tokens` after `prompt_tokens`, `sequences` at a time, which end at `length`.

    A step gives every sequence a token. It reads all weights (bfloat16) and the cache, on average half full, or computes 2
    operations per weight and sequence, whichever takes longer (the roofline of Williams et al. 2009). Prompts are arithmetic.
    """
    if model.parameters is None:
        return 0.0
    held = BFLOAT16 * model.shape.cached(int(length / 2)) if model.shape else 0
    read = (BFLOAT16 * model.parameters + sequences * held) / (gpu.bandwidth * 1e9)
    compute = 2 * model.parameters * sequences / (gpu.tflops * 1e12)
    prompts = training_flops(model, prompt_tokens, length, checkpointing=False, passes=1) / (gpu.tflops * 1e12 * TRAINING)
    return tokens / sequences * max(read, compute) / GENERATING + prompts
