"""The folder of an export: written beside its place, then moved in; nothing of the user's is lost."""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from skillfactory import __version__
from skillfactory.errors import InputError

ACCOUNT = "export.json"
TRAINED = ("model", "checkpoints")  # where the scripts of exports put what they train


def trained_here(output: Path) -> tuple[str, ...]:
    """A note if a training has left its work in a folder that is exported into again."""
    left = [f"{name}/" for name in TRAINED if (output / ACCOUNT).is_file() and (output / name).is_dir()]
    if not left:
        return ()
    told = "of a training on what an earlier export wrote there; this one replaces that and leaves this"
    return (f"{output} holds {' and '.join(left)} {told}",)


@contextmanager
def claimed(output: Path, force: bool, account: Mapping[str, Any]) -> Iterator[Path]:
    """An empty folder to write into; at the end its files stand in `output`, or, after an error, nothing has changed there.

    `export.json` lists the files, so that a later export replaces these and no others. InputError if `output` holds something
    that no export wrote, unless `force` is on, and whenever it holds traces or a run.
    """
    earlier = _earlier(output, force)
    output.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    draft.chmod(0o755)
    try:
        yield draft
        files = sorted(str(path.relative_to(draft)) for path in draft.rglob("*") if path.is_file())
        content = {"command": "export", "version": __version__, **_said(draft), **account, "files": files}
        (draft / ACCOUNT).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")
        if not output.exists() or not any(output.iterdir()):
            draft.replace(output)
            return
        for name in {ACCOUNT, *earlier}:  # the account first: a half-moved export doesn't look like a whole one
            (output / name).unlink(missing_ok=True)
        for name in [*(file for file in files if file != ACCOUNT), ACCOUNT]:
            (output / name).parent.mkdir(parents=True, exist_ok=True)
            (draft / name).replace(output / name)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _said(draft: Path) -> dict[str, Any]:
    """What the target itself has put into the account."""
    path = draft / ACCOUNT
    said: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return said


def _earlier(output: Path, force: bool) -> list[str]:
    """The files that an earlier export wrote into `output`."""
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return []
    if not output.is_dir():
        raise InputError(f"{output}: expected a folder to write, but a file stands there")
    for name, maker in (("build.json", "build"), ("run.json", "curate")):
        if (output / name).exists():
            raise InputError(
                f"{output}: holds what `skillfactory {maker}` wrote, whose files would go; choose another --output"
            )
    try:
        account = json.loads((output / ACCOUNT).read_text("utf-8"))
        names = [str(name) for name in account["files"]] if account.get("command") == "export" else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        names = None
    if names is None and not force:
        raise InputError(
            f"{output}: not empty, and no export.json says that an export wrote it; choose another --output, or --force"
        )
    return [name for name in names or [] if (output / name).resolve().is_relative_to(output.resolve())]
