"""What the base model can do far from its question: attempt it after many failures, review, copy an answer.

Later attempts of a trace stand on it: where it fails, they fail for reasons that have nothing to do with the method. The
contexts hold what training never did, several wrong attempts at one question.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

from skillfactory.embedded import located
from skillfactory.mini import countdown
from skillfactory.mini.tokens import END, START
from skillfactory.mini.walks import Walk, solution, walk, worth
from skillfactory.prompts import BRIEF, load_phrases
from skillfactory.seeds import rng
from skillfactory.tasks.generated import split_of

SIZES, FAILURES, FAR = (
    (3, 4, 5, 6),
    (0, 1, 3, 8),
    1024,
)  # numbers of a question; attempts before; tokens of the longest contexts
_ATTEMPT, _REVIEW = 110, 40  # new tokens at most


@dataclass(frozen=True, slots=True)
class Probed:
    """Shares among `n` contexts, from 0 to 1. `tokens` is the mean distance from the question."""

    size: int
    failures: int
    tokens: float
    n: int
    restated: float  # the question, word for word
    sound: float  # answers that use the given numbers, each once
    right: float
    reviewed: float  # true verdicts on these attempts
    copied: float  # final answers that are the last attempt's


class Prober:
    """A model with the means to go on with any text."""

    def __init__(self, model: str) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._tokenizer: Any = AutoTokenizer.from_pretrained(located(model))
        self._model: Any = AutoModelForCausalLM.from_pretrained(located(model)).eval()
        torch.set_num_threads(1)
        phrases = load_phrases(Path(BRIEF))
        self._glue, self._closing = phrases.neutral + phrases.retry, phrases.closing

    def probe(self, size: int, failures: int | None, n: int, seed: int) -> Probed:
        """Attempts after so many failed ones, or after FAR tokens of them if None, at held-out questions of a size."""
        random = rng(seed, "probe", size, str(failures))
        asked = [held_out(random, size) for _ in range(n)]
        before = [self._failed(each, failures, random) for each in asked]
        made = self._go_on([f"{text}<sample>\n" for text in before], _ATTEMPT, "</sample>")
        answers = [_answer(text) for text in made]
        worths = [worth(answer) for answer in answers]
        sound = [
            found is not None and sorted(found.numbers) == sorted(each.numbers)
            for found, each in zip(worths, asked, strict=True)
        ]
        right = [
            good and found is not None and found.value == each.target
            for good, found, each in zip(sound, worths, asked, strict=True)
        ]
        reviewed = self._go_on(
            [f"{a}<sample>\n{b}\n<reflect>\n" for a, b in zip(before, made, strict=True)], _REVIEW, "</reflect>"
        )
        ends = [random.choice(self._closing) for _ in asked]
        closed = [
            f"{a}<sample>\n{b}\n<reflect>\n{c}\n</think>\n\n{end}\n\n<answer>\n"
            for a, b, c, end in zip(before, made, reviewed, ends, strict=True)
        ]
        copies = self._go_on(closed, _ATTEMPT, "</answer>")
        return Probed(
            size=size,
            failures=-1 if failures is None else failures,
            tokens=sum(self._count(text) for text in before) / n,
            n=n,
            restated=sum(text.startswith(each.prompt) for text, each in zip(made, asked, strict=True)) / n,
            sound=sum(sound) / n,
            right=sum(right) / n,
            reviewed=sum(f"<verdict>{_said(good)}</verdict>" in text for good, text in zip(right, reviewed, strict=True)) / n,
            copied=sum(copy.removesuffix("</answer>").strip() == answer for copy, answer in zip(copies, answers, strict=True))
            / n,
        )

    def _failed(self, asked: countdown.Sum, failures: int | None, random: Random) -> str:
        """A chat up to where the next attempt begins."""
        text = f"{START}user\n{asked.prompt}{END}\n{START}assistant\n<think>\n"
        number = 0
        while number < failures if failures is not None else self._count(text) < FAR:
            way = wrong(asked, random)
            attempt = " ".join(countdown.attempt(asked, way, way.expression, "rephrase"))
            said = countdown.review(asked, way.expression)
            text += f"<sample>\n{attempt}\n</sample>\n<reflect>\n{said}\n</reflect>\n{random.choice(self._glue)}\n"
            number += 1
        return text

    def _count(self, text: str) -> int:
        return len(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _go_on(self, texts: Sequence[str], room: int, until: str) -> list[str]:
        """What the model writes after each text, sampled at temperature 1, up to `until` (included if it came to it)."""
        import torch

        torch.manual_seed(0)
        made = []
        for start in range(0, len(texts), 64):
            batch = self._tokenizer(
                list(texts[start : start + 64]), add_special_tokens=False, padding=True, return_tensors="pt"
            )
            with torch.inference_mode():
                output = self._model.generate(
                    **batch,
                    do_sample=True,
                    temperature=1.0,
                    top_k=0,
                    top_p=1.0,
                    max_new_tokens=room,
                    eos_token_id=[self._tokenizer.eos_token_id, self._tokenizer.convert_tokens_to_ids(until)],
                    pad_token_id=self._tokenizer.pad_token_id,
                )
            new = output[:, batch["input_ids"].shape[1] :]
            made += [text.strip() for text in self._tokenizer.batch_decode(new, skip_special_tokens=True)]
        return made


def held_out(random: Random, size: int) -> countdown.Sum:
    """A question of the `eval` split, which the model never saw."""
    while True:
        numbers = tuple(random.randint(*countdown.NUMBERS) for _ in range(size))
        way = walk(numbers, None, random)
        if way is None or not countdown.TARGETS[0] <= way.value <= countdown.TARGETS[1] or way.value in numbers:
            continue
        key = f"countdown {' '.join(map(str, sorted(numbers)))} = {way.value}"
        if split_of(key) == "eval":
            return countdown.Sum(numbers, way.value, way)


def wrong(asked: countdown.Sum, random: Random) -> Walk:
    """A walk that misses the target."""
    while True:
        way = solution(asked.numbers, asked.target, random, 0.0)
        if way.value != asked.target:
            return way


def probe(model: str, n: int, seed: int) -> Iterator[Mapping[str, Any]]:
    """A row for each size and each number of failures, the last one FAR tokens of them; see Probed."""
    prober = Prober(model)
    for size in SIZES:
        for failures in (*FAILURES, None):
            yield asdict(prober.probe(size, failures, n, seed))


def _answer(text: str) -> str:
    found = re.search(r"<answer>(.*?)</answer>", text)
    return found[1].strip() if found else ""


def _said(right: bool) -> str:
    return "Correct" if right else "Incorrect"
