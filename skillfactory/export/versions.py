"""Which versions of other packages each hand-off was checked with: `skillfactory doctor` and READMEs of exports read this."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

OPEN_INSTRUCT = "e6c3044 of 20 August 2026"
"""The state of open-instruct's repository that its hand-off was checked with: it has no releases."""

GPU = "a GPU"


@dataclass(frozen=True, slots=True)
class Handoff:
    """The export targets of a package, the version they were checked with, and what that package asks of others."""

    package: str  # as pip calls it
    targets: tuple[str, ...]
    checked: str
    beside: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # package → at least, below; "": no such bound
    trains: str = GPU  # what its training runs on
    needs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # target → what its training imports; "": of all
    extras: str = ""  # of the package, which bring what is needed

    def needed(self, target: str) -> tuple[str, ...]:
        """What training with a target needs beside the package; "a|b" is one of the two."""
        return (*self.needs.get("", ()), *self.needs.get(target, ()))

    @property
    def install(self) -> str:
        """The command that installs it."""
        if self.package == "open-instruct":
            return f"clone github.com/allenai/open-instruct at {self.checked[:7]}, and name the clone in OPEN_INSTRUCT"
        named = f"{self.package}{self.extras}=={self.checked}"
        return f"pip install '{named}'" if self.extras else f"pip install {named}"


_ALL = ("torch", "transformers", "accelerate")
HANDOFFS = (
    Handoff(
        "trl",
        ("trl", "trl-grpo"),
        "1.16.0",
        {"transformers": ("5.0", "")},
        "a GPU, or a CPU with patience",
        {"": (*_ALL, "datasets"), "trl-grpo": ("skillfactory",)},
    ),
    Handoff(
        "llamafactory",
        ("llamafactory",),
        "0.9.5",
        {"transformers": ("4.55", "5.7"), "datasets": ("2.16", "4.1"), "trl": ("0.18", "0.25")},
        "a GPU, or a CPU for a try",
        {"": (*_ALL, "datasets", "peft", "trl")},
    ),
    Handoff(
        "verl",
        ("verl", "verl-sft"),
        "0.9.1",
        {"transformers": ("", "5.11")},
        GPU,
        {"": (*_ALL, "ray", "tensordict", "flash-attn"), "verl": ("vllm|sglang", "skillfactory")},
        "[vllm,fsdp]",
    ),
    Handoff(
        "axolotl",
        ("axolotl",),
        "0.19.0",
        trains="a GPU, or a CPU for a try",
        needs={"": (*_ALL, "datasets", "peft", "trl", "bitsandbytes")},
    ),
    Handoff(
        "openrlhf",
        ("openrlhf", "openrlhf-rl"),
        "0.11.2",
        {"transformers": ("5.15", "5.16"), "ray": ("2.55", "2.56")},
        GPU,
        {"": ("torch", "transformers", "ray", "deepspeed", "flash-attn", "peft"), "openrlhf-rl": ("vllm", "skillfactory")},
        "[vllm]",
    ),
    Handoff(
        "open-instruct",
        ("open-instruct", "open-instruct-rl"),
        OPEN_INSTRUCT,
        needs={"": (*_ALL, "ray", "deepspeed", "ai2-olmo-core"), "open-instruct-rl": ("vllm", "skillfactory")},
    ),
    Handoff("datasets", ("chat", "tokens"), "5.2.0", trains=""),
    Handoff("huggingface_hub", ("hub",), "2.4.0", trains=""),
)
"""The bounds on other packages, and what is needed, are those of the checked versions: their metadata and their imports."""

CHECKED: Mapping[str, str] = {handoff.package: handoff.checked for handoff in HANDOFFS}
"""Package → the version that its hand-off was seen to work with (docs/integrations.md)."""


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
