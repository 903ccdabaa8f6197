"""Randomness by name: a seed for a thing is a hash of the run's seed and the thing's names, never seed + i.

So more questions, samples or workers never change what the earlier ones drew.
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from random import Random
from typing import Any

import numpy as np

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


def draw_orders(seed: int, question_id: str, variants: Sequence[str], samples: Sequence[int]) -> tuple[list[int], list[int]]:
    """Two independent orders in which a question's attempts are drawn: indices into `variants` and `samples`, permuted.

    The place of an attempt depends on its own (variant, sample) alone, so the order of a subset of the attempts is the
    subset of the order. Lazy curation rests on this: it asks for attempts in the order in which a build will draw them.
    """
    places = np.array([_name(variant) for variant in variants], np.uint64)
    places += np.array(samples, np.uint64) * np.uint64(_GOLDEN) + np.uint64(derive(seed, question_id, "draw order"))
    first = _mixed(places)
    second = _mixed(first + np.uint64(_GOLDEN))
    return np.argsort(first, kind="stable").tolist(), np.argsort(second, kind="stable").tolist()


@lru_cache(maxsize=1024)
def _name(variant: str) -> int:
    return derive(0, variant)


def _mixed(x: "np.ndarray[Any, np.dtype[np.uint64]]") -> "np.ndarray[Any, np.dtype[np.uint64]]":
    """Every number scattered over all 64 bits: the finaliser of splitmix64."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
