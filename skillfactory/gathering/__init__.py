"""Runs on disk → the numbers and texts of a report. Studies and `skillfactory report` share it; it changes no run."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skillfactory.errors import InputError
from skillfactory.progress import Progress, Silent


@dataclass(frozen=True, slots=True)
class ReportConfig:
    """Options of `skillfactory report`."""

    runs: tuple[str, ...] = field(
        metadata={
            "positional": True,
            "metavar": "RUN",
            "help": "a folder that a command of ours wrote, or LABEL=PATH; LABEL=PATH,PATH for several seeds",
        }
    )
    output: Path = field(default=Path("report.html"), metadata={"help": "the page to write; one that is there is replaced"})
    title: str = field(default="", metadata={"help": "the heading of the page", "shown": "the study's, or the runs' labels"})


@dataclass(frozen=True, slots=True)
class ReportSummary:
    """What a report shows, and where it is."""

    output: Path
    bytes: int
    runs: int
    arms: int
    responses: int  # to be read
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The summary as JSON-safe values."""
        counts = {"bytes": self.bytes, "runs": self.runs, "arms": self.arms, "responses": self.responses}
        return {"output": str(self.output), **counts, "notes": list(self.notes)}

    def __str__(self) -> str:
        """A line, and the notes."""
        told = f"{self.runs:,} runs, {self.responses:,} responses and traces to read, {self.bytes / 1000:,.0f} kB"
        return "\n".join([f"{self.output}: {told}", *(f"note: {note}" for note in self.notes)])


def report(config: ReportConfig, progress: Progress | None = None) -> ReportSummary:
    """Writes a page on some runs, and says what it shows. InputError names a path that holds no run, and what was expected."""
    from skillfactory.gathering.pages import gathered  # loads Arrow and numpy
    from skillfactory.outputs import outputs
    from skillfactory.report import page
    from skillfactory.rundir import write_text

    if config.output.is_dir():
        raise InputError(f"{config.output}: a folder; expected the name of the page to write, such as report.html")
    found = outputs(config.runs)
    study = gathered(config.runs, found, config.title, progress or Silent())
    html = page(study)
    config.output.parent.mkdir(parents=True, exist_ok=True)
    write_text(config.output, html)
    shown = sum(len(each.examples) for each in study.selections)
    return ReportSummary(config.output, len(html.encode()), len(found), len(study.arms), shown, study.notes)
