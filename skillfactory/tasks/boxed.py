r"""The final answer of a reasoning model's response: what stands in `\boxed{…}` after the thinking."""

import re
from collections.abc import Callable

from skillfactory.tasks.numbers import closing_brace

_BOX = re.compile(r"\\(?:boxed|fbox)\{")
_THINK_BEGINS = ("<think>", "<|begin_of_thought|>")  # OpenThoughts 2 and 3; OpenThoughts-114k
_THINK_ENDS = ("</think>", "<|end_of_thought|>")


def still_thinking(response: str) -> bool:
    """Whether the thinking that was opened last is never closed."""
    return max(map(response.rfind, _THINK_BEGINS)) > max(map(response.rfind, _THINK_ENDS))


def after_thinking(response: str) -> str:
    """What follows the last tag that closes the thinking: "" if it stays open, the whole response if it has no such tags.

    A response without tags is one that never thought in them; it has nothing before its answer to be kept apart.
    """
    if still_thinking(response):
        return ""
    end = max((position + len(tag) for tag in _THINK_ENDS if (position := response.rfind(tag)) >= 0), default=0)
    return response[end:]


def boxed(text: str) -> list[str]:
    r"""The contents of the `\boxed{…}` and `\fbox{…}` of `text` in order, outermost only; one that never closes is left out.

    Time is linear in the length of the text: an unclosed box ends the search.
    """
    found: list[str] = []
    opening = _BOX.search(text)
    while opening:
        end = closing_brace(text, opening.end() - 1)
        if end < 0:
            break
        found.append(text[opening.end() : end].strip())
        opening = _BOX.search(text, end + 1)
    return found


def settled(answers: list[str], same: Callable[[str, str], bool]) -> str | None:
    """The one answer that all `answers` are, as first written, or None if two differ; spaces aside or by `same`."""
    first, *others = answers
    distinct = {"".join(other.split()): other for other in others}
    distinct.pop("".join(first.split()), None)
    return first if all(same(first, other) for other in distinct.values()) else None
