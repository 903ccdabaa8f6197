"""Which versions of other packages each hand-off was checked with: `skillfactory doctor` and READMEs of exports read this."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Handoff:
    """The export targets of a package, the version they were checked with, and what that package asks of others."""

    package: str  # as pip calls it
    targets: tuple[str, ...]
    checked: str
    beside: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # package → at least, below; "": no such bound
    trains: str = "a GPU"  # what its training needs


HANDOFFS = (
    Handoff("trl", ("trl", "trl-grpo"), "1.16.0", {"transformers": ("5.0", "")}, "a GPU, or patience"),
    Handoff(
        "llamafactory",
        ("llamafactory",),
        "0.9.5",
        {"transformers": ("4.55", "5.7"), "datasets": ("2.16", "4.1"), "trl": ("0.18", "0.25")},
    ),
    Handoff("verl", ("verl", "verl-sft"), "0.9.1", {"transformers": ("", "5.11")}),
    Handoff("axolotl", ("axolotl",), "0.19.0"),
    Handoff("openrlhf", ("openrlhf", "openrlhf-rl"), "0.11.2", {"transformers": ("5.15", "5.16"), "ray": ("2.55", "2.56")}),
    Handoff("datasets", ("chat", "tokens"), "5.2.0", trains="nothing"),
    Handoff("huggingface_hub", ("hub",), "2.4.0", trains="nothing"),
)
"""open-instruct has no releases: see OPEN_INSTRUCT. The bounds on other packages are those of the checked versions."""

CHECKED: Mapping[str, str] = {handoff.package: handoff.checked for handoff in HANDOFFS}
"""Package → the version that its hand-off was seen to work with (docs/integrations.md)."""

OPEN_INSTRUCT = "e6c3044 of 20 August 2026"
"""The state of open-instruct's repository that its hand-off was checked with."""


def numbers(version: str) -> tuple[int, ...]:
    """The release numbers of a version, to compare by: (2, 13, 0) for 2.13.0+cpu, and (1, 2) for 1.2rc1."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def within(version: str, least: str, below: str) -> bool:
    """Whether a version is at least `least` and below `below`; "" is no bound."""
    own = numbers(version)
    return (not least or own >= numbers(least)) and (not below or own < numbers(below))


def bounds(least: str, below: str) -> str:
    """The bounds as pip writes them."""
    return ",".join([*([f">={least}"] if least else []), *([f"<{below}"] if below else [])])
