"""What a step of reinforcement came to: the means that metrics.jsonl gets, and samples of responses."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from skillfactory.supply import Asked
from skillfactory.train.checkpoints import cut
from skillfactory.train.rewards import Judged, Outcome

# TRL's measures that are kept, by the names that metrics.jsonl has for them.
TRAINED = {"entropy": "entropy", "kl": "kl", "clip_ratio/region_mean": "clipped", "cispo_clip_ratio": "clipped"}
MOST = 4_000  # characters of a sample


def measures(asked: Sequence[Asked], found: Sequence[Judged], lengths: Sequence[int], group: int) -> dict[str, float]:
    """The measures of a step's responses, which stand in groups of `group` responses to one question.

    no_signal is the share of groups whose responses all have the same reward: nothing can be learnt from them.
    """
    rewards = [judged.reward for judged in found]
    groups = [{reward for reward in rewards[i : i + group] if reward is not None} for i in range(0, len(rewards), group)]
    by_source: dict[str, list[float]] = defaultdict(list)
    for one, reward in zip(asked, rewards, strict=True):
        if reward is not None:
            by_source[one.source.label].append(reward)
    count = len(found)
    values = {
        "reward": fmean([reward for reward in rewards if reward is not None] or [0.0]),
        "response_length": fmean(lengths),
        "longest": max(lengths),
        "cut_off": sum(judged.outcome is Outcome.CUT_OFF for judged in found) / count,
        "malformed": sum(judged.outcome is Outcome.MALFORMED for judged in found) / count,
        "undecided": sum(judged.outcome is Outcome.UNDECIDED for judged in found) / count,
        "no_signal": sum(len(rewards) < 2 for rewards in groups) / len(groups),
        "answers": fmean([judged.answers for judged in found]),
        "reflections": fmean([judged.reflections for judged in found]),
    }
    return (
        values | {f"reward/{label}": fmean(own) for label, own in sorted(by_source.items())} if len(by_source) > 1 else values
    )


class Samples:
    """The file rollouts.jsonl: a few responses of every so many steps, long ones cut."""

    def __init__(self, path: Path, every: int, count: int, resumed: int) -> None:
        self._path, self._every, self._count = path, every, count
        cut(path, resumed)

    def add(self, step: int, asked: Sequence[Asked], texts: Sequence[str], found: Sequence[Judged]) -> None:
        """Writes the samples of a step, if it is one to sample: the first responses to the first questions."""
        if not self._count or (step - 1) % self._every:
            return
        distance = max(1, len(texts) // self._count)
        with self._path.open("a", encoding="utf-8") as file:
            for n in range(0, len(texts), distance)[: self._count]:
                file.write(json.dumps(_sample(step, asked[n], texts[n], found[n]), ensure_ascii=False) + "\n")


def _sample(step: int, asked: Asked, text: str, judged: Judged) -> Mapping[str, Any]:
    told = {"reward": judged.reward, "outcome": judged.outcome, "reason": judged.reason}
    question = asked.question
    return {"step": step, "question": question.id, "source": asked.source.label, "prompt": question.prompt[:MOST]} | {
        "response": text[:MOST],
        **told,
    }
