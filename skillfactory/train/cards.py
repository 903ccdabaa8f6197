"""The model card: what a trained model was made from and how, in words for people and in front matter for the Hub."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from skillfactory import __version__
from skillfactory.rundir import write_text


def write_card(
    folder: Path, title: str, base: str, paragraphs: Sequence[str], settings: Mapping[str, Any], results: Mapping[str, Any]
) -> None:
    """Writes README.md: a title, paragraphs, a table of settings and one of results. `base` is a folder or a Hub id."""
    on_hub = base.count("/") == 1 and not Path(base).exists()
    front = [*([f"base_model: {base}"] if on_hub else []), "library_name: transformers", "pipeline_tag: text-generation"]
    body = [
        "---\n" + "\n".join([*front, "tags: [skillfactory]"]) + "\n---",
        f"# {title}",
        *paragraphs,
        _table("result", results),
        _table("setting", settings),
        f"Written by SkillFactory {__version__}; `training.json` holds the whole account, `metrics.jsonl` the course.",
    ]
    write_text(folder / "README.md", "\n\n".join(body) + "\n")


def _table(head: str, values: Mapping[str, Any]) -> str:
    lines = [f"| {head} | |", "|---|---|"]
    for name, value in values.items():
        shown = value if isinstance(value, str) else f"{value:,}" if type(value) is int else json.dumps(value)
        lines.append(f"| {name.replace('_', ' ')} | {shown.replace('|', '&#124;').replace('<', '&lt;')} |")
    return "\n".join(lines)
