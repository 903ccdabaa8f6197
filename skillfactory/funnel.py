"""The account of a stage: requested = kept + dropped, by reason."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Funnel:
    """What came into a stage, what it kept, and what it dropped by reason. It must add up: anything else is a bug."""

    stage: str
    unit: str  # what is counted, e.g. "attempts"
    requested: int
    kept: int
    dropped: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.requested != self.kept + sum(self.dropped.values()):
            raise AssertionError(f"{self.stage}: the account doesn't add up: {self}")

    def to_dict(self) -> dict[str, Any]:
        """The account as JSON-safe values."""
        dropped = dict(sorted(self.dropped.items(), key=lambda item: (-item[1], item[0])))
        return {"stage": self.stage, "unit": self.unit, "requested": self.requested, "kept": self.kept, "dropped": dropped}

    def __str__(self) -> str:
        """One line, reasons in order of size: `build: 900 questions = 880 kept + 20 dropped (no_right_attempt 20)`."""
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in self.to_dict()["dropped"].items())
        lost = sum(self.dropped.values())
        tail = f" ({reasons})" if reasons else ""
        return f"{self.stage}: {self.requested:,} {self.unit} = {self.kept:,} kept + {lost:,} dropped{tail}"
