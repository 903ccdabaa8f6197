"""What is wrong with the structure of a trace."""

from collections.abc import Mapping
from typing import Any

from skillfactory.markup import final_answer, neutral, parse
from skillfactory.records import Kind


def faults(row: Mapping[str, Any], ends_right: bool) -> list[str]:
    """The faults of a row of the trace table, [] if it is sound; `ends_right` says whether its layout promises a right end.

    Besides the problems that `markup.parse` names: turns (not one user and one assistant turn), parts_differ (parsing the text
    does not give the segments of the row), attempts_differ (attempt_ids are not those of the segments), no_attempt, ends_wrong,
    answer_differs (the final answer is not the row's).
    """
    turns = row["conversations"] or []
    if [turn["role"] for turn in turns] != ["user", "assistant"] or not all(turn["content"] for turn in turns):
        return ["turns"]
    text, segments = turns[1]["content"], row["segments"] or []
    parsed = parse(text, tuple(sorted({s["skill"] for s in segments if s.get("skill")})))
    found = list(parsed.problems)
    stored = [(s["kind"], s["start"], s["end"], s.get("skill")) for s in segments]
    if [(part.kind, part.start, part.end, part.skill) for part in parsed.parts] != stored:
        found.append("parts_differ")
    attempts = [segment for segment in segments if segment["kind"] == Kind.ATTEMPT]
    if not attempts:
        found.append("no_attempt")
    elif ends_right and not attempts[-1]["right"]:
        found.append("ends_wrong")
    if [attempt["attempt_id"] for attempt in attempts] != row["attempt_ids"]:
        found.append("attempts_differ")
    answer, _ = final_answer(text)
    if answer is None or answer != neutral(row["answer"] or "").strip():
        found.append("answer_differs")
    return list(dict.fromkeys(found))
