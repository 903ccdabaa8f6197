"""A scripted model that multiplies, rightly or not as its seed decides: a pure function of the request, for tests."""

import json
import os
import re
from pathlib import Path

from skillfactory.flow import Request
from skillfactory.seeds import rng

RIGHT_RATE, TRUE_VERDICT_RATE = 0.35, 0.75


def answer(request: Request) -> str:
    """An attempt at the product of the first two numbers of the prompt, or a review of the attempt that the prompt holds."""
    user = request.messages[-1][1]
    random = rng(request.seed, "solver")
    if "<verdict>" in user:
        return review(user, TRUE_VERDICT_RATE, random.random(), random.getrandbits(32))
    return attempt(user, random.random() < RIGHT_RATE, random.getrandbits(32))


def product(user: str) -> int:
    """The right answer to the question in the prompt."""
    first, second = re.findall(r"\d+", user)[:2]
    return int(first) * int(second)


def attempt(user: str, right: bool, salt: int) -> str:
    """A solution; some wrong ones have no answer, and some texts are equal."""
    if not right and salt % 11 == 0:
        return f"I can't do this one ({salt})."
    value = product(user) if right else product(user) + 1 + salt % 50
    filler = " ".join(["step"] * (5 + salt % 40))
    return f"Let me multiply ({salt % 40}): {filler}.\n<answer>{value}</answer>"


def review(user: str, true_rate: float, chance: float, salt: int) -> str:
    """A review whose verdict is true with `true_rate`; some have none."""
    if salt % 13 == 0:
        return f"I lost the thread ({salt})."
    right = re.findall(r"<answer>(\d+)</answer>", user)[-1] == str(product(user))
    says = right if chance < true_rate else not right
    return f"I went over the steps ({salt % 1000}).\n<verdict>{'Correct' if says else 'Incorrect'}</verdict>"


def noted(request: Request) -> str:
    """As `answer`, and every request leaves a line in the file that ASKED names."""
    with Path(os.environ["ASKED"]).open("a", encoding="utf-8") as file:
        file.write(json.dumps([request.key, request.sampling.max_tokens]) + "\n")
    return answer(request)
