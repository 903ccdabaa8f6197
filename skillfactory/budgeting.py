"""Budget forcing on disk: a configuration and a run directory in; responses, votes, budget.json and a summary out."""

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

from skillfactory.budget import BudgetConfig, counted, flows
from skillfactory.evaluation import SCHEMAS as EVALUATED
from skillfactory.evaluation import read_responses
from skillfactory.flow import Engine
from skillfactory.forcing import Closed, Forced, Response, Vote
from skillfactory.progress import Progress
from skillfactory.records import Check, Stop
from skillfactory.rundir import Rows, Stage, write_text
from skillfactory.serving import answering, known_as, opener, read_options, shown_options
from skillfactory.stats import Estimate, clustered_share, difference_of_shares, mean_of_shares
from skillfactory.suites import Group
from skillfactory.summary import Summary, columns, funnel, interval, percent, worked

NUMBERS = "budget.json"
ALL = "all"  # in place of a kind: the groups of all kinds
_TEXT, _NUMBER, _FLAG, _SHARE = pa.string(), pa.int64(), pa.bool_(), pa.float64()
_ROUND = {  # columns of a round beside those that name its response
    **{"round": _NUMBER, "budget": _NUMBER, "text": _TEXT, "answer": _TEXT, "check": _TEXT, "reason": _TEXT, "stop": _TEXT},
    **{"key": _TEXT, "tokens": _NUMBER, "forced": _NUMBER, "spent": _NUMBER, "no_room": _FLAG},
    **{"attempts": _NUMBER, "reflections": _NUMBER},
    **{"closed_answer": _TEXT, "closed_check": _TEXT, "closed_tokens": _NUMBER},
    **{"vote_right": _SHARE, "vote_samples": _SHARE, "vote_tokens": _SHARE},
    **{"closed_vote_right": _SHARE, "closed_vote_samples": _SHARE, "closed_vote_tokens": _SHARE},
}
_VOTER = {"response_id": _TEXT, "number": _NUMBER, "key": _TEXT, "answer": _TEXT, "check": _TEXT, "tokens": _NUMBER}
SCHEMAS: Mapping[str, pa.Schema] = {
    "questions": EVALUATED["questions"],
    "responses": pa.schema({"id": _TEXT, "question_id": _TEXT, "group": _TEXT, "sample": _NUMBER, **_ROUND}),
    "votes": pa.schema({**_VOTER, "closed_answer": _TEXT, "closed_check": _TEXT, "closed_tokens": _NUMBER}),
    "drops": EVALUATED["drops"],
}
_GAINS = {"gain": ("forcing", "vote"), "closed_gain": ("closed", "closed_vote")}
Row = Mapping[str, Any]


def budget(config: BudgetConfig, progress: Progress | None = None, engine: Callable[[], Engine] | None = None) -> Summary:
    """Makes a model's responses go on, in a run directory: begins it, goes on with it, or says that it is finished.

    `engine` makes the engine, which the configuration names otherwise; it is called only if there is something to do.
    """
    groups = config.evaluation().chosen()
    stage = _stage(config, groups)
    sizes = [group.questions for group in groups]
    total = None if None in sizes else sum(size or 0 for size in sizes)
    starter = engine or opener(answering(config.generation, config.model))
    forcing = config.forcing
    outcome = worked(config.output, stage, flows(config, groups), lambda: forcing.writable(starter()), progress, total)
    about = {"model": config.model, "suite": config.evaluation().asks, "seed": config.seed, "stamp": stage.stamp}
    how = {"budgets": list(forcing.budgets), "trigger": forcing.words, "close": forcing.close, "vote": forcing.vote}
    rows = read_responses(config.output, tuple(name for name in SCHEMAS["responses"].names if name != "text"))
    numbers = {**about, **how, **measured(groups, rows, outcome.counts)}
    write_text(config.output / NUMBERS, json.dumps(numbers, indent=2, ensure_ascii=False) + "\n")
    funnels = tuple(funnel("budget", unit, outcome.counts) for unit in ("questions", "responses"))
    return Summary(config.output, numbers, columns(table(numbers)), funnels, outcome)


def read_votes(run: Path) -> Iterator[Row]:
    """The independent samples that voted beside the responses, in order."""
    for part in sorted((run / "votes").glob("*.parquet")):
        yield from pq.read_table(part).to_pylist()


def _stage(config: BudgetConfig, groups: Sequence[Group]) -> Stage[Forced]:
    generation = answering(config.generation, config.model)
    return Stage(
        command="budget",
        model=known_as(generation, config.model),
        settings=config.settings(groups),
        notes={"engine": generation.engine, "engine_option": shown_options(read_options(generation))},
        schemas=SCHEMAS,
        rows=_rows,
        counts=counted,
        title=f"Budget forcing of {config.model}: {', '.join(group.name for group in groups)}",
        packages=("torch", "transformers", "vllm"),
    )


def _rows(forced: Forced) -> Rows:
    """The rows of one question."""
    question = forced.question
    asked = []
    if question is not None:
        facts = json.dumps(question.facts, ensure_ascii=False, sort_keys=True)
        asked = [{**asdict(question), "group": forced.group, "facts": facts}]
    rounds = [row for response in forced.responses for row in _rounds(response)]
    votes = [
        {"response_id": response.id, **asdict(voter), **_closed(voter.closed)}
        for response in forced.responses
        for voter in response.voters
    ]
    return {"questions": asked, "responses": rounds, "votes": votes, "drops": [asdict(drop) for drop in forced.drops]}


def _rounds(response: Response) -> Iterator[dict[str, Any]]:
    named = {name: getattr(response, name) for name in ("id", "question_id", "group", "sample")}
    for each in response.rounds:
        votes = _vote("vote", each.vote) | _vote("closed_vote", each.closed_vote)
        yield {**named, **asdict(each), "round": each.number, **_closed(each.closed), **votes}


def _closed(closed: Closed | None) -> dict[str, Any]:
    return {} if closed is None else {f"closed_{name}": value for name, value in asdict(closed).items()}


def _vote(name: str, vote: Vote | None) -> dict[str, Any]:
    return {} if vote is None else {f"{name}_{part}": value for part, value in asdict(vote).items()}


class Course:
    """One way to spend tokens at one budget: per question the share that is right; tokens and samples summed up."""

    def __init__(self) -> None:
        self.shares = array("d")
        self._sums: dict[str, float] = {}
        self._n = 0

    def add(self, right: Sequence[float], **sums: float) -> None:
        """Takes the responses to one question."""
        self.shares.append(sum(right) / len(right))
        self._n += len(right)
        for name, value in sums.items():
            self._sums[name] = self._sums.get(name, 0.0) + value

    def numbers(self) -> dict[str, Any]:
        """Accuracy, clustered by question, and the means per response."""
        means = {name: value / self._n for name, value in self._sums.items()}
        return {"accuracy": _plain(clustered_share(np.asarray(self.shares))), **means}


class _Round:
    """All responses of a group at one budget."""

    def __init__(self) -> None:
        self.ways = {name: Course() for name in ("forcing", "closed", "vote", "closed_vote")}
        self._sums: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._n = 0

    def add(self, rows: Sequence[Row]) -> None:
        """Takes the responses to one question."""
        self._n += len(rows)
        spent = sum(row["spent"] for row in rows)
        self.ways["forcing"].add([row["check"] == Check.RIGHT for row in rows], tokens=spent)
        if rows[0]["closed_check"] is not None:
            tokens = spent + sum(row["closed_tokens"] for row in rows)
            self.ways["closed"].add([row["closed_check"] == Check.RIGHT for row in rows], tokens=tokens)
        for name in ("vote", "closed_vote"):
            if rows[0][f"{name}_right"] is not None:
                sums = {part: sum(row[f"{name}_{part}"] for row in rows) for part in ("tokens", "samples")}
                self.ways[name].add([row[f"{name}_right"] for row in rows], **sums)
        for row in rows:
            told = {"cut": row["stop"] == Stop.LENGTH, "new_tokens": row["tokens"], "trigger_tokens": row["forced"]}
            told |= {name: row[name] for name in ("no_room", "attempts", "reflections")}
            self._sums.update({name: int(value) for name, value in told.items()})
            if row["check"] == Check.MISSING:
                self._reasons[row["reason"]] += 1

    def numbers(self) -> dict[str, Any]:
        """The numbers of this budget, None for a way that wasn't gone."""
        found = {name: course.numbers() if course.shares else None for name, course in self.ways.items()}
        means = {name: value / self._n for name, value in sorted(self._sums.items())}
        unanswered = {name: n / self._n for name, n in sorted(self._reasons.items())}
        return {**found, **_gains([self]), **means, "unanswered": unanswered}


def _gains(rounds: Sequence[_Round]) -> dict[str, Any]:
    """How much more often forcing is right than the vote, in the mean over groups, paired by question; None without a vote."""
    found: dict[str, Any] = {}
    for name, ways in _GAINS.items():
        forced, voted = ([np.asarray(each.ways[way].shares)[None, :] for each in rounds] for way in ways)
        gone = all(table.size for table in (*forced, *voted))
        found[name] = _plain(difference_of_shares(forced, voted)) if gone else None
    return found


def _mean(rounds: Sequence[_Round]) -> dict[str, Any]:
    """The means of what several groups came to at a budget, each counting the same."""
    told = [each.numbers() for each in rounds]
    found: dict[str, Any] = {}
    for name in rounds[0].ways:
        ways = [each[name] for each in told]
        found[name] = None
        if None not in ways:
            accuracy = mean_of_shares([Estimate(**way.pop("accuracy")) for way in ways])
            found[name] = {"accuracy": _plain(accuracy), **{key: _averaged([way[key] for way in ways]) for key in ways[0]}}
    reasons = sorted({reason for each in told for reason in each["unanswered"]})
    unanswered = {reason: _averaged([each["unanswered"].get(reason, 0.0) for each in told]) for reason in reasons}
    means = {name: _averaged([each[name] for each in told]) for name in told[0] if name not in (*found, *_GAINS, "unanswered")}
    return {**found, **_gains(rounds), **means, "unanswered": unanswered}


def _averaged(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _plain(estimate: Estimate) -> dict[str, Any]:
    return {name: getattr(estimate, name) for name in ("value", "low", "high", "se", "n")}


def measured(groups: Sequence[Group], rows: Iterable[Row], counts: Mapping[str, int]) -> dict[str, Any]:
    """The numbers of every group and every kind, budget after budget. The rows of a question come one after the other."""
    found: dict[str, dict[int, _Round]] = {group.name: {} for group in groups}
    questions: Counter[str] = Counter()
    responses: Counter[str] = Counter()
    for (name, _), all_rounds in groupby(rows, key=itemgetter("group", "question_id")):
        ordered = sorted(all_rounds, key=itemgetter("round"))  # stable: the samples of a round stay in order
        questions[name] += 1
        for budget, members in groupby(ordered, key=itemgetter("budget")):
            same = list(members)
            found[name].setdefault(budget, _Round()).add(same)
        responses[name] += len(same)
    told = []
    for group in groups:
        about = {"name": group.name, "kind": group.kind, "task": group.task, "level": group.level, "part": group.part}
        sizes = {"questions": questions[group.name], "responses": responses[group.name]}
        curve = [{"budget": budget, **each.numbers()} for budget, each in sorted(found[group.name].items())]
        told.append({**about, **sizes, "failed": counts.get(f"failed/{group.name}", 0), "rounds": curve})
    return {"groups": told, "kinds": list(_kinds(told, found))}


def _kinds(groups: Sequence[Mapping[str, Any]], found: Mapping[str, Mapping[int, _Round]]) -> Iterator[dict[str, Any]]:
    """The means over the groups of each kind, and over all: each counts the same. No curve where one of them has none."""
    kinds = {kind: [group for group in groups if group["kind"] == kind] for kind in dict.fromkeys(g["kind"] for g in groups)}
    if len(kinds) > 1:
        kinds[ALL] = list(groups)
    for kind, members in kinds.items():
        curves = [found[group["name"]] for group in members]
        sizes = {name: sum(group[name] for group in members) for name in ("questions", "responses", "failed")}
        rounds = [
            {"budget": budget, **_mean([curve[budget] for curve in curves])}
            for budget in sorted(curves[0])
            if all(budget in curve for curve in curves)
        ]
        yield {"kind": kind, "groups": [group["name"] for group in members], **sizes, "rounds": rounds}


def table(numbers: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """The numbers as rows of cells: one for every group and budget, and for every kind of several groups."""
    head = ("group", "budget", "n", "tokens", "forced %", "95 %", "vote %", "95 %", "samples", "gain", "95 %")
    yield (*head, "closed %", "tokens", "vote %", "attempts", "cut %", "no room %")
    kinds = [{**kind, "name": f"mean {kind['kind']}"} for kind in numbers["kinds"] if len(kind["groups"]) > 1]
    for group in (*numbers["groups"], *kinds):
        for each in group["rounds"]:
            vote, closed, other = each["vote"], each["closed"], each["closed_vote"]
            yield (
                group["name"],
                f"{each['budget']:,}",
                f"{group['questions']:,}×{group['responses'] / group['questions']:.3g}",
                f"{each['forcing']['tokens']:.0f}",
                *_interval(each["forcing"]["accuracy"]),
                *_interval(vote["accuracy"] if vote else None),
                f"{vote['samples']:.1f}" if vote else "-",
                *_interval(each["gain"]),
                percent(closed["accuracy"]["value"] if closed else None),
                f"{closed['tokens']:.0f}" if closed else "-",
                percent(other["accuracy"]["value"] if other else None),
                f"{each['attempts']:.2f}",
                percent(each["cut"]),
                percent(each["no_room"]),
            )


def _interval(estimate: Mapping[str, Any] | None) -> tuple[str, str]:
    return (percent(estimate["value"]), interval(estimate)) if estimate else ("-", "-")
