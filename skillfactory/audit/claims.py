"""The arithmetic of attempts and reflections, counted over distinct texts."""

from array import array
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from skillfactory.audit.arithmetic import Outcome, claims
from skillfactory.audit.duplicates import fingerprint
from skillfactory.stats import Share, share

GROUPS = (
    "right attempts",
    "wrong attempts",
    "reflections, verdict right",
    "reflections, verdict wrong",
    "reflections, no verdict",
)


@dataclass(frozen=True, slots=True)
class Claims:
    """The arithmetic of one group of texts; a text counts once, however often it stands in traces."""

    texts: int
    claims: int  # in all texts
    wrong_claims: int
    disputed_claims: int  # false ones that the text goes on to call false
    without_claims: Share  # texts that hold nothing to check
    with_wrong: Share  # texts that hold a wrong claim, of all
    with_wrong_of_checkable: Share  # the same, of those that hold a claim
    with_disputed: Share  # texts that hold a disputed claim, of all


class ClaimLedger:
    """Keeps 15 bytes for each text it is given."""

    def __init__(self) -> None:
        self._hashes, self._groups = array("Q"), array("B")
        self._counts = array("H")  # three a text: claims, wrong ones, disputed ones

    def add(self, text: str, group: str) -> None:
        """Takes a text of one of `GROUPS`."""
        self._hashes.append(fingerprint(text, group))
        self._groups.append(GROUPS.index(group))
        self._counts.extend(_counts(text))

    def result(self) -> dict[str, Claims]:
        """The counts by group, groups without a text left out."""
        _, first = np.unique(np.array(self._hashes, np.uint64), return_index=True)
        groups = np.array(self._groups, np.uint8)[first]
        counts = np.array(self._counts, np.int64).reshape(-1, 3)[first]
        found = {}
        for number, group in enumerate(GROUPS):
            mine = counts[groups == number]
            if not len(mine):
                continue
            total, (all_claims, all_wrong, all_disputed) = len(mine), map(int, mine.sum(axis=0))
            checkable, wrong, disputed = map(int, (mine > 0).sum(axis=0))
            found[group] = Claims(
                texts=total,
                claims=all_claims,
                wrong_claims=all_wrong,
                disputed_claims=all_disputed,
                without_claims=share(total - checkable, total),
                with_wrong=share(wrong, total),
                with_wrong_of_checkable=share(wrong, checkable),
                with_disputed=share(disputed, total),
            )
        return found


@lru_cache(maxsize=4096)  # a question's traces may share texts
def _counts(text: str) -> tuple[int, int, int]:
    """How many claims a text holds, how many wrong and how many disputed ones."""
    found = Counter(claim.outcome for claim in claims(text))
    return (
        min(found.total(), 65535),
        min(found[Outcome.WRONG], 65535),
        min(found[Outcome.DISPUTED], 65535),
    )
