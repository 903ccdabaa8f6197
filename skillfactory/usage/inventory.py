"""The skills that stored texts show: paths in; a table, skills.json and located findings out, with a judge's opinions if asked.

Texts are read as a stream, twice where a judge reads some of them too.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from skillfactory.errors import InputError
from skillfactory.flow import Engine, Flow, Sampling
from skillfactory.places import replacing
from skillfactory.progress import Progress, Silent
from skillfactory.run import carry_on
from skillfactory.rundir import Rows, Stage, write_text
from skillfactory.serving import answering, known_as, opener, read_options, shown_options
from skillfactory.skills.agreement import Agreement
from skillfactory.skills.implicit import Finding, Rules, load_rules
from skillfactory.skills.judge import JudgePrompt, judge, load_judge
from skillfactory.usage.options import SkillsConfig, Text, spoken
from skillfactory.usage.portrait import Portrait, table
from skillfactory.usage.stocks import Stock, stocks

NUMBERS, FINDINGS, JUDGE = "skills.json", "findings.parquet", "judge"
QUOTE = 200  # characters of a finding that are quoted
_TEXT, _NUMBER, _FLAG = pa.string(), pa.int64(), pa.bool_()
_FINDINGS = pa.schema(
    {
        "run": _TEXT,
        "group": _TEXT,
        "id": _TEXT,
        "skill": _TEXT,
        "rule": _TEXT,
        "start": _NUMBER,
        "end": _NUMBER,
        "quote": _TEXT,
    }
)
_OPINIONS = pa.schema(
    {
        "run": _TEXT,
        "group": _TEXT,
        "id": _TEXT,
        "skill": _TEXT,
        "judge": _FLAG,  # null where nothing can be made of the reply
        "rules": _FLAG,  # null where there are none for the skill
        "labels": _FLAG,  # null where nobody labelled the text
        "reason": _TEXT,
        "key": _TEXT,
    }
)
_BATCH = 10_000  # findings that are written at once


@dataclass(frozen=True, slots=True)
class Inventory:
    """What stored texts show: the content of skills.json, and where it is."""

    numbers: Mapping[str, Any]
    output: Path | None

    def to_dict(self) -> dict[str, Any]:
        """The numbers as JSON-safe values."""
        return dict(self.numbers)

    def __str__(self) -> str:
        """The tables, for people."""
        ending = [f"{self.output / NUMBERS}: all numbers; {FINDINGS}: every finding with its place"] if self.output else []
        return "\n".join([*table(self.numbers), *ending])


def inventory(config: SkillsConfig, progress: Progress | None = None, engine: Callable[[], Engine] | None = None) -> Inventory:
    """The skills that the texts of some runs and files show; `engine` makes the judge's, which the configuration names."""
    rules = load_rules(config.rules)
    prompt = load_judge(config.judging.judge_file) if config.judging.judge else None
    held = stocks(config)
    bar = progress or Silent()
    if config.output is not None:
        config.output.mkdir(parents=True, exist_ok=True)
    try:
        counted, counts = _count(config, held, rules, bar)
        judged = _judged(config, held, rules, prompt, counted, bar, engine) if prompt else None
    finally:
        bar.end()
    numbers = {
        "runs": counted.runs,
        "rules": {"file": str(config.rules or "shipped"), "stamp": rules.stamp},
        "judge": judged,
        "agreement": _agreement(counts | (_opinions(config) if judged else {})),
    }
    if config.output is not None:
        write_text(config.output / NUMBERS, json.dumps(numbers, indent=2, ensure_ascii=False) + "\n")
    return Inventory(numbers, config.output)


class _Counted(NamedTuple):
    """What a pass over all texts gives."""

    runs: list[dict[str, Any]]
    digest: str  # of the texts that a judge reads


_Cells = dict[tuple[str, str, str], list[int]]  # skill and two raters → texts found by both, the first, the second, neither


def _count(config: SkillsConfig, held: list[Stock], rules: Rules, bar: Progress) -> tuple[_Counted, _Cells]:
    """The numbers of every run and group, and how rules and labels agree; findings are written on the way."""
    chosen, cells = blake2b(digest_size=8), _Cells()
    runs = []
    with _Findings(config.output) as findings:
        for stock in held:
            bar.begin(f"skills: {stock.label}", "texts")
            portraits: dict[str, Portrait] = {}
            for text in stock.texts():
                portrait = portraits.setdefault(text.group, Portrait(rules.skills))
                found = spoken(text.text, rules, text.skills)
                if portrait.texts < config.judging.judge_texts:
                    told = (stock.label, text.id, text.text, *sorted(text.labels or ()))
                    chosen.update("\0".join(told).encode("utf-8", "replace"))
                portrait.add(text.row, found)
                findings.add(stock.label, text, found)
                _compare(cells, "labels", "rules", text.labels, {finding.skill for finding in found}, rules.skills)
                bar.advance()
            if not portraits:
                raise InputError(f"{stock.label}: holds no texts")
            groups = [{"group": name, **portrait.numbers()} for name, portrait in portraits.items()]
            runs.append({"run": stock.label, "what": stock.what, "groups": groups})
    return _Counted(runs, chosen.hexdigest()), cells


class _Findings:
    """The file of findings, written in batches; without an output there is none."""

    def __init__(self, output: Path | None) -> None:
        self._context = replacing(output / FINDINGS) if output is not None else None
        self._rows: list[dict[str, Any]] = []

    def __enter__(self) -> "_Findings":
        if self._context is not None:
            self._writer = pq.ParquetWriter(self._context.__enter__(), _FINDINGS, compression="zstd")
        return self

    def __exit__(self, *error: Any) -> None:
        if self._context is not None:
            self._flush()
            self._writer.close()
            self._context.__exit__(*error)

    def add(self, run: str, text: Text, found: list[Finding]) -> None:
        """Takes the findings in a text."""
        if self._context is None:
            return
        for finding in found:
            quote = text.text[finding.start : min(finding.end, finding.start + QUOTE)].encode("utf-8", "replace").decode()
            self._rows.append({"run": run, "group": text.group, "id": text.id, **finding._asdict(), "quote": quote})
        if len(self._rows) >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, _FINDINGS))
        self._rows = []


class _Asked(NamedTuple):
    """What became of one text with the judge."""

    rows: list[dict[str, Any]]
    reason: str


def _judged(
    config: SkillsConfig,
    held: list[Stock],
    rules: Rules,
    prompt: JudgePrompt,
    counted: _Counted,
    bar: Progress,
    engine: Callable[[], Engine] | None,
) -> dict[str, Any]:
    """Asks the judge in a run directory, and says of how many texts it gave an opinion."""
    assert config.output is not None
    generation = answering(config.generation, config.judging.judge)
    options = read_options(generation)
    sampling = Sampling(0.0, 1.0, 0, 1.0, config.judging.judge_max_tokens)
    stage = Stage(
        command="skills",
        model=known_as(generation, config.judging.judge),
        settings={
            "prompt": {"system": prompt.system, "template": prompt.template, "skills": dict(prompt.skills)},
            "texts": counted.digest,
            "rules": rules.stamp,
            "sampling": {"temperature": 0.0, "max_tokens": sampling.max_tokens},
        },
        notes={"engine": generation.engine, "engine_option": shown_options(options)},
        schemas={"opinions": _OPINIONS},
        rows=_rows,
        counts=_account,
        title=f"What {config.judging.judge} says of texts",
        packages=("torch", "transformers", "vllm"),
    )
    flows = _flows(config, held, rules, prompt, sampling)
    bar.begin("judge", "texts")
    outcome = carry_on(config.output / JUDGE, stage, flows, engine or opener(generation), bar)
    dropped = {
        name.removeprefix("texts/dropped/"): n for name, n in outcome.counts.items() if name.startswith("texts/dropped/")
    }
    spent = {name: outcome.counts.get(name, 0) for name in ("tokens", "prompt_tokens")}
    about = {"model": config.judging.judge, "engine": generation.engine, "prompt": str(config.judging.judge_file or "shipped")}
    return {**about, "texts": outcome.counts.get("texts/requested", 0), "dropped": dropped, **spent}


def _flows(
    config: SkillsConfig, held: list[Stock], rules: Rules, prompt: JudgePrompt, sampling: Sampling
) -> Iterator[Flow[_Asked]]:
    for stock in held:
        seen: dict[str, int] = {}
        for text in stock.texts():
            seen[text.group] = seen.get(text.group, 0) + 1
            if seen[text.group] <= config.judging.judge_texts:
                yield _ask(stock.label, text, rules, prompt, sampling)


def _ask(run: str, text: Text, rules: Rules, prompt: JudgePrompt, sampling: Sampling) -> Flow[_Asked]:
    opinion = yield from judge(f"{run}/{text.id}", text.text, prompt, sampling, 0)
    found = {finding.skill for finding in spoken(text.text, rules, text.skills)}
    rows = [
        {
            "run": run,
            "group": text.group,
            "id": text.id,
            "skill": skill,
            "judge": None if opinion.says is None else opinion.says[skill],
            "rules": skill in found if skill in rules.skills else None,
            "labels": None if text.labels is None else skill in text.labels,
            "reason": opinion.reason,
            "key": opinion.key,
        }
        for skill in prompt.skills
    ]
    return _Asked(rows, opinion.reason)


def _rows(asked: _Asked) -> Rows:
    return {"opinions": asked.rows}


def _account(asked: _Asked) -> dict[str, int]:
    if not asked.reason:
        return {"texts/requested": 1, "texts/kept": 1}
    return {"texts/requested": 1, f"texts/dropped/{asked.reason}": 1}


def _compare(
    cells: _Cells, first: str, second: str, ones: frozenset[str] | None, others: set[str], skills: tuple[str, ...]
) -> None:
    """Counts a text that two raters have rated."""
    if ones is not None:
        for skill in skills:
            place = 2 * (skill not in ones) + (skill not in others)
            cells.setdefault((skill, first, second), [0, 0, 0, 0])[place] += 1


def _opinions(config: SkillsConfig) -> _Cells:
    """How the judge agrees with rules and labels, from its stored opinions."""
    assert config.output is not None
    cells = _Cells()
    for part in sorted((config.output / JUDGE / "opinions").glob("*.parquet")):
        with pq.ParquetFile(part) as file:
            for batch in file.iter_batches(1024, columns=["skill", "judge", "rules", "labels"]):
                for row in batch.to_pylist():
                    for other in ("rules", "labels"):
                        if row["judge"] is not None and row[other] is not None:
                            place = 2 * (not row["judge"]) + (not row[other])
                            cells.setdefault((row["skill"], "judge", other), [0, 0, 0, 0])[place] += 1
    return cells


def _agreement(cells: _Cells) -> list[dict[str, Any]]:
    return [
        {"skill": skill, "raters": [first, second], **Agreement(*counts).to_dict()}
        for (skill, first, second), counts in sorted(cells.items())
    ]
