"""The reward of a response for trainers that know nothing of tasks: the task's own check, told what the question is as JSON."""

import json
from functools import lru_cache

from skillfactory.errors import InputError
from skillfactory.markup import final_answer
from skillfactory.records import Check, Question
from skillfactory.supply import Asked
from skillfactory.tasks import resolve
from skillfactory.tasks.base import Task


def truth(asked: Asked) -> str:
    """What `score` must know of a question: its task with options, and its facts, as JSON text of one line."""
    source = asked.source
    facts = dict(asked.question.facts)
    return json.dumps({"task": source.name, "option": dict(source.option), "facts": facts}, ensure_ascii=False, sort_keys=True)


def score(response: str, said: str) -> float:
    """1.0 if the final answer of a response is right, else 0.0; `said` is what `truth` gave.

    What can't be decided is 0.0, as these trainers have no way to leave a response out. InputError if `said` is no such text;
    what a check of the user's raises goes through: scored 0, it would teach the model to please the error.
    """
    task, question = _question(said)
    answer, _ = final_answer(response)
    if answer is None:
        return 0.0
    grade = task.check(question, answer)
    if grade.reason.startswith("raised_"):
        raise InputError(f"the grader of the task {task.name} raised {grade.reason.removeprefix('raised_')}: {answer[:200]!r}")
    return float(grade.check is Check.RIGHT)


@lru_cache(maxsize=4096)
def _question(said: str) -> tuple[Task, Question]:
    try:
        told = json.loads(said)
        task = _task(told["task"], json.dumps(told["option"], sort_keys=True))
        facts = told["facts"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"expected the ground truth that an export wrote, came {said[:200]!r}: {error}") from error
    return task, task.question(facts)


@lru_cache(maxsize=64)
def _task(name: str, option: str) -> Task:
    return resolve(name, json.loads(option))
