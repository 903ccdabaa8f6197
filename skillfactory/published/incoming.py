"""Published evaluation data → a run directory of an evaluation, with its numbers.

What is right is taken from the file; nothing is verified again, as a published row names no verifier of ours. Attempts and
reflections are read from the texts, and an attempt is right if the file says so of its answer.
"""

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from skillfactory.config import dump, from_options
from skillfactory.errors import InputError, unknown
from skillfactory.evaluation import NUMBERS, SCHEMAS, Summary, read_responses, rows_of
from skillfactory.examination import Evaluated, Response, account
from skillfactory.flow import Flow
from skillfactory.funnel import Funnel
from skillfactory.measure import COLUMNS, measured
from skillfactory.progress import Progress
from skillfactory.published import OURS
from skillfactory.published.reading import Entry, Said, entries, files, told
from skillfactory.records import Check, Drop, Question, Stop
from skillfactory.run import NoEngine, carry_on
from skillfactory.rundir import Stage, write_text
from skillfactory.seeds import digest
from skillfactory.skills import shown
from skillfactory.suites import Group


def load(source: Path, output: Path, kinds: Mapping[str, str], progress: Progress) -> Summary:
    """Imports the file or folder `source` into the run directory `output`, and gives the numbers of an evaluation.

    `kinds`: task → what its questions are to the model. A killed import goes on with the same command.
    """
    started = time.monotonic()
    parts = files(source)
    groups = _groups(parts, kinds)
    about = told(parts[0])
    stage = _stage(source, parts, groups, about)
    progress.begin("published", "questions", sum(pq.read_metadata(part).num_rows for part in parts))
    engine = NoEngine("an import asks for nothing")
    outcome = carry_on(output, stage, _flows(parts, groups), lambda: engine, progress)
    numbers = {
        **{
            "model": stage.model,
            "suite": stage.settings["source"]["name"],
            "retry": about.get("retry"),
            "seed": about.get("seed"),
        },
        "stamp": outcome.stamp,
        **{name: outcome.counts.get(name, 0) for name in ("tokens", "prompt_tokens")},
        **measured(list(groups.values()), read_responses(output, COLUMNS), {}),
    }
    write_text(output / NUMBERS, json.dumps(numbers, indent=2, ensure_ascii=False) + "\n")
    lost = outcome.counts.get("questions/dropped/no_responses", 0)
    funnel = Funnel("published", "questions", outcome.flows, outcome.flows - lost, {"no_responses": lost} if lost else {})
    seconds = time.monotonic() - started
    return Summary(output, numbers, (funnel,), 0, 0, 0, 0, seconds, outcome.nothing_to_do, notes=tuple(outcome.notes))


def _groups(parts: Sequence[Path], kinds: Mapping[str, str]) -> dict[str, Group]:
    """The group of each task that the files name, in order: as our export says, else called after the task."""
    known = {row["name"]: from_options(Group, row, f"{part}: group") for part in parts for row in told(part).get("groups", ())}
    tasks = dict.fromkeys(
        str(task)
        for part in parts
        for batch in pq.ParquetFile(part).iter_batches(1024, columns=["task"])
        for task in batch.column(0).to_pylist()
    )
    for task in kinds:
        if task not in tasks:
            raise unknown("task of --kind", task, tasks)
    found = {}
    taken = set(known)
    for task in tasks:
        name = task if task in known else _free(re.sub(r"[^\w.+-]+", "-", task)[:64] or "task", taken)
        taken.add(name)
        group = known.get(task) or Group(name, name, task, part="all")
        found[task] = group if task not in kinds else from_options(Group, {**dump(group), "kind": kinds[task]}, "--kind:")
    return found


def _free(name: str, taken: Collection[str]) -> str:
    """`name`, with a number after it if another task has it: `math/500` and `math 500` are two."""
    names = (f"{name[: 63 - len(str(number))]}-{number}" for number in count(2))
    return name if name not in taken else next(each for each in names if each not in taken)


def _stage(source: Path, parts: Sequence[Path], groups: Mapping[str, Group], about: Mapping[str, Any]) -> Stage[Evaluated]:
    content = blake2b(digest_size=12)
    for part in parts:
        with part.open("rb") as file:
            while block := file.read(1 << 20):
                content.update(block)
    model = about.get("model") or f"published {source.name}"
    return Stage(
        command="evaluate",
        model=f"{model} (imported)",
        settings={
            "groups": {group.name: {"place": n, **dump(group)} for n, group in enumerate(groups.values())},
            **{name: about.get(name) for name in ("decoding", "retry", "seed")},
            "source": {"name": source.name, "content": content.hexdigest()},
        },
        notes={},
        schemas=SCHEMAS,
        rows=rows_of,
        counts=_account,
        title=f"Evaluation imported from {source.name}: {', '.join(group.name for group in groups.values())}",
    )


def _flows(parts: Sequence[Path], groups: Mapping[str, Group]) -> Iterator[Flow[Evaluated]]:
    """A flow for every row, which asks for nothing. A question that stands twice is two questions."""
    seen: Counter[str] = Counter()
    for part in parts:
        for entry in entries(part):
            group = groups[entry.task]
            id = str(entry.others.get("id") or f"{group.name}-{digest(entry.task, entry.question, entry.answer)}")
            seen[f"{group.name}/{id}"] += 1
            times = seen[f"{group.name}/{id}"]
            yield _told(_evaluated(entry, group, id if times == 1 else f"{id}-{times}"))


def _told(evaluated: Evaluated) -> Flow[Evaluated]:
    yield from ()
    return evaluated


def _evaluated(entry: Entry, group: Group, id: str) -> Evaluated:
    if not entry.said:
        return Evaluated(group.name, None, drops=(Drop("published", id, "no_responses", entry.where),))
    samples = entry.metadata[OURS].get("samples", ()) if isinstance(entry.metadata.get(OURS), Mapping) else ()
    ours = len(samples) == len(entry.said) and isinstance(entry.others.get("facts"), Mapping)
    facts = entry.others["facts"] if ours else {"published": dict(entry.rest)}
    task, level = (str(entry.others.get(name, "")) if ours else "" for name in ("task", "level"))
    question = Question(id, task or entry.task, level, entry.question, entry.answer, facts)
    judge = _judge(entry)
    details = samples if ours else [{}] * len(entry.said)
    try:
        responses = tuple(
            _response(question, said, {"sample": number, **detail, "group": group.name}, judge)
            for number, (said, detail) in enumerate(zip(entry.said, details, strict=True))
        )
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{entry.where}, column 'metadata': what an export of ours says there was changed ({error})"
        ) from error
    return Evaluated(group.name, question, responses)


def _judge(entry: Entry) -> Callable[[str], Check]:
    """What the file says of an answer, in whichever response it stands; UNDECIDED where it says nothing."""
    known = {answer.strip(): right for said in entry.said for answer, right in said.inner}
    known |= {said.answer.strip(): said.right for said in entry.said if said.answer is not None}
    checks = {answer: Check.RIGHT if right else Check.WRONG for answer, right in known.items()}
    return lambda answer: checks.get(answer.strip(), Check.UNDECIDED)


def _response(question: Question, said: Said, detail: Mapping[str, Any], judge: Callable[[str], Check]) -> Response:
    """A response with what the file, or our own export, says of it."""
    check = Check.RIGHT if said.right else Check.MISSING if said.answer is None else Check.WRONG
    stop = None if said.cut is None else Stop.LENGTH if said.cut else Stop.END
    skills = shown(said.text, judge)
    return Response(
        id=f"{detail['group']}/{question.id}/{int(detail['sample'])}",
        question_id=question.id,
        group=detail["group"],
        sample=int(detail["sample"]),
        text=said.text,
        answer=said.answer,
        check=Check(detail.get("check", check)),
        reason=detail.get("reason", "published"),
        stop=Stop(detail["stop"]) if detail.get("stop") else stop,
        tokens=detail.get("tokens"),
        prompt_tokens=detail.get("prompt_tokens"),
        requests=detail.get("requests"),
        keys=(),
        skills=replace(skills, uses_tags=None, well_formed=None) if detail.get("retried") else skills,
    )


def _account(evaluated: Evaluated) -> dict[str, int]:
    """As for an evaluation, with the tokens that an export of ours tells."""
    spent = {name: sum(getattr(each, name) or 0 for each in evaluated.responses) for name in ("tokens", "prompt_tokens")}
    return {**account(evaluated), **spent}
