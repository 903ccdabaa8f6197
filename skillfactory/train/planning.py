"""What `sft` and `grpo` would do, hold and take: their plans, and their options with those of a dry run beside them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from skillfactory.forecast.generation import AT_ONCE, PROMPT
from skillfactory.forecast.gpus import gpu
from skillfactory.forecast.memory import FLOAT32, Pass, cache, training_memory
from skillfactory.forecast.plan import GIB, DryRun, Plan, Planning
from skillfactory.forecast.shapes import Sized, sized
from skillfactory.forecast.speed import generating_seconds, training_seconds, updating_seconds
from skillfactory.train.examples import Replay, read
from skillfactory.train.grpo import GrpoConfig
from skillfactory.train.sft import SftConfig

if TYPE_CHECKING:
    from skillfactory.train.grpo import Running as GrpoRunning
    from skillfactory.train.sft import Running as SftRunning

CHARACTERS = 2.9  # a token, measured on traces of Countdown: they are rich in digits


@dataclass(frozen=True)
class SftCommand(SftConfig):
    """Options of `skillfactory sft`."""

    planning: DryRun = field(default_factory=DryRun)


@dataclass(frozen=True)
class GrpoCommand(GrpoConfig):
    """Options of `skillfactory grpo`."""

    planning: DryRun = field(default_factory=DryRun)


def stage_of(command: Any, config_type: type[Any]) -> Any:
    """A command's options without those of a dry run: what the stage takes."""
    return config_type(**{each.name: getattr(command, each.name) for each in fields(config_type)})


@dataclass(frozen=True, slots=True)
class Rows:
    """How many rows there are to learn from, if that is known, and the tokens of one on average."""

    count: int | None
    tokens: float
    notes: Sequence[str] = ()


def rows_of(config: SftConfig) -> Rows:
    """The rows that the inputs hold, tokens estimated by their characters; InputError for an input that can't be read."""
    held = [read(path, "none", config.per_question, config.seed).examples for path in config.inputs]
    sizes = [(len(example.prompt) + len(example.response)) / CHARACTERS for examples in held for example in examples]
    kept = [size for size in sizes if size <= config.max_length]
    lost = len(sizes) - len(kept)
    notes = [f"tokens by {CHARACTERS:g} characters each"]
    notes += [f"{lost:,} of {len(sizes):,} rows look longer than {config.max_length:,} tokens and are left out"] if lost else []
    return Rows(len(kept), sum(kept) / max(len(kept), 1), notes)


def plan_sft(config: SftConfig, planning: Planning, rows: Rows | None = None) -> Plan:
    """The plan of a fine-tuning; `rows` in place of those of the inputs, if these don't exist yet."""
    rows = rows or rows_of(config)
    how, known, card = config.optimisation, sized(config.model, planning.parameters), gpu(planning.gpu)
    per_step, steps, tokens = how.batch_size * how.accumulate, how.max_steps, None
    if rows.count is not None:
        replayed = 1 + sum(Replay.read(text).share for text in config.replay)
        seen = math.ceil(rows.count * replayed * how.epochs)
        steps = min(math.ceil(seen / per_step), how.max_steps or seen)
        tokens = round(min(seen, steps * per_step) * rows.tokens)
    bfloat16, checkpointing = _modes(config.running)
    work = Pass(how.batch_size, config.max_length, checkpointing, bfloat16, config.lora.lora_rank)
    memory = training_memory(known, work)
    seconds = {
        "train": training_seconds(known, tokens or 0, rows.tokens, checkpointing, card),
        "update": updating_seconds(_trained(memory), steps or 0, card),
    }
    return Plan(
        "sft",
        known,
        {"rows": rows.count, "tokens of a row": rows.tokens, "steps": steps, "tokens read": tokens},
        memory,
        {name: value / 3600 / planning.gpus for name, value in seconds.items()} if tokens else {},
        card,
        planning.gpus,
        tuple(rows.notes),
    )


def plan_grpo(config: GrpoConfig, planning: Planning) -> Plan:
    """The plan of a reinforcement."""
    how, rollouts, known, card = (
        config.reinforcement,
        config.rollouts,
        sized(config.model, planning.parameters),
        gpu(planning.gpu),
    )
    per_step = rollouts.prompts_per_step * rollouts.group_size
    length = planning.response(rollouts.max_new_tokens)
    limit = math.ceil((how.max_generated_tokens or math.inf) / (per_step * length)) if how.max_generated_tokens else None
    steps = min(number for number in (how.steps, limit) if number is not None)
    responses = steps * per_step
    most = min(responses * rollouts.max_new_tokens, how.max_generated_tokens or math.inf)
    prompt = min(PROMPT, config.asking.max_prompt_tokens)
    bfloat16, checkpointing = _modes(config.running)
    longest = max(config.running.tokens_per_pass, config.asking.max_prompt_tokens + rollouts.max_new_tokens)
    passes = how.iterations * (3 + checkpointing) + (config.updates > 1) + (how.beta > 0)  # old and reference probabilities
    at_once = min(per_step, AT_ONCE if rollouts.vllm != "off" else rollouts.generate_batch)
    memory = training_memory(known, Pass(1, longest, checkpointing, bfloat16, config.lora.lora_rank))
    seconds = {
        "generate": generating_seconds(known, responses * length, responses * prompt, prompt + length, at_once, card),
        "train": training_seconds(known, responses * (prompt + length), prompt + length, False, card, passes),
        "update": updating_seconds(_trained(memory), steps * config.updates, card),
    }
    if memory:
        memory |= _beside(config, known, card.memory, at_once)
    return Plan(
        "grpo",
        known,
        {
            "steps": steps,
            "updates of the weights": steps * config.updates,
            "responses": responses,
            "generated tokens": responses * length,
            **({"most generated tokens": most} if how.steps is not None else {}),
        },
        memory,
        {name: value / 3600 / planning.gpus for name, value in seconds.items()},
        card,
        planning.gpus,
        tuple(_said(config, length)),
    )


def _beside(config: GrpoConfig, known: Sized, memory: float, at_once: int) -> dict[str, int | None]:
    """What generation and a reference model hold beside the training."""
    rollouts = config.rollouts
    parts: dict[str, int | None] = {}
    if config.reinforcement.beta > 0 and not config.lora.lora_rank and known.parameters is not None:
        parts["reference model"] = FLOAT32 * known.parameters
    if rollouts.vllm == "colocate":
        parts["vllm"] = round(rollouts.vllm_memory * memory * GIB)
    elif rollouts.vllm == "off":
        longest = config.asking.max_prompt_tokens + rollouts.max_new_tokens
        parts[f"cache of {at_once} texts"] = cache(known, at_once, longest, FLOAT32)
    return parts


def _said(config: GrpoConfig, length: int) -> Sequence[str]:
    """What was assumed."""
    notes = [f"assumed: prompts of {PROMPT} tokens, responses of {length:,} on average"]
    how = config.reinforcement
    if how.steps is None:
        notes.append("the tokens end it: shorter responses give more steps")
    if config.rollouts.vllm == "off":
        notes.append("without vLLM, generation on a GPU takes several times as long")
    if config.rollouts.vllm == "server":
        notes.append("the GPU of the vLLM server comes on top")
    return notes


def _trained(memory: Mapping[str, int | None]) -> int | None:
    """How many weights get a gradient."""
    held = memory.get("gradients")
    return None if held is None else held // FLOAT32


def _modes(running: "SftRunning | GrpoRunning") -> tuple[bool, bool]:
    """Whether a GPU would compute in bfloat16, and with checkpointing."""
    return running.precision != "float32", running.gradient_checkpointing != "off"
