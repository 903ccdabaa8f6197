"""The order in which rows are learnt: batches of like length, a pure function of the seed."""

from collections.abc import Sequence

from skillfactory.seeds import rng

_POOL = 50  # batches whose rows are sorted by length together


def order(lengths: Sequence[int], rounds: Sequence[Sequence[int]], batch: int, seed: int) -> list[int]:
    """The rows of all `rounds` (epochs) one after the other, so that each `batch` of them has rows of like length.

    Within a round rows and batches are shuffled. Rows that fill no batch at the end of a round begin the next one. That the
    order is fixed beforehand makes a resumed training go on where it was: it passes over what it has had.
    """
    done: list[int] = []
    rest: list[int] = []
    for number, rows in enumerate(rounds):
        random = rng(seed, "order of rows", number)
        fresh = list(rows)
        random.shuffle(fresh)
        rest += fresh
        full = len(rest) - len(rest) % batch
        for start in range(0, full, batch * _POOL):
            pool = sorted(rest[start : min(start + batch * _POOL, full)], key=lambda row: lengths[row])
            batches = [pool[i : i + batch] for i in range(0, len(pool), batch)]
            random.shuffle(batches)
            done += [row for each in batches for row in each]
        rest = rest[full:]
    return done + rest
