"""A data set on the Hub: chat rows with where they come from, a card, and one commit that holds all of it."""

import json
import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from skillfactory.errors import ConfigError, InputError, require
from skillfactory.export.card import card, counts, front
from skillfactory.export.chat import PROVENANCE
from skillfactory.export.folder import ACCOUNT
from skillfactory.export.parts import Shape, check_lengths, dropped, length_note, write_parts
from skillfactory.export.target import ExportConfig, Upload, Written
from skillfactory.progress import Progress
from skillfactory.tracefiles import TraceFiles

_OWNED = ("data/", "drops/")  # folders of the repository that an export fills: what an earlier one left there goes
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}")
_SECONDS = 30.0


def export(source: TraceFiles, folder: Path, config: ExportConfig, progress: Progress) -> Written:
    """Writes `data/train-*.parquet` with messages and provenance, and the card of the data set."""
    lengths = check_lengths(source, config.max_length, config.drop_long, "a trainer")
    written = write_parts(source, folder / "data", Shape("messages", PROVENANCE, limit=config.max_length), progress)
    if written:
        (folder / "README.md").write_text(card(source, config.upload, counts(folder / "data")), "utf-8")
    return Written(written, dropped(source, written), length_note(lengths, config.max_length))


def sender(config: ExportConfig) -> Callable[[], tuple[str, ...]]:
    """What uploads the folder once it is complete, and gives back notes; all that can be known before is checked now.

    ConfigError for a name or licence that the Hub wouldn't take and a missing library; InputError without a network or a token,
    and for a public data set of that name unless `--public` says that it is meant.
    """
    upload = config.upload
    _check(upload)
    hub = require("huggingface_hub", "data")
    failures = _failures()
    if require("huggingface_hub.constants", "data").HF_HUB_OFFLINE:
        raise InputError(
            "hub: HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE) is set, so nothing can be uploaded; unset it, or write the folder "
            "alone with --to chat"
        )
    token = hub.get_token()
    if not token:
        raise InputError("hub: there is no token; set HF_TOKEN, or log in with `hf auth login`")
    if not sys.stderr.isatty():
        hub.utils.disable_progress_bars()
    api = hub.HfApi(token=token)
    try:
        api.whoami()
        hub.DatasetCard(front(upload, 1)).validate(repo_type="dataset")
        existing = _visibility(api, upload.repo)
    except failures as error:
        raise InputError(
            f"hub: {api.endpoint} refuses, or can't be reached, so nothing was done: {_said(error)}; look at the network, the "
            "token (`hf auth whoami`) and HF_ENDPOINT, or write the folder alone with --to chat"
        ) from error
    if existing == "public" and not upload.public:
        raise InputError(
            f"hub: the data set {upload.repo} is there and public, and all would see what is added; if that is meant, give "
            "--public, else another --repo"
        )

    def send() -> tuple[str, ...]:
        try:
            if not existing:
                api.create_repo(upload.repo, repo_type="dataset", private=not upload.public, exist_ok=True)
            where = _sent(hub, api, upload, config.folder)
        except failures as error:
            raise InputError(
                f"hub: the upload to {upload.repo} failed: {_said(error)}\n"
                f"The folder {config.folder} is complete. Once the cause is mended, the same command uploads it, or: hf upload "
                f"{upload.repo} {config.folder} --repo-type dataset --exclude {ACCOUNT}"
            ) from error
        seen = "public" if upload.public and existing != "private" else "private"
        notes: tuple[str, ...] = (f"uploaded to {where} ({seen})",)
        if upload.public and seen == "private":
            notes += (f"{upload.repo} was there before and stays private; its settings on the Hub change that",)
        return notes

    return send


def _check(upload: Upload) -> None:
    """ConfigError for names that the Hub wouldn't take."""
    name = upload.repo
    if not name:
        raise ConfigError("upload.repo: the target hub needs the data set's name: --repo OWNER/NAME")
    bad = not _NAME.fullmatch(name) or "--" in name or ".." in name or name.endswith((".git", "-", ".")) or len(name) > 96
    if bad:
        raise ConfigError(
            f"upload.repo: expected OWNER/NAME of letters, digits, '-', '_' and '.', at most 96 in all, came '{name[:120]}'"
        )
    if upload.licence and not _LICENCE.fullmatch(upload.licence):
        raise ConfigError(f"upload.licence: expected a licence's id such as apache-2.0, came '{upload.licence[:80]}'")


def _visibility(api: Any, repo: str) -> str:
    """public, private, or "" if there is no such data set that the token may see."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return "private" if api.dataset_info(repo, timeout=_SECONDS).private else "public"
    except RepositoryNotFoundError:
        return ""


def _sent(hub: Any, api: Any, upload: Upload, folder: Path) -> str:
    """The address of the data set, once one commit has put the folder there.

    The client's upload of a folder may take several commits, between which the data set would be half there.
    """
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    files.remove(ACCOUNT)  # it tells paths of this machine, and nothing that the card doesn't
    there = api.list_repo_files(upload.repo, repo_type="dataset")
    gone = [name for name in there if name.startswith(_OWNED) and name not in files]
    operations = [hub.CommitOperationDelete(path_in_repo=name) for name in gone]
    operations += [hub.CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(folder / name)) for name in files]
    api.create_commit(upload.repo, operations, commit_message="Silver traces, exported by SkillFactory", repo_type="dataset")
    return f"{api.endpoint.rstrip('/')}/datasets/{upload.repo}"


def _failures() -> tuple[type[Exception], ...]:
    """What the client raises when the Hub refuses or can't be reached, whichever HTTP library it is built on."""
    from huggingface_hub.errors import HfHubHTTPError

    transport = tuple(kind for kind in HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError")
    return (*transport, OSError, ValueError, RuntimeError)


def _said(error: Exception) -> str:
    """What an error of the client says, with its cause, on one line and without the token."""
    text = str(error)
    if text.startswith("{"):  # what the Hub says of a card
        with suppress(ValueError, KeyError, TypeError):
            text = "; ".join(str(each["message"]) for each in json.loads(text)["errors"])
    cause = str(error.__cause__ or "")
    text = " ".join(f"{text or type(error).__name__} {'' if cause in text else cause}".split())
    token = os.environ.get("HF_TOKEN")
    return text.replace(token, "…") if token else text
