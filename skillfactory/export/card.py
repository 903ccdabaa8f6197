"""The card of a data set for the Hub: what the rows are, how they came about, what errs in them, and what is not known.

Names of models, layouts and tasks, and all settings, come from others' files: they stand in code spans and fences that they
can't end, and the front matter holds nothing of theirs. Paths of this machine are cut down to their last part.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from skillfactory import __version__
from skillfactory.errors import InputError
from skillfactory.export.target import ExportConfig, Upload, model_from
from skillfactory.funnel import Funnel
from skillfactory.places import place
from skillfactory.stats import Spread, spread_of
from skillfactory.tracefiles import TraceFiles

_LONGEST = 200  # characters of a name
_SIZES = {10**3: "n<1K", 10**4: "1K<n<10K", 10**5: "10K<n<100K", 10**6: "100K<n<1M", 10**7: "1M<n<10M", 10**8: "10M<n<100M"}
_CITATION = """@inproceedings{sprague2026skillfactory,
  title     = {SkillFactory: Self-Distillation for Learning Cognitive Behaviors},
  author    = {Sprague, Zayne and Lu, Jack and Wadhwa, Manya and Keh, Sedrick and Ren, Mengye and Durrett, Greg},
  booktitle = {International Conference on Learning Representations},
  year      = {2026},
  note      = {arXiv:2512.04072}
}"""


@dataclass(frozen=True, slots=True)
class Counts:
    """What the rows of an export come to."""

    rows: int
    layouts: Mapping[str, int]
    attempts: Mapping[int, int]  # attempts of a trace → traces
    tokens: Spread | None
    uncounted: int  # traces without a token count


def counts(folder: Path) -> Counts:
    """What stands in the Parquet files of `folder`; memory grows with the distinct values, not with the rows."""
    layouts: Counter[str] = Counter()
    attempts: Counter[int] = Counter()
    tokens: Counter[int] = Counter()
    uncounted = 0
    for path in sorted(folder.glob("*.parquet")):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(4096, columns=["layout", "tokens", "attempt_ids"]):
                layouts.update(batch.column("layout").to_pylist())
                attempts.update(pc.list_value_length(batch.column("attempt_ids")).to_pylist())
                uncounted += batch.column("tokens").null_count
                tokens.update(batch.column("tokens").drop_null().to_pylist())
    return Counts(layouts.total(), dict(sorted(layouts.items())), dict(sorted(attempts.items())), spread_of(tokens), uncounted)


def front(upload: Upload, rows: int) -> str:
    """The front matter: what the Hub, and `datasets`, read of a card."""
    size = next((name for limit, name in _SIZES.items() if rows < limit), "n>100M")
    about: dict[str, Any] = {"license": upload.licence} if upload.licence else {}
    about |= {"task_categories": ["text-generation"], "size_categories": [size]}
    about |= {"tags": ["skillfactory", "self-distillation", "reasoning", "sft"], "pretty_name": upload.repo.rpartition("/")[2]}
    about["configs"] = [{"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.parquet"}]}]
    return f"---\n{yaml.safe_dump(about, sort_keys=False)}---\n"


def card(source: TraceFiles, upload: Upload, found: Counts) -> str:
    """The whole README of a data set of traces."""
    path = source.directory / "build.json"
    build = _read(path)
    try:
        inputs = [str(entry) for entry in build.get("settings", {}).get("inputs", [])]
        funnels = [Funnel(**funnel) for funnel in build.get("funnels", [])]
    except (TypeError, AttributeError) as error:
        raise InputError(f"{path}: not what `skillfactory build` wrote ({error}); build the traces again") from error
    runs = [_read(place(entry) / "run.json") for entry in inputs]
    parts = [
        front(upload, found.rows),
        f"# {upload.repo.rpartition('/')[2]}",
        f"{found.rows:,} silver traces: responses made by rearranging a model's own attempts at questions and its own "
        f"reflections on them, to be fine-tuned on before reinforcement. {_models(runs)} Made with SkillFactory {__version__}.",
        "```python\nfrom datasets import load_dataset\n\n" + f'rows = load_dataset("{upload.repo}", split="train")\n```',
        "`messages` holds a user and an assistant turn; train on the assistant turn alone. The other columns tell where a row "
        "comes from: `segments` marks each attempt and reflection by its place in the text, with whether the attempt is right.",
        "## What is in it\n\n" + "\n".join(_contents(found)),
        "## What was kept\n\n" + "\n".join(_funnels(funnels, runs, len(inputs) if build else None)),
        "## What errs\n\n" + "\n".join(_audit(source)),
        "## Recipe\n\n" + _recipe(build, runs),
        "## Licence\n\n" + _licence(upload),
        f"## How to cite\n\nThe method's paper, and SkillFactory {__version__}, the program that made this:\n\n"
        f"```bibtex\n{_CITATION}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def code(text: str) -> str:
    """A text of others as a code span on one line, in a table too; nothing in it is read as Markdown or HTML."""
    line = "".join(letter if letter.isprintable() else " " for letter in " ".join(text.split()))
    line = (line if len(line) <= _LONGEST else line[:_LONGEST] + "…").replace("|", "\\|") or " "
    ticks = "`" * (1 + _ticks(line))
    return f"{ticks} {line} {ticks}" if "`" in line else f"`{line}`"


def trains(config: ExportConfig, where: str) -> str:
    """The line of a README that says which model is trained, and where another is named."""
    return f"The model that is trained: {code(model_from(config))}; {where} names another."


def fenced(text: str, language: str) -> str:
    """A text of others as a block of code that it can't end."""
    fence = "`" * max(3, 1 + _ticks(text))
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def _ticks(text: str) -> int:
    """How many backticks stand in a row, at most."""
    return max(map(len, re.findall("`+", text)), default=0)


def placeless(value: Any) -> Any:
    """Settings without the paths and addresses of the machine that they are from: of each, the last part is left."""
    if isinstance(value, Mapping):
        return {str(key): placeless(each) for key, each in value.items()}
    if isinstance(value, list):
        return [placeless(each) for each in value]
    if not isinstance(value, str) or "\n" in value:
        return value
    if re.match(r"[/~\\]|\.\.?[/\\]|[A-Za-z]:[\\/]|[a-z][a-z0-9+.-]*://", value):
        return re.split(r"[/\\]", value.rstrip("/\\"))[-1]
    return value


def _read(path: Path) -> dict[str, Any]:
    """What a stage says of itself; {} if it has left nothing, InputError if that can't be read."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not a JSON file: {error}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: expected a JSON object, came {type(found).__name__}")
    return found


def _models(runs: Sequence[Mapping[str, Any]]) -> str:
    names = dict.fromkeys(str(placeless(run["model"])) for run in runs if run.get("model"))
    if not names:
        return "Which model wrote the attempts is not known here."
    return f"The attempts and reflections are those of {' and '.join(map(code, names))}."


def _contents(found: Counts) -> Iterator[str]:
    yield from _table(("layout", "traces"), found.layouts.items())
    yield ""
    yield from _table(("attempts in a trace", "traces"), ((str(number), count) for number, count in found.attempts.items()))
    yield ""
    if found.tokens:
        spread = found.tokens
        yield (
            f"Tokens of a trace: mean {spread.mean:,.0f}, 5th percentile {spread.p5:,.0f}, median {spread.p50:,.0f}, 95th "
            f"percentile {spread.p95:,.0f}, longest {spread.max:,}."
        )
    if found.uncounted:
        yield f"{found.uncounted:,} traces have no token count, as they were built without a tokenizer."


def _table(head: tuple[str, str], rows: Iterable[tuple[str, int]]) -> Iterator[str]:
    yield f"| {head[0]} | {head[1]} |"
    yield "|---|---|"
    for name, count in rows:
        yield f"| {code(name)} | {count:,} |"


def _funnels(built: Sequence[Funnel], runs: Sequence[Mapping[str, Any]], inputs: int | None) -> Iterator[str]:
    """What each stage was asked for, kept and dropped, with the reasons; `inputs` is None where the build left no account."""
    known = [run for run in runs if run]
    totals: Counter[str] = Counter()
    for run in known:
        totals.update({name: count for name, count in run.get("counts", {}).items() if isinstance(count, int)})
    funnels = []
    for unit in ("questions", "attempts", "reflections"):
        dropped = {
            name.split("/", 2)[2]: count for name, count in totals.items() if name.startswith(f"{unit}/dropped/") and count
        }
        if f"{unit}/requested" in totals:
            funnels.append(Funnel("curate", unit, totals[f"{unit}/requested"], totals[f"{unit}/kept"], dropped))
    funnels += built
    if funnels:
        yield "| stage | | asked for | kept | dropped |"
        yield "|---|---|---|---|---|"
    for funnel in funnels:
        reasons = ", ".join(f"{code(reason)} {count:,}" for reason, count in funnel.dropped.items()) or "0"
        yield f"| {code(funnel.stage)} | {code(funnel.unit)} | {funnel.requested:,} | {funnel.kept:,} | {reasons} |"
    if inputs is None:
        yield "The build left no account of what it dropped."
    elif len(known) < inputs:
        yield f"\nOf {inputs - len(known)} of the {inputs} inputs of the build nothing more is known here."


def _audit(source: TraceFiles) -> Iterator[str]:
    """What `skillfactory audit` found, or that it isn't known."""
    path = source.directory / "audit.json"
    found = _read(path)
    if not found or found.get("traces") != source.rows:
        why = "`skillfactory audit` was not run on these traces" if not found else "The audit is of other traces than these"
        yield (
            f"{why}. So it is not known how many attempts reach a right answer through wrong arithmetic, how many traces are "
            "broken or equal, and whether questions of an evaluation are among them."
        )
        return
    try:
        yield f"By `skillfactory audit` over the {source.rows:,} traces of the build, with 95 % intervals:\n"
        for group, claims in found["arithmetic"].items():
            yield f"- {code(group)} that hold a wrong arithmetic claim: {_share(claims['with_wrong'])}"
        yield f"- broken traces: {_share(found['faults']['broken'])}"
        yield f"- traces equal to another: {found['duplicates']['equal_traces']:,}"
        leaked = found["contamination"]
        yield f"- questions that are among an evaluation's: {_share(leaked['questions']) if leaked else 'not looked for'}"
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            f"{path}: not what `skillfactory audit` wrote ({error!r}); run it again, or remove the file"
        ) from error


def _share(share: Mapping[str, Any]) -> str:
    if share["share"] is None:
        return "none of 0"
    return f"{share['share']:.1%} ({share['count']:,} of {share['n']:,}; {100 * share['low']:.1f}-{100 * share['high']:.1f} %)"


def _recipe(build: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> str:
    """The settings of the build and of its runs, each kind once."""
    stages: list[dict[str, Any]] = []
    for run in runs:
        if run:
            stage = {str(run.get("command")): {"model": run.get("model"), **run.get("settings", {})}}
            stages += [stage] if stage not in stages else []
    if build:
        stages.append({"build": build.get("settings", {})})
    if not stages:
        return "The settings are not known here."
    text = yaml.safe_dump(placeless(stages), sort_keys=False, allow_unicode=True, width=1000)
    if not text.replace("\n", "").isprintable():  # such as marks that turn the direction of writing: spelled out
        text = yaml.safe_dump(placeless(stages), sort_keys=False, width=1000)
    return "The settings of each stage; the documentation of SkillFactory tells what they mean.\n\n" + fenced(text, "yaml")


def _licence(upload: Upload) -> str:
    said = (
        f"{code(upload.licence)}, as whoever uploaded this says." if upload.licence else "Whoever uploaded this has named none."
    )
    return f"{said} The terms of the questions' source and of the model that wrote the texts apply as well."
