"""Prints how fast the generated tasks' verifiers are: ordinary answers a second, and the slowest of many hostile ones.

CPU time of this process, so that a busy machine does not change the figures much. Exits 1 if a bar is missed: 100,000
ordinary Countdown answers a second, and less than a millisecond for any input.

    python benchmarks/check_speed.py
"""

import sys
import time
from itertools import cycle, islice
from typing import Any

from skillfactory.records import Question
from skillfactory.tasks import resolve
from skillfactory.tasks.base import Task

ORDINARY = 200_000  # answers per task
ROUNDS = 7  # per attack; the fastest counts, since a verifier's work is the same in each and a disturbance is not its own
RATE_BAR = 100_000
LATENCY_BAR = 1e-3

ATTACKS = {
    "10 MB of digits": "1" * 10_000_000,
    "10 MB of blanks": " " * 10_000_000,
    "100,000 parentheses": "(" * 100_000,
    "256 parentheses": "(" * 256,
    "nested to the limit": "(" * 127 + "9" + ")" * 127,
    "128 numbers": "9*" * 127 + "9",
    "a tower of powers": "9**9**9**9",
    "a 256-digit number": "9" * 256,
    "16 nine-digit quotients": "/".join(["999999999"] * 16),
    "full-width digits": "９" * 256,
    "nulls": "\x00" * 256,
    "64 letters": "a" * 64,
    "64 digits": "9" * 64,
    "code": "__import__('os').system('true')",
}


def answers_for(task: Task, question: Question) -> list[str]:
    """What a model typically answers: right, wrong in value, spoiled, none."""
    gold = question.answer
    spoiled = {
        "countdown": [" + ".join(map(str, question.facts.get("numbers", []))), f"{gold} = {question.facts.get('target')}"],
        "letter_countdown": [gold[::-1], gold[:-1] + "s"],
        "acronym": [gold[::-1], gold[:-1] + "s"],
        "multiplication": [f"{gold[:-1]}7", f"about {gold}"],
    }
    return [gold, *spoiled[task.name], ""]


def rate(task: Task, level: str) -> float:
    """Ordinary answers that are checked in a second."""
    questions = [question for question in task.questions(500, level, 0, "eval") if isinstance(question, Question)]
    pairs = [(question, answer) for question in questions for answer in answers_for(task, question)]
    todo = list(islice(cycle(pairs), ORDINARY))
    check = task.check
    start = time.process_time()
    for question, answer in todo:
        check(question, answer)
    return len(todo) / (time.process_time() - start)


def slowest(task: Task, question: Question) -> tuple[float, str]:
    """The seconds that the worst attack takes, and its name."""

    def seconds(answer: str) -> float:
        start = time.process_time()
        task.check(question, answer)
        return time.process_time() - start

    return max((min(seconds(answer) for _ in range(ROUNDS)), name) for name, answer in ATTACKS.items())


def main() -> int:
    """0 if every bar is met."""
    widest: dict[str, dict[str, Any]] = {
        "countdown": {"numbers": [9] * 8 + [999_999_999] * 8, "target": 1, "use_all": True},
        "letter_countdown": {"letters": "a" * 32, "length": 8},
        "acronym": {"words": [f"a{'b' * i}" for i in range(32)], "length": 8},
        "multiplication": {"factors": [999_999_999_999] * 2},
    }
    met = True
    print(f"{'task':<18}{'level':>6}{'answers/s':>14}{'worst attack':>16}")
    for name, facts in widest.items():
        task = resolve(name)
        worst, attack = slowest(task, task.question(facts))
        for level in task.levels:
            speed = rate(task, level)
            met = met and worst < LATENCY_BAR and (speed >= RATE_BAR or name != "countdown")
            print(f"{name:<18}{level:>6}{speed:>14,.0f}{worst * 1e6:>13.0f} µs  ({attack})")
    print(
        "bars met" if met else f"MISSED: {RATE_BAR:,} ordinary Countdown answers/s and {LATENCY_BAR * 1e3:.0f} ms for any input"
    )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
