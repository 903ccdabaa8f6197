"""Randomness by name: a seed for a thing is a hash of the run's seed and the thing's names, never seed + i.

So more questions, samples or workers never change what the earlier ones drew.
"""

import hashlib
from collections.abc import Sequence
from random import Random

import numpy as np

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def derive(seed: int, *names: str | int) -> int:
    """A 64-bit seed for `names` under `seed`; different names give unrelated seeds."""
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def rng(seed: int, *names: str | int) -> Random:
    """A random generator for `names` under `seed`."""
    return Random(derive(seed, *names))


def digest(*parts: str) -> str:
    """A 16-hex-digit id of `parts`, stable across runs and machines (the parts' borders count)."""
    text = "\x1f".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def draw_order(seed: int, question_id: str, variants: Sequence[str], samples: Sequence[int], purpose: str = "") -> list[int]:
    """An order in which a question's attempts are drawn: indices into `variants` and `samples`, a seeded permutation.

    The place of an attempt depends on its own (variant, sample) alone, so the order of a subset of the attempts is the
    subset of the order. Lazy curation rests on this: it asks for attempts in the order in which a build will draw them.
    Orders for different purposes are independent.
    """
    base = derive(seed, question_id, "draw order", purpose)
    hashes = {variant: derive(base, variant) for variant in set(variants)}
    x = np.array([hashes[variant] for variant in variants], np.uint64)
    x += np.array(samples, np.uint64) * np.uint64(_GOLDEN)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # the finaliser of splitmix64
        x ^= x >> np.uint64(shift)
        x *= np.uint64(factor)
    x ^= x >> np.uint64(31)
    order: list[int] = np.argsort(x, kind="stable").tolist()
    return order
