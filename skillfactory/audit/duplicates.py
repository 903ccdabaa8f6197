"""What stands more than once in a set of traces, from 8-byte hashes."""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray


def fingerprint(*parts: str) -> int:
    """A 64-bit hash of `parts`; among a million texts the chance that any two unlike ones share it is 3 in 100 million."""
    found = blake2b(digest_size=8)
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        found.update(len(raw).to_bytes(8, "little"))
        found.update(raw)
    return int.from_bytes(found.digest(), "little")


@dataclass(frozen=True, slots=True)
class Duplicates:
    """What stands more than once."""

    equal_traces: int  # traces that equal an earlier one, prompt and text
    attempts: int  # distinct ones
    attempts_in_several_traces: int
    traces_that_repeat_a_text: int  # that show the same attempt text under two ids
    questions_with_equal_text: int  # whose prompt is that of another question, white space aside


class DuplicateLedger:
    """Keeps the hashes: 16 bytes a trace, 8 an attempt, 16 a question."""

    def __init__(self) -> None:
        self._traces, self._attempts = array("Q"), array("Q")
        self._questions: dict[int, int] = {}  # question → prompt
        self._repeats = 0

    def add(self, question: str, prompt: str, text: str, attempts: Iterable[tuple[str, str]]) -> None:
        """Takes a trace; `attempts` are the ids and texts of those it shows."""
        texts = dict(attempts)
        self._traces.append(fingerprint(prompt, text))
        self._attempts.extend(fingerprint(name) for name in texts)
        self._questions[fingerprint(question)] = fingerprint(" ".join(prompt.split()))
        self._repeats += len(set(texts.values())) < len(texts)

    @property
    def questions(self) -> int:
        """How many distinct question ids there were."""
        return len(self._questions)

    def result(self) -> Duplicates:
        """The counts."""
        uses = _counts(self._attempts)
        prompts = _counts(array("Q", self._questions.values()))
        return Duplicates(
            equal_traces=len(self._traces) - len(_counts(self._traces)),
            attempts=len(uses),
            attempts_in_several_traces=int((uses > 1).sum()),
            traces_that_repeat_a_text=self._repeats,
            questions_with_equal_text=int(prompts[prompts > 1].sum()),
        )


def _counts(hashes: Sequence[int]) -> NDArray[np.int64]:
    """How often each distinct hash stands."""
    return np.unique(np.array(hashes, np.uint64), return_counts=True)[1].astype(np.int64)
