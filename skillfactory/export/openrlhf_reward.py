"""The reward that OpenRLHF calls for its responses: 1.0 if the task's own check finds the final answer right, else 0.0."""

from typing import Any

import torch

try:
    from skillfactory.reward import score
except ImportError as error:
    raise ImportError(
        "this reward is computed by skillfactory, which is missing here; install it into the environment of every Ray worker: "
        "pip install CLONE, the folder of a clone in the version that export.json names"
    ) from error

TAIL = 30  # letters of the prompt's end, by which it is found where OpenRLHF has cut its beginning


def reward_func(queries: list[str], prompts: list[str], labels: list[str], **_: Any) -> dict[str, Any]:
    """The rewards of responses, each given as one text with its prompt; `labels` say what the questions are."""
    found = [score(response(query, prompt), label) for query, prompt, label in zip(queries, prompts, labels, strict=True)]
    rewards = torch.tensor(found)
    return {"rewards": rewards, "scores": rewards, "extra_logs": {"right": rewards}}


def response(query: str, prompt: str) -> str:
    """What follows the prompt: that names the tags of an answer, which must not be taken for the response's.

    The text comes from token ids, so spaces may differ from the prompt's, and its beginning may have been cut off.
    """
    shown = "".join(query.split())
    for wanted in ("".join(prompt.split()), "".join(prompt.split())[-TAIL:]):
        at = shown.find(wanted)
        if at >= 0:
            return query[_end(query, at + len(wanted)) :]
    raise ValueError(f"the prompt isn't in the text that OpenRLHF hands over; it ends in {prompt[-TAIL:]!r}")


def _end(text: str, letters: int) -> int:
    """Where so many letters of `text` that are no spaces end."""
    seen = 0
    for place, letter in enumerate(text):
        if seen == letters:
            return place
        seen += not letter.isspace()
    return len(text)
