"""What the stages of a study would do, hold and take, from its plan alone. Nothing has to exist yet."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from skillfactory.config import checked, construct
from skillfactory.curate import CurateConfig
from skillfactory.evaluate import EvaluateConfig
from skillfactory.forecast.generation import PROMPT, plan_texts
from skillfactory.forecast.gpus import gpu
from skillfactory.forecast.plan import Plan as Forecast
from skillfactory.forecast.plan import Planning
from skillfactory.study.parts import part
from skillfactory.study.plan import Node, Plan, value
from skillfactory.study.work import finished
from skillfactory.train.grpo import GrpoConfig
from skillfactory.train.planning import Rows, plan_grpo, plan_sft
from skillfactory.train.sft import SftConfig

TRACES = 14_655 / 4_000  # a question, in the published training data of three numbers (layout *C_full, 5 attempts)


def forecasts(made: Plan, planning: Planning) -> dict[str, Forecast]:
    """The forecast of every node that asks or trains a model, by its id, in the order in which they would run."""
    found = {node.id: _forecast(made, node, planning) for node in made.order()}
    return {name: forecast for name, forecast in found.items() if forecast is not None}


def summary(found: Mapping[str, Forecast], planning: Planning) -> Iterator[str]:
    """Lines about all stages: their hours, one after another, and what the forecasts assume."""
    hours = sum(forecast.total_hours for forecast in found.values())
    unknown = [name for name, forecast in found.items() if not forecast.hours]
    without = f", without {', '.join(unknown)}, whose time is unknown" if unknown else ""
    yield f"forecast on {planning.gpus} {gpu(planning.gpu).title}: about {hours:,.1f} hours, one stage after another{without}"
    notes = dict.fromkeys(f"  {forecast.title}: {note}" for forecast in found.values() for note in forecast.notes)
    yield from notes


def _forecast(made: Plan, node: Node, planning: Planning) -> Forecast | None:
    if node.command not in ("curate", "sft", "grpo", "evaluate"):
        return None
    config_type = part(node.command).config()
    config: Any = construct(config_type, checked(config_type, node.options, partial(_named, node)))
    model = _model(made, node)
    if isinstance(config, CurateConfig):
        return _curated(config, model, planning)
    if isinstance(config, EvaluateConfig):
        return _evaluated(config, model, planning)
    config = replace(config, model=model)
    if isinstance(config, GrpoConfig):
        return plan_grpo(config, planning)
    return plan_sft(config, planning, _rows(made, node, config, planning))


def _named(node: Node, key: tuple[str, ...]) -> str:
    return ".".join((node.stage, *key))


def _model(made: Plan, node: Node) -> str:
    """The model that a stage begins with, or the one that this one will be made from: they are of one size."""
    name = str(value(node, "model"))
    maker = _maker(made, name)
    return name if maker is None else _model(made, maker)


def _maker(made: Plan, path: str) -> Node | None:
    """The node that will write `path`."""
    return next((node for node in made.nodes.values() if str(node.output) == path), None)


def _curated(config: CurateConfig, model: str, planning: Planning) -> Forecast:
    """Every attempt of the grid, and every reflection on it."""
    notes = ["an attempt without an answer gets no reflection"] if config.reflections else []
    if config.questions is None:
        return plan_texts(
            "curate",
            model,
            {},
            planning,
            "all questions of a data set: their number isn't known before they are read",
            counts={"attempts": None},
        )
    how = config.curation()
    grid = (len(how.variants) + (len(how.hints.variants) if how.hints else 0)) * how.samples
    attempts = config.questions * min(grid, config.budget or grid)
    if config.mode == "lazy":
        notes.append("lazy: a fraction of it, as far as the layouts need")
    limit = config.decoding.max_tokens
    texts = {"attempts": (attempts, limit)}
    if config.reflections:
        texts["reflections"] = (attempts * config.reflections, config.decoding.reflect_max_tokens or limit)
    return plan_texts("curate", model, texts, planning, *notes)


def _evaluated(config: EvaluateConfig, model: str, planning: Planning) -> Forecast:
    """Every response of the groups whose size is known."""
    groups = config.chosen()
    open_ = [group.name for group in groups if group.questions is None]
    notes = [f"without {', '.join(open_)}: the size of a data set isn't known before it is read"] if open_ else []
    if len(open_) == len(groups):
        return plan_texts("evaluate", model, {}, planning, *notes, counts={"responses": None})
    responses = sum((group.questions or 0) * group.samples for group in groups)
    limit = max((group.max_tokens for group in groups), default=0)
    texts = {"responses": (responses * max(config.retry, 1), limit)}
    if config.retry:
        texts["reviews"] = (responses * (config.retry - 1), config.decoding.reflect_max_tokens or limit)
        notes.append("retry: at most, as if no review ever said Correct")
    return plan_texts("evaluate", model, texts, planning, *notes)


def _rows(made: Plan, node: Node, config: SftConfig, planning: Planning) -> Rows | None:
    """The rows that a fine-tuning will find; None if its inputs are there and can be counted."""
    makers = [_maker(made, str(path)) for path in config.inputs]
    if all(maker is None or finished(maker) for maker in makers):
        return None
    counts = [_expected(made, maker, config.per_question) for maker in makers if maker is not None]
    count = None if None in counts else sum(each or 0 for each in counts)
    runs = [maker for maker in makers if maker is not None and maker.command == "curate"]
    if runs:
        length = min(config.max_length, PROMPT + planning.response(max(value(run, "max_tokens") for run in runs)))
        return Rows(count, length, (f"assumed: {config.per_question} right attempts for every question, which is the most",))
    note = f"assumed: {TRACES:.2f} traces a question, as in the published data; half as long as they may be"
    return Rows(count, config.max_length / 2, (note,))


def _expected(made: Plan, maker: Node, per_question: int) -> int | None:
    """The rows that a stage will give: traces of a build, right attempts of a run at most; None for raw data."""
    if maker.command == "curate":
        questions = value(maker, "questions")
        return None if questions is None else int(questions) * per_question
    if maker.command != "build":
        return None
    runs = [_maker(made, str(path)) for path in value(maker, "inputs")]
    questions = [None if run is None else value(run, "questions") for run in runs]
    if None in questions or not questions:
        return None
    count = round(sum(map(int, questions)) * TRACES * int(value(maker, "repeats")))
    limit: int | None = value(maker, "limit")
    return count if limit is None else min(count, limit)
