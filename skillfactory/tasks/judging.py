"""The grades of the answers to one question: each is asked for once, and a verifier that hangs is not asked without end."""

from collections.abc import Callable

from skillfactory.records import Check, Grade

MAX_LOST = 3  # gradings of attempts of one question that may run out of time; each costs seconds
NOT_ASKED = Grade(Check.UNDECIDED, "not_asked")  # too many were lost before
_LOST = ("timeout", "worker_died")


class Judging:
    """What a verifier finds for the answers to one question.

    Called with a final answer it always asks. `attempt`, for all that a response tries on its way, asks no more once MAX_LOST
    gradings have been lost, so that a response full of what the verifier can't bear costs seconds and not an hour.
    """

    def __init__(self, check: Callable[[str], Grade]) -> None:
        self._check = check
        self._found: dict[str, Grade] = {}
        self._lost = 0

    def __call__(self, answer: str) -> Grade:
        """The grade of a final answer."""
        found = self._found.get(answer)
        if found is None:
            found = self._found[answer] = self._check(answer)
            if found.reason in _LOST:
                self._lost += 1
        return found

    def attempt(self, answer: str) -> Grade:
        """The grade of an answer on the way; NOT_ASKED if too many were lost and it isn't known."""
        if self._lost >= MAX_LOST:
            return self._found.get(answer, NOT_ASKED)
        return self(answer)
