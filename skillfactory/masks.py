"""Which stretches of a trace bear no loss: one rule for every trainer, from the segments that a trace carries."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from skillfactory.records import Kind

Mask = Literal["none", "wrong", "all-but-last"]
Span = tuple[int, int]  # characters, the end excluded
_OF_ATTEMPTS = (Kind.ATTEMPT, Kind.SKILL)  # an attempt's own words, those in blocks of skills among them


def silent(segments: Sequence[Mapping[str, Any]], mask: Mask) -> tuple[Span, ...]:
    """The spans of an assistant's turn that bear no loss, in order and apart: words of attempts with their blocks of skills.

    `segments` are those of a trace's row (traces.SCHEMA). "wrong" are the attempts that the verifier didn't find right,
    "all-but-last" all attempts but the trace's last, also where the last one is an earlier one said again. What is said about
    an attempt, tags, phrases and the final answer are learnt all the same.
    """
    if mask == "none":
        return ()
    own = [segment for segment in segments if segment["kind"] in _OF_ATTEMPTS]
    if mask == "wrong":
        hidden = [segment for segment in own if segment["right"] is False]
    else:
        ends = [place for place, segment in enumerate(own, 1) if segment["kind"] == Kind.ATTEMPT]  # blocks come before theirs
        hidden = own[: ends[-2]] if len(ends) > 1 else []
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
