"""A plan: what a command would do, hold and take, for people and as JSON."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from skillfactory.errors import ConfigError
from skillfactory.forecast.gpus import GPUS, Gpu, gpu
from skillfactory.forecast.shapes import Sized

GIB = 2**30
SHARDED = ("weights", "gradients", "optimizer")  # what FSDP and ZeRO-3 spread over the GPUs


@dataclass(frozen=True)
class Planning:
    """What a plan rests on. Of all commands only --dry-run asks for it."""

    gpu: str = field(default="h100", metadata={"help": f"of the plan: {', '.join(GPUS)}"})
    gpus: int = field(default=1, metadata={"help": "of the plan: how many of them"})
    parameters: int | None = field(
        default=None,
        metadata={"help": "of the plan: weights of a model that isn't known", "shown": "by its name or config.json"},
    )
    response_tokens: int | None = field(
        default=None, metadata={"help": "of the plan: tokens of a response on average", "shown": "a quarter of the limit"}
    )

    def __post_init__(self) -> None:
        gpu(self.gpu)
        for name in ("gpus", "parameters", "response_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name}: expected 1 or more, came {value}")

    def response(self, limit: int) -> int:
        """Tokens of a response on average, if it may have so many."""
        return min(limit, self.response_tokens or -(-limit // 4))


@dataclass(frozen=True)
class DryRun(Planning):
    """The plan of a dry run."""

    dry_run: bool = field(default=False, metadata={"help": "print the plan (steps, tokens, memory, hours) and do nothing"})


@dataclass(frozen=True, slots=True)
class Plan:
    """What a command would do. Memory is per GPU, hours are those of all GPUs at once; None is unknown."""

    title: str
    model: Sized
    counts: Mapping[str, int | float | None]  # steps, rows, tokens …
    memory: Mapping[str, int | None]  # bytes by part, every GPU holding all of it
    hours: Mapping[str, float]  # by part
    gpu: Gpu
    gpus: int
    notes: tuple[str, ...] = ()  # what was assumed, what does not fit

    @property
    def total_memory(self) -> int:
        """Bytes of the known parts."""
        return sum(part for part in self.memory.values() if part is not None)

    @property
    def total_hours(self) -> float:
        """Hours of all parts."""
        return sum(self.hours.values())

    @property
    def fits(self) -> bool | None:
        """Whether a GPU can hold it all; None if a part is unknown."""
        return None if None in self.memory.values() or not self.memory else self.total_memory <= self.gpu.memory * GIB

    @property
    def sharded(self) -> int:
        """Bytes per GPU with weights, gradients and optimizer spread over them."""
        spread = sum(self.memory.get(name) or 0 for name in SHARDED)
        return self.total_memory - spread + spread // self.gpus

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON-safe values."""
        return {
            "plan": self.title,
            "model": self.model.name,
            "parameters": self.model.parameters,
            "counts": dict(self.counts),
            "memory_bytes": dict(self.memory),
            "memory_bytes_total": self.total_memory,
            "fits": self.fits,
            "hours": {name: round(value, 3) for name, value in self.hours.items()},
            "gpu": self.gpu.title,
            "gpus": self.gpus,
            "notes": list(self.notes),
        }

    @property
    def line(self) -> str:
        """The plan in one line."""
        counts = ", ".join(f"{'unknown' if count is None else f'{count:,.0f}'} {name}" for name, count in self.counts.items())
        memory = f"; {self.total_memory / GIB:,.1f} GiB{self._verdict()}" if self.memory else ""
        return f"{counts}{memory}; {f'about {self.total_hours:,.1f} h' if self.hours else 'time unknown'}"

    def __str__(self) -> str:
        """A few lines for people."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        weights = self.model.parameters
        size = "unknown size: give --parameters" if weights is None else f"{weights:,} parameters"
        yield f"{self.title}: {self.model.name} ({size})"
        for name, count in self.counts.items():
            yield f"  {name:<24}{'unknown' if count is None else f'{count:>16,.0f}'}"
        if self.memory:
            yield f"  memory on each of {self.gpus} {self.gpu.title} ({self.gpu.memory:g} GiB)"
            for name, part in self.memory.items():
                yield f"    {name:<22}{'unknown' if part is None else f'{part / GIB:>12,.2f} GiB'}"
            yield f"    {'in all':<22}{self.total_memory / GIB:>12,.2f} GiB{self._verdict()}"
        if self.total_hours:
            parts = ", ".join(f"{name} {hours:,.2f}" for name, hours in self.hours.items())
            yield f"  hours on {self.gpus} {self.gpu.title}: about {self.total_hours:,.2f} ({parts})"
        yield from (f"  note: {note}" for note in self.notes)

    def _verdict(self) -> str:
        if self.fits is None:
            return " and what is unknown"
        if self.fits:
            return ", fits"
        if self.gpus > 1 and self.sharded <= self.gpu.memory * GIB:
            return f", too much; {self.sharded / GIB:,.2f} GiB if sharded (FSDP or ZeRO-3), fits"
        return ", too much" + (
            f"; {self.sharded / GIB:,.2f} GiB if sharded (FSDP or ZeRO-3), too much" if self.gpus > 1 else ""
        )
