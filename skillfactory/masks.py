"""Which stretches of a trace bear no loss: one rule for every trainer, from the segments that a trace carries."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from skillfactory.records import Kind

Mask = Literal["none", "wrong", "all-but-last"]
Span = tuple[int, int]  # characters, the end excluded
_OF_ATTEMPTS = (Kind.ATTEMPT, Kind.SKILL)  # an attempt's own words, those in blocks of skills among them


def silent(segments: Sequence[Mapping[str, Any]], mask: Mask) -> tuple[Span, ...]:
    """The spans of an assistant's turn that bear no loss, in order and apart: words of attempts with their blocks of skills.

    `segments` are those of a trace's row (traces.SCHEMA). "wrong" are the attempts that the verifier found wrong,
    "all-but-last" all attempts but the trace's last. What is said about an attempt, tags and phrases are learnt all the same.
    """
    if mask == "none":
        return ()
    own = [segment for segment in segments if segment["kind"] in _OF_ATTEMPTS]
    last = own[-1]["attempt_id"] if own else None
    hidden = [s for s in own if (s["right"] is False if mask == "wrong" else s["attempt_id"] != last)]
    return tuple((s["start"], s["end"]) for s in hidden if s["start"] < s["end"])


def parts(text: str, spans: Sequence[Span]) -> Iterator[tuple[str, bool]]:
    """The text cut at the borders of `spans`: each piece, none empty, with whether it bears loss."""
    at = 0
    for start, end in spans:
        if at < start:
            yield text[at:start], True
        yield text[start:end], False
        at = end
    if at < len(text):
        yield text[at:], True
