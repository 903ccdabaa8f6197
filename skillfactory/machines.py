"""Where a stage runs: in this process, or on a Ray cluster."""

from dataclasses import dataclass, field

from skillfactory.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Workers:
    """Options of the commands that run past one machine; none of them changes a result."""

    on: str | None = field(
        default=None,
        metadata={
            "metavar": "ray[:ADDRESS]",
            "help": "run on Ray: a cluster here, or the one at ADDRESS (auto: the one that this machine belongs to)",
            "shown": "this process alone",
        },
    )
    actors: int | None = field(default=None, metadata={"help": "with --on: how many workers", "shown": "as many as find room"})
    actor_cpus: float = field(default=1.0, metadata={"help": "with --on: cores that a worker takes"})

    def __post_init__(self) -> None:
        if self.on is not None and self.on.partition(":")[0] != "ray":
            raise ConfigError(f"on: expected ray or ray:ADDRESS, such as ray:auto or ray:10.0.0.1:6379, came '{self.on}'")
        if self.actors is not None and self.actors < 1:
            raise ConfigError(f"actors: expected 1 or more, came {self.actors}")
        if self.actor_cpus < 0:
            raise ConfigError(f"actor_cpus: expected 0 or more, came {self.actor_cpus}")

    @property
    def address(self) -> str | None:
        """The address of the cluster; None for one that is begun here."""
        return (self.on or "").partition(":")[2] or None


@dataclass(frozen=True, slots=True)
class Machines(Workers):
    """Options of the commands whose workers have an engine each; none of them changes a result."""

    actor_gpus: float | None = field(
        default=None,
        metadata={"help": "with --on: GPUs that a worker takes", "shown": "what its engine's options ask for"},
    )

    def __post_init__(self) -> None:
        Workers.__post_init__(self)  # super() without arguments doesn't find its class where slots are made
        if (self.actor_gpus or 0) < 0:
            raise ConfigError(f"actor_gpus: expected 0 or more, came {self.actor_gpus}")
