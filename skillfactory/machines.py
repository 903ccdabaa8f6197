"""Where a stage runs: in this process, or on a Ray cluster."""

from dataclasses import dataclass, field

from skillfactory.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Machines:
    """Options of the commands that run past one machine; none of them changes a result."""

    on: str | None = field(
        default=None,
        metadata={
            "metavar": "ray[:ADDRESS]",
            "help": "run on Ray: a cluster here, or the one at ADDRESS (auto: the one that this machine belongs to)",
            "shown": "this process alone",
        },
    )
    actors: int | None = field(
        default=None, metadata={"help": "with --on: workers, each with an engine of its own", "shown": "as many as find room"}
    )
    actor_cpus: float = field(default=1.0, metadata={"help": "with --on: cores that a worker takes"})
    actor_gpus: float | None = field(
        default=None,
        metadata={"help": "with --on: GPUs that a worker takes", "shown": "what its engine's options ask for"},
    )

    def __post_init__(self) -> None:
        if self.on is not None and self.on.partition(":")[0] != "ray":
            raise ConfigError(f"on: expected ray or ray:ADDRESS, such as ray:auto or ray:10.0.0.1:6379, came '{self.on}'")
        if self.actors is not None and self.actors < 1:
            raise ConfigError(f"actors: expected 1 or more, came {self.actors}")
        for name in ("actor_cpus", "actor_gpus"):
            if (getattr(self, name) or 0) < 0:
                raise ConfigError(f"{name}: expected 0 or more, came {getattr(self, name)}")

    @property
    def address(self) -> str | None:
        """The address of the cluster; None for one that is begun here."""
        return (self.on or "").partition(":")[2] or None
