"""The causal test on disk: a run of `skillfactory evaluate` in; continuations, intervene.json and a summary out."""

import heapq
import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from skillfactory.config import checked, construct
from skillfactory.curate import sources
from skillfactory.errors import ConfigError, InputError, unknown
from skillfactory.evaluate import Plain
from skillfactory.evaluation import SCHEMAS as EVALUATED
from skillfactory.evaluation import read_responses, stored_groups
from skillfactory.flow import Engine, Flow, Message
from skillfactory.intervene import (
    CONTROL,
    Given,
    InterveneConfig,
    Intervened,
    Intervention,
    Spare,
    Step,
    counted,
    intervene,
    places,
)
from skillfactory.progress import Progress
from skillfactory.prompts import Variant
from skillfactory.records import Check, Question
from skillfactory.rundir import Rows, Stage, write_text
from skillfactory.seeds import derive
from skillfactory.serving import answering, known_as, opener, read_options, shown_options
from skillfactory.stats import Estimate, clustered_share, difference_of_shares, mean_of_shares
from skillfactory.suites import Group
from skillfactory.summary import Summary, columns, funnel, interval, percent, worked
from skillfactory.tasks import resolve
from skillfactory.tasks.base import Task

NUMBERS = "intervene.json"
POOL = 200  # reflections of a group that may be swapped in
_TEXT, _NUMBER, _FLAG = pa.string(), pa.int64(), pa.bool_()
SCHEMAS: Mapping[str, pa.Schema] = {
    "continuations": pa.schema(
        {
            **{"response_id": _TEXT, "question_id": _TEXT, "group": _TEXT, "sample": _NUMBER, "way": _TEXT, "number": _NUMBER},
            **{"verdict": _TEXT, "original_verdict": _TEXT, "step": _TEXT, "original_step": _TEXT, "text": _TEXT},
            **{"answer": _TEXT, "check": _TEXT, "reason": _TEXT, "stop": _TEXT},
            **{"original_answer": _TEXT, "original_check": _TEXT, "changed_step": _FLAG, "changed_answer": _FLAG},
            **{"key": _TEXT, "tokens": _NUMBER, "forced": _NUMBER},
        }
    ),
    "drops": EVALUATED["drops"],
}
SHARES: Mapping[str, Callable[[Mapping[str, Any]], bool]] = {  # of continuations
    "changed_step": itemgetter("changed_step"),
    "changed_answer": itemgetter("changed_answer"),
    "right": lambda row: row["check"] == Check.RIGHT,
    "right_to_wrong": lambda row: row["original_check"] == Check.RIGHT and row["check"] != Check.RIGHT,
    "wrong_to_right": lambda row: row["original_check"] != Check.RIGHT and row["check"] == Check.RIGHT,
    "tries_again": lambda row: row["step"] == Step.ATTEMPT,
}


def intervention(
    config: InterveneConfig, progress: Progress | None = None, engine: Callable[[], Engine] | None = None
) -> Summary:
    """Tests the reflections of a run's responses, in a run directory of its own: begins, goes on, or has nothing to do.

    `engine` makes the engine, which the configuration names otherwise; it is called only if there is something to do.
    """
    state = _state(config.run)
    groups = _chosen(config)
    model = config.model or str(state["numbers"]["model"])
    generation = answering(config.generation, model)
    name = known_as(generation, model)
    if name != state["run"]["model"]:
        raise ConfigError(
            f"{config.run}: its responses are of the model '{state['run']['model']}', and '{model}' is '{name}'; give the "
            "folder where the run's model is with --model, and the engine options that the run had"
        )
    stage = Stage(
        command="intervene",
        model=name,
        settings=_settings(config, state["run"]["stamp"], groups),
        notes={"engine": generation.engine, "engine_option": shown_options(read_options(generation))},
        schemas=SCHEMAS,
        rows=_rows,
        counts=counted,
        title=f"Interventions on the reflections of {config.run.name}: {', '.join(group.name for group in groups)}",
        packages=("torch", "transformers", "vllm"),
    )
    begun = _flows(config, groups, state["run"]["settings"])
    outcome = worked(config.output, stage, begun, engine or opener(generation), progress, None)
    about = {"run": str(config.run), "model": model, "seed": config.seed, "stamp": stage.stamp, "samples": config.samples}
    numbers = {**about, **measured(groups, config.ways, _stored(config.output))}
    write_text(config.output / NUMBERS, json.dumps(numbers, indent=2, ensure_ascii=False) + "\n")
    funnels = (funnel("intervene", "responses", outcome.counts),)
    return Summary(config.output, numbers, columns(table(numbers)), funnels, outcome)


def _state(run: Path) -> dict[str, Any]:
    """What a finished evaluation says of itself: run.json and evaluation.json."""
    try:
        state = {"run": json.loads((run / "run.json").read_text("utf-8"))}
        state["numbers"] = json.loads((run / "evaluation.json").read_text("utf-8"))
        retry, finished = state["run"]["settings"]["retry"], state["run"]["finished"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{run}: expected a finished run of `skillfactory evaluate` ({error})") from error
    if not finished:
        raise InputError(f"{run}: the evaluation isn't finished; `skillfactory evaluate` with its options goes on with it")
    if retry:
        raise InputError(f"{run}: its responses were retried outside of the model, so none of them is one text to go on with")
    return state


def _chosen(config: InterveneConfig) -> tuple[Group, ...]:
    groups = stored_groups(config.run)
    known = [group.name for group in groups]
    for name in config.groups:
        if name not in known:
            raise unknown(f"group of {config.run}", name, known)
    return tuple(group for group in groups if not config.groups or group.name in config.groups)


def _settings(config: InterveneConfig, stamp: str, groups: Sequence[Group]) -> dict[str, Any]:
    own = {name: getattr(config, name) for name in ("questions", "samples", "max_tokens", "seed")}
    source = sources(*(name for group in groups for name in (group.task, *group.option.values())))
    return {"run": stamp, "groups": [group.name for group in groups], "ways": list(config.ways), **own, "source": source}


def _flows(config: InterveneConfig, groups: Sequence[Group], settings: Mapping[str, Any]) -> Iterator[Flow[Intervened]]:
    """A flow for every question of the run that is asked for and has responses, in the order of the run."""
    decoding = {name: value for name, value in settings["decoding"].items() if not name.endswith("max_tokens")}
    plain = construct(Plain, checked(Plain, decoding, lambda key: f"{config.run}/run.json: decoding"))
    variant = Variant(**settings["variant"]) if settings["variant"] else None
    hows = {}
    for group in groups:
        task = resolve(group.task, group.option)
        limit = config.max_tokens or group.max_tokens
        pool = _pool(config.run, group.name, config.seed) if "swap" in config.ways else ()
        ask = _ask(task, variant)
        hows[group.name] = Intervention(
            group.name,
            task,
            ask,
            plain.sampling(limit),
            config.max_tokens is None,
            config.ways,
            config.samples,
            config.seed,
            pool,
        )
    return _begun(config, hows)


def _ask(task: Task, variant: Variant | None) -> Callable[[Question], tuple[Message, ...]]:
    if variant is None:
        return lambda question: (("user", question.prompt),)
    return lambda question: variant.messages(question, task.answer_format)


def _begun(config: InterveneConfig, hows: Mapping[str, Intervention]) -> Iterator[Flow[Intervened]]:
    needed = ("id", "question_id", "group", "sample", "text", "answer", "tokens")
    questions = _questions(config.run)
    taken: Counter[str] = Counter()
    for (name, id), rows in groupby(read_responses(config.run, needed), key=itemgetter("group", "question_id")):
        question = next((each for group, each in questions if (group, each.id) == (name, id)), None)
        if question is None:
            raise InputError(f"{config.run}: has responses to the question {id}, which its table of questions doesn't hold")
        given = [Given(row["id"], row["sample"], row["text"], row["answer"], row["tokens"]) for row in rows]
        if name in hows and (config.questions is None or taken[name] < config.questions):
            taken[name] += 1
            yield intervene(question, given, hows[name])


def _questions(run: Path) -> Iterator[tuple[str, Question]]:
    """The groups and questions of a run, in the order of its responses."""
    for part in sorted((run / "questions").glob("*.parquet")):
        for row in pq.read_table(part).to_pylist():
            group, facts = row.pop("group"), json.loads(row.pop("facts"))
            yield group, Question(**row, facts=facts)


def _pool(run: Path, group: str, seed: int) -> tuple[Spare, ...]:
    """Some reflections of a group, one of each of so many responses, chosen by hash: the order of the run plays no part."""

    def spares() -> Iterator[tuple[int, Spare]]:
        for row in read_responses(run, ("id", "question_id", "group", "text")):
            if row["group"] == group and (fit := places(row["text"])):
                place = fit[derive(seed, row["id"], "spare") % len(fit)]
                yield derive(seed, row["id"], "pool"), Spare(row["question_id"], place.body)

    return tuple(spare for _, spare in heapq.nsmallest(POOL, spares()))


def _rows(found: Intervened) -> Rows:
    return {"continuations": [asdict(each) for each in found.continued], "drops": [asdict(drop) for drop in found.drops]}


def _stored(output: Path) -> Iterator[dict[str, Any]]:
    names = [name for name in SCHEMAS["continuations"].names if name not in ("text", "answer", "original_answer")]
    for part in sorted((output / "continuations").glob("*.parquet")):
        yield from pq.read_table(part, columns=names).to_pylist()


class _Way:
    """All continuations of a group that were treated one way: per question the shares, and what follows each verdict."""

    def __init__(self) -> None:
        self.shares = {name: array("d") for name in SHARES}
        self.after: Counter[tuple[str, str]] = Counter()
        self.n = 0

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Takes the continuations of one question."""
        self.n += len(rows)
        for name, holds in SHARES.items():
            self.shares[name].append(sum(map(holds, rows)) / len(rows))
        self.after.update((row["verdict"], row["step"]) for row in rows)


def _numbers(ways: Sequence[_Way], controls: Sequence[_Way]) -> dict[str, Any]:
    """The shares of a way in one group or in the mean over several, and what is more or less than in the controls.

    With intervals, paired by question; continuations and steps are summed up.
    """
    shares, more = {}, {}
    for name in SHARES:
        own, kept = ([np.asarray(way.shares[name]) for way in each] for each in (ways, controls))
        shares[name] = _plain(mean_of_shares([clustered_share(values) for values in own]))
        if ways is not controls:
            more[name] = _plain(difference_of_shares([values[None, :] for values in own], [values[None, :] for values in kept]))
    steps = sum((way.after for way in ways), Counter[tuple[str, str]]())
    after = {
        verdict: {step.value: steps[verdict, step.value] for step in Step} for verdict in sorted({said for said, _ in steps})
    }
    about = {"continuations": sum(way.n for way in ways), **shares}
    return {**about, "against_control": more or None, "steps_after": after}


def measured(groups: Sequence[Group], ways: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The numbers of every group and way, and their means over kinds. A question's rows come one after the other."""
    found = {group.name: {way: _Way() for way in (CONTROL, *ways)} for group in groups}
    questions: Counter[str] = Counter()
    for (name, _), same in groupby(rows, key=itemgetter("group", "question_id")):
        questions[name] += 1
        ordered = sorted(same, key=itemgetter("way"))
        for way, members in groupby(ordered, key=itemgetter("way")):
            found[name][way].add(list(members))

    def told(names: Sequence[str]) -> dict[str, Any]:
        about: dict[str, Any] = {"questions": sum(questions[name] for name in names)}
        if not all(questions[name] for name in names):
            return about
        controls = [found[name][CONTROL] for name in names]
        others = {way: [found[name][way] for name in names] for way in ways}
        return {**about, "ways": {way: _numbers(each, controls) for way, each in {CONTROL: controls, **others}.items()}}

    kinds = {kind: [group.name for group in groups if group.kind == kind] for kind in dict.fromkeys(g.kind for g in groups)}
    return {
        "groups": [{"name": group.name, "kind": group.kind, **told([group.name])} for group in groups],
        "kinds": [{"kind": kind, "groups": names, **told(names)} for kind, names in kinds.items()],
    }


def _plain(estimate: Estimate) -> dict[str, Any]:
    return {name: getattr(estimate, name) for name in ("value", "low", "high", "se", "n")}


def table(numbers: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """The numbers as rows of cells: one for every group and way, and for every kind of several groups."""
    names = {"changed_step": "step %", "changed_answer": "answer %", "right_to_wrong": "lost %", "wrong_to_right": "won %"}
    yield ("group", "way", "n", *(cell for name in names.values() for cell in (name, "more", "95 %")), "right %", "again %")
    kinds = [{**kind, "name": f"mean {kind['kind']}"} for kind in numbers["kinds"] if len(kind["groups"]) > 1]
    for group in (*numbers["groups"], *kinds):
        for way, each in group.get("ways", {}).items():
            more = each["against_control"]
            cells = [_cells(each[name], more and more[name]) for name in names]
            shares = (percent(each[name]["value"]) for name in ("right", "tries_again"))
            yield (group["name"], way, f"{each['continuations']:,}", *(cell for three in cells for cell in three), *shares)


def _cells(share: Mapping[str, Any], more: Mapping[str, Any] | None) -> tuple[str, str, str]:
    if not more:
        return percent(share["value"]), "-", "-"
    return percent(share["value"]), percent(more["value"]), interval(more)
