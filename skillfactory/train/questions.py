"""How the questions of a reinforcement are put, and in which order."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skillfactory.errors import ConfigError
from skillfactory.seeds import rng
from skillfactory.supply import Asked


@dataclass(frozen=True)
class Asking:
    """How a question is put; without options as in the traces: its prompt alone."""

    system: str = field(default="", metadata={"help": "text of a system turn", "shown": "none", "split": False})
    suffix: str = field(default="", metadata={"help": "text after every question", "shown": "none", "split": False})
    chat_template: Path | None = field(
        default=None, metadata={"help": "a Jinja file in place of the tokenizer's template", "shown": "the tokenizer's"}
    )
    max_prompt_tokens: int = field(default=512, metadata={"help": "questions with longer prompts are refused"})

    def __post_init__(self) -> None:
        if self.max_prompt_tokens < 1:
            raise ConfigError(f"max_prompt_tokens: expected 1 or more, came {self.max_prompt_tokens}")


def course(questions: int, wanted: int, seed: int) -> Iterator[int]:
    """The first `wanted` places in an endless course through the questions: each round is a permutation of its own."""
    for place in range(wanted):
        number, at = divmod(place, questions)
        if at == 0:
            order = list(range(questions))
            rng(seed, "course of questions", number).shuffle(order)
        yield order[at]


def messages(asking: Asking, asked: Asked) -> list[dict[str, str]]:
    """The turns that put a question."""
    system = [{"role": "system", "content": asking.system}] if asking.system else []
    return [*system, {"role": "user", "content": asked.question.prompt + asking.suffix}]


def prompt_tokens(asking: Asking, asked: Asked, tokenizer: Any) -> int:
    """How many tokens a question's prompt has."""
    turns = messages(asking, asked)
    return len(tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=True)["input_ids"])
