"""`skillfactory mini train`: the recipe that makes the embedded base model from synthetic text alone.

Every step's texts are a function of (seed, step, shard), and the gradients of the two shards are added, so one process and
two make the same weights, and a killed training goes on from its last checkpoint as if nothing had happened. The same bits are
promised for the same versions of torch on the same kind of CPU only.
"""

import json
import pickle
import struct
import time
import zipfile
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from skillfactory import seeds
from skillfactory.errors import ConfigError, InputError
from skillfactory.mini.model import make_model, save_model
from skillfactory.mini.packing import SHARD_TOKENS, Packer
from skillfactory.mini.pair import add_gradients, together
from skillfactory.mini.schedule import PHASES, SHARDS, TrainConfig, length_at, rate_at
from skillfactory.mini.texts import Writer
from skillfactory.mini.tokens import make_tokenizer, vocabulary_of
from skillfactory.places import replacing
from skillfactory.progress import Progress, Silent
from skillfactory.rundir import locked, write_text

WORDS = "system user assistant"
CHECKPOINT, METRICS = "checkpoint.pt", "metrics.jsonl"
RECENT = 100  # steps whose mean loss is told
_UNREADABLE = (
    RuntimeError,
    EOFError,
    LookupError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
)  # of torch.load


def vocabulary(seed: int) -> list[str]:
    """Every word that the texts use, and those of all the words of the mini levels."""
    from skillfactory.tasks.words import mini_words

    writer, random = Writer(1000), seeds.rng(seed, "vocabulary")
    return vocabulary_of(
        [WORDS, *(word for words in mini_words() for word in words), *(writer.text(random).whole for _ in range(4000))]
    )


class Run:
    """A training under way, in each of its processes."""

    def __init__(self, config: TrainConfig) -> None:
        import torch

        torch.set_num_threads(1)
        self.config = config
        self.tokenizer = make_tokenizer(vocabulary(config.seed))
        self.model = make_model(self.tokenizer, config.seed)
        self.packer = Packer(self.tokenizer, [length for _, length in PHASES])
        inner = [weight for name, weight in self.model.named_parameters() if weight.dim() == 2 and ".layers." in name]
        others = [weight for name, weight in self.model.named_parameters() if not (weight.dim() == 2 and ".layers." in name)]
        self.optimizers: list[Any] = [
            torch.optim.Muon(inner, lr=config.rate, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, lr=config.rate, betas=(0.9, 0.98), weight_decay=0.0),
        ]
        self.step = 0
        self.tokens = 0
        self.seconds = 0.0
        self.recent: deque[float] = deque(maxlen=RECENT)  # losses
        self.lines: list[dict[str, Any]] = []  # of metrics.jsonl

    def loss(self, step: int, shard: int) -> Any:
        """The loss of one shard of a step, which can be differentiated."""
        import torch
        from torch.nn import functional

        ids, weights = self.packer.shard(self.config.seed, step, shard, length_at(step, self.config.steps))
        own, weight = weights[:, 1:] > 0, weights[:, 1:][weights[:, 1:] > 0]
        with torch.autocast("cpu", torch.bfloat16):
            logits = self.model.lm_head(self.model.model(ids[:, :-1], use_cache=False).last_hidden_state[own])
        losses = functional.cross_entropy(logits.float(), ids[:, 1:][own], reduction="none")
        return (losses * weight).sum() / weight.sum()

    def advance(self, shards: range, shared: bool) -> float:
        """The mean loss of `shards`, this process's, after one step on the gradients of all of them."""
        import torch

        total = 0.0
        for shard in shards:
            loss = self.loss(self.step, shard)
            loss.backward()
            total += loss.item() / len(shards)
        if shared:
            add_gradients(list(self.model.parameters()))
        for weight in self.model.parameters():
            weight.grad.div_(SHARDS)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate_at(self.step, self.config.steps, self.config.rate)
            optimizer.step()
            optimizer.zero_grad()
        self.step += 1
        self.tokens += SHARDS * SHARD_TOKENS
        self.recent.append(total)
        return total

    def save(self, folder: Path) -> None:
        """Keeps all that the training goes on from, in one file, at once or not at all; then writes metrics.jsonl."""
        import torch

        told = {"step": self.step, "loss": round(mean(self.recent), 4), "tokens": self.tokens}
        self.lines.append({**told, "cpu_seconds": round(self.seconds)})
        states = [optimizer.state_dict() for optimizer in self.optimizers]
        kept: dict[str, Any] = {"step": self.step, "tokens": self.tokens, "seconds": self.seconds, "recent": list(self.recent)}
        kept |= {
            "settings": self.config.settings(),
            "lines": self.lines,
            "model": self.model.state_dict(),
            "optimizers": states,
        }
        with replacing(folder / CHECKPOINT) as file:
            torch.save(kept, file)
        self.log(folder)

    def log(self, folder: Path) -> None:
        """Writes metrics.jsonl as of the last checkpoint, so that no stop leaves a step out of it or in it twice."""
        write_text(folder / METRICS, "".join(f"{json.dumps(line)}\n" for line in self.lines))

    def load(self, folder: Path) -> None:
        """Takes up what `save` kept, if it did; ConfigError if that was with other settings, InputError if it is damaged."""
        import torch

        path = folder / CHECKPOINT
        if not path.exists():
            return
        try:
            if not zipfile.is_zipfile(path):  # torch would take it for a format of old
                raise ValueError("not a whole file of torch.save")
            kept = torch.load(path, weights_only=True)
            settings, expected = kept["settings"], self.config.settings()
            if settings == expected:
                self.model.load_state_dict(kept["model"])
                for optimizer, state in zip(self.optimizers, kept["optimizers"], strict=True):
                    optimizer.load_state_dict(state)
                self.step, self.tokens, self.seconds = kept["step"], kept["tokens"], kept["seconds"]
                self.recent.extend(kept["recent"])
                self.lines = kept["lines"]
        except _UNREADABLE as error:
            reason = str(error).partition("\n")[0][:200]
            remedy = "remove it, and the training starts anew, or choose another --output"
            raise InputError(f"{path}: damaged ({type(error).__name__}: {reason}); {remedy}") from error
        if settings != expected:
            raise ConfigError(f"{folder} holds a training with other settings ({settings}); give another --output")


@dataclass(frozen=True, slots=True)
class TrainSummary:
    """What a training came to."""

    output: Path
    steps: int
    tokens: int
    parameters: int
    loss: float  # mean of the last RECENT steps
    seconds: float  # CPU, all processes

    def to_dict(self) -> dict[str, Any]:
        """The summary as JSON-safe values."""
        return {**asdict(self), "output": str(self.output)}

    def __str__(self) -> str:
        return (
            f"{self.output / 'model'}: {self.parameters:,} parameters, {self.steps:,} steps, {self.tokens:,} tokens, "
            f"loss {self.loss:.3f}, {self.seconds / 60:.0f} CPU-minutes"
        )


def train(config: TrainConfig, progress: Progress | None = None) -> TrainSummary:
    """What a training came to that made a base model in `config.output`, which may hold an unfinished one of the same settings.

    Errors: RunLockedError if another training is at work there; EngineError if one of two processes is lost; see `Run.load`.
    """
    if config.output.exists() and not config.output.is_dir():
        raise InputError(f"{config.output} is a file; give a folder")
    config.output.mkdir(parents=True, exist_ok=True)
    with locked(config.output):
        if config.processes == 1:
            return _finish(_course(0, config, progress or Silent()))
        first: Run = together(_course, config, progress or Silent(), Silent())
        return _finish(first)


def _course(rank: int, config: TrainConfig, progress: Progress) -> Run:
    """The training as one process sees it; the first one writes."""
    shared = config.processes > 1
    run = Run(config)
    run.load(config.output)
    if rank == 0:
        run.log(config.output)
    shards = range(rank, rank + 1) if shared else range(SHARDS)
    progress.begin("train", "steps", config.steps)
    progress.advance(run.step)
    before, start = run.seconds, time.process_time()
    while run.step < config.steps:
        run.advance(shards, shared)
        run.seconds = before + (time.process_time() - start) * (SHARDS if shared else 1)
        if rank == 0 and (run.step % config.save_steps == 0 or run.step == config.steps):
            run.save(config.output)
        progress.advance(1, f"loss {mean(run.recent):.3f}")
    progress.end()
    return run


def _finish(run: Run) -> TrainSummary:
    """The summary of a run that has come to its end, whose model this saves."""
    config = run.config
    parameters = sum(weight.numel() for weight in run.model.parameters())
    save_model(run.model, run.tokenizer, config.output / "model")
    minutes = round(run.seconds / 60, 1)
    account = {**config.settings(), "parameters": parameters, "tokens": run.tokens, "cpu_minutes": minutes}
    account |= {"first_losses": first_losses(config), "loss_on_new_texts": round(loss_on_new_texts(run), 5)}
    write_text(config.output / "model" / "made.json", json.dumps(account, indent=2) + "\n")
    return TrainSummary(config.output, run.step, run.tokens, parameters, mean(run.recent), run.seconds)


def first_losses(config: TrainConfig, steps: int = 3) -> list[list[float]]:
    """The losses of both shards in the first steps, by which a recipe is known again: (steps, shards)."""
    run = Run(config)
    losses = []
    for step in range(steps):
        losses.append([round(run.loss(step, shard).item(), 5) for shard in range(SHARDS)])
        run.advance(range(SHARDS), shared=False)
    return losses


def loss_on_new_texts(run: Run, steps: int = 4) -> float:
    """The mean loss on texts of steps past the last one, which no training of these settings comes to."""
    import torch

    with torch.no_grad():
        return mean(float(run.loss(run.config.steps + step, shard)) for step in range(steps) for shard in range(SHARDS))
