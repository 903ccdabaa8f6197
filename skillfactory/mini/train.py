"""`skillfactory mini train`: the recipe that makes the embedded base model from synthetic text alone.

Every step's texts are a function of (seed, step, shard), and the gradients of the two shards are added, so one process and
two make the same weights, and a killed training goes on from its last checkpoint as if nothing had happened. The same bits are
promised for the same versions of torch on the same kind of CPU only.
"""

import json
import os
import socket
import time
from collections import deque
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from skillfactory import seeds
from skillfactory.errors import ConfigError, InputError
from skillfactory.mini.model import make_model, save_model
from skillfactory.mini.packing import SHARD_TOKENS, Packer
from skillfactory.mini.texts import Writer
from skillfactory.mini.tokens import make_tokenizer, vocabulary_of
from skillfactory.progress import Progress, Silent
from skillfactory.rundir import write_text

SHARDS = 2
PHASES = ((0.35, 512), (0.85, 1024), (1.0, 2048))  # up to this share of the steps: tokens of a context
RATE, WARM_UP, HOLD, FLOOR = 4e-3, 50, 0.3, 0.02
CHECKPOINT = 100  # steps
WORDS = "system user assistant"


@dataclass(frozen=True)
class TrainConfig:
    """How to train."""

    output: Path
    steps: int = 8000
    seed: int = 0
    processes: int = 2
    rate: float = RATE

    def __post_init__(self) -> None:
        if self.processes not in (1, SHARDS):
            raise ConfigError(f"processes: expected 1 or {SHARDS}, came {self.processes}")
        if self.steps < 1:
            raise ConfigError(f"steps: expected 1 or more, came {self.steps}")


def vocabulary(seed: int) -> list[str]:
    """Every word that the texts use, and those of all the words of the mini levels."""
    from skillfactory.tasks.words import mini_words

    writer, random = Writer(1000), seeds.rng(seed, "vocabulary")
    return vocabulary_of(
        [WORDS, *(word for words in mini_words() for word in words), *(writer.text(random).whole for _ in range(4000))]
    )


def length_at(step: int, steps: int) -> int:
    """Tokens of a context at a step."""
    return next(length for until, length in PHASES if step < until * steps or until == 1.0)


def rate_at(step: int, steps: int, peak: float) -> float:
    """The learning rate at a step: a warm-up, a plateau, a straight line down."""
    done = step / steps
    return peak * min(1.0, (step + 1) / WARM_UP) * (1.0 if done < HOLD else max(FLOOR, (1 - done) / (1 - HOLD)))


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
        """Takes one step on the gradients of all shards, of which `shards` are this process's; gives the mean loss of these."""
        import torch

        total = 0.0
        for shard in shards:
            loss = self.loss(self.step, shard)
            loss.backward()
            total += loss.item() / len(shards)
        if shared:
            torch.distributed.all_reduce(flat := torch.cat([weight.grad.view(-1) for weight in self.model.parameters()]))
            for weight, part in zip(
                self.model.parameters(), flat.split([w.numel() for w in self.model.parameters()]), strict=True
            ):
                weight.grad.copy_(part.view_as(weight))
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
        return total

    def save(self, folder: Path) -> None:
        """Keeps all that the training goes on from, in one file, at once or not at all."""
        import torch

        states = [optimizer.state_dict() for optimizer in self.optimizers]
        kept: dict[str, Any] = {"step": self.step, "tokens": self.tokens, "seconds": self.seconds, "seed": self.config.seed}
        kept |= {"settings": _settings(self.config), "model": self.model.state_dict(), "optimizers": states}
        new = folder / "checkpoint.new"
        torch.save(kept, new)
        new.replace(folder / "checkpoint.pt")

    def load(self, folder: Path) -> None:
        """Takes up what `save` kept, if it did; ConfigError if that was with other settings."""
        import torch

        path = folder / "checkpoint.pt"
        if not path.exists():
            return
        kept = torch.load(path, weights_only=True)
        if kept["settings"] != _settings(self.config):
            raise ConfigError(f"{folder} holds a training with other settings ({kept['settings']}); give another --output")
        self.model.load_state_dict(kept["model"])
        for optimizer, state in zip(self.optimizers, kept["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        self.step, self.tokens, self.seconds = kept["step"], kept["tokens"], kept["seconds"]


@dataclass(frozen=True, slots=True)
class TrainSummary:
    """What a training came to."""

    output: Path
    steps: int
    tokens: int
    parameters: int
    loss: float  # mean of the last 100 steps
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
    """Trains a base model into `config.output`, which may hold an unfinished training of the same settings, and saves it."""
    if config.output.exists() and not config.output.is_dir():
        raise InputError(f"{config.output} is a file; give a folder")
    config.output.mkdir(parents=True, exist_ok=True)
    if config.processes == 1:
        return _work(0, config, progress or Silent())
    import torch

    with closing(socket.socket()) as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
    other = torch.multiprocessing.get_context("spawn").Process(target=_meet, args=(1, config, port, Silent()), daemon=True)
    other.start()
    summary = _meet(0, config, port, progress or Silent())
    other.join()
    return summary


def _meet(rank: int, config: TrainConfig, port: int, progress: Progress) -> TrainSummary:
    import torch

    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    address = f"tcp://127.0.0.1:{port}"
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=SHARDS)
    try:
        return _work(rank, config, progress)
    finally:
        torch.distributed.destroy_process_group()


def _work(rank: int, config: TrainConfig, progress: Progress) -> TrainSummary:
    """The training as one process sees it; the first one writes."""
    shared = config.processes > 1
    run = Run(config)
    run.load(config.output)
    shards = range(rank, rank + 1) if shared else range(SHARDS)
    recent: deque[float] = deque(maxlen=100)
    progress.begin("train", "steps", config.steps)
    progress.advance(run.step)
    with (config.output / "metrics.jsonl").open("a", encoding="utf-8") as metrics:
        before, start = run.seconds, time.process_time()
        while run.step < config.steps:
            recent.append(run.advance(shards, shared))
            run.seconds = before + (time.process_time() - start) * (SHARDS if shared else 1)
            if rank == 0 and (run.step % CHECKPOINT == 0 or run.step == config.steps):
                run.save(config.output)
                told = {
                    "step": run.step,
                    "loss": round(mean(recent), 4),
                    "tokens": run.tokens,
                    "cpu_seconds": round(run.seconds),
                }
                print(json.dumps(told), file=metrics, flush=True)
            progress.advance(1, f"loss {mean(recent):.3f}")
    progress.end()
    parameters = sum(weight.numel() for weight in run.model.parameters())
    if rank == 0:
        save_model(run.model, run.tokenizer, config.output / "model")
        account = {
            **_settings(config),
            "parameters": parameters,
            "tokens": run.tokens,
            "cpu_minutes": round(run.seconds / 60, 1),
        }
        account |= {"first_losses": first_losses(config), "loss_on_new_texts": round(loss_on_new_texts(run), 5)}
        write_text(config.output / "model" / "made.json", json.dumps(account, indent=2) + "\n")
    return TrainSummary(config.output, run.step, run.tokens, parameters, mean(recent) if recent else 0.0, run.seconds)


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


def _settings(config: TrainConfig) -> dict[str, Any]:
    """What the weights depend on; not the number of processes."""
    return {"steps": config.steps, "seed": config.seed, "rate": config.rate}
