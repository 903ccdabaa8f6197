"""Where files stand: on this machine's file system, or on any that fsspec knows (s3://, gs://, …).

A place elsewhere is a UPath: it behaves as a Path in all that is used of it, and is typed as one. What is done here works for
both: files appear whole or not at all, are listed without a pattern in their folder's name meaning anything, and are read from
any offset. A file elsewhere can't be added to.
"""

import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any, BinaryIO, cast
from uuid import uuid4

from skillfactory.errors import ConfigError, InputError, require

if TYPE_CHECKING:
    import pyarrow.parquet as pq

_OBJECTS = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "memory"})  # no folders, no torn files
_READ_AHEAD = 1 << 20  # bytes; the 5 to 50 MB of the file systems' own settings would be read for each footer
_FOOTER = 1 << 18  # bytes; those of a block of a run are about 10 kB
_FROM_END = ("s3", "s3a", "memory")  # whose last bytes can be asked for without knowing how many there are; Azure's can't
_OWN_ERRORS = {  # of file systems whose failures aren't all OSErrors
    "botocore.exceptions": "BotoCoreError",
    "gcsfs.retry": "HttpError",
    "google.auth.exceptions": "GoogleAuthError",
    "azure.core.exceptions": "AzureError",
    "aiohttp.client_exceptions": "ClientError",
}
_NUMBER = re.compile(r"([0-9]+)")
_SECRET = re.compile(r"://(?!arn:)[^/@:]*:(?!\d+/)[^@]*@(?:[^/]*@)?")  # user:password@, or key:secret@ with a / in it


def is_url(value: object) -> bool:
    """Whether a value is the text of a URL."""
    return isinstance(value, str) and "://" in value


def place(text: str) -> Path:
    """The place that a path or a URL names; ConfigError if no place can be named so, or the package for URLs is missing.

    That of the URL's own file system is missed when the place is first used. A URL with a password is refused, too.
    """
    if not is_url(text):
        return Path(text)
    protocol = text.partition("://")[0]
    if protocol != "github" and _SECRET.search(text):  # there it is ORGANISATION:REPOSITORY@REVISION
        raise ConfigError(
            f"{_SECRET.sub('://…@', text)}: a URL with a password or a key would stand in messages and files, so none is "
            "taken; give it in the settings or the environment of the file system, such as AWS_SECRET_ACCESS_KEY (docs/runs.md)"
        )
    url = require("upath", "cloud").UPath
    fresh = {"use_listings_cache": False} if protocol in _OBJECTS else {}  # other processes write too
    try:
        return cast(Path, url(text, **fresh))
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{text}: not a URL that can be used: {error}") from error


def is_remote(path: Path) -> bool:
    """Whether a place is not on this machine's own file system."""
    return not isinstance(path, Path)


def address(path: Path) -> str:
    """The text that leads back to a place; that of a URL's own object lacks the host, the user or the account."""
    if not is_remote(path):
        return str(path)
    options, key, protocol = cast(Any, path).storage_options, _key(path), _protocol(path)
    if options.get("account_name"):
        container, _, name = key.partition("/")
        return f"{protocol}://{container}@{options['account_name']}.dfs.core.windows.net/{name}"
    if not options.get("host"):
        return str(path)
    user = f"{options['username']}@" if options.get("username") else ""
    port = f":{options['port']}" if options.get("port") else ""
    return f"{protocol}://{user}{options['host']}{port}{key}"


def opened(path: Path) -> BinaryIO:
    """The file to read from any offset, which Parquet needs."""
    if not is_remote(path):
        return path.open("rb")
    file: BinaryIO = _store(path).open(_key(path), "rb", block_size=_READ_AHEAD)
    return file


@contextmanager
def parquet(path: Path) -> Iterator["pq.ParquetFile"]:
    """A Parquet file, open for reading."""
    import pyarrow as pa  # the options of commands are places too, and load no library of tables
    import pyarrow.parquet as pq

    with opened(path) if is_remote(path) else pa.OSFile(str(path)) as file, pq.ParquetFile(file) as table:
        yield table


def footer(path: Path) -> Mapping[bytes, bytes] | None:
    """What a Parquet file says of itself, in one request from S3; None if there is no such file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if is_remote(path) and _protocol(path) in _FROM_END:
            content: bytes = _store(path).cat_file(_key(path), start=-_FOOTER)
            with pq.ParquetFile(pa.BufferReader(content)) as table:  # all places in a footer count from its end
                return table.schema_arrow.metadata or {}
        with parquet(path) as table:
            return table.schema_arrow.metadata or {}
    except FileNotFoundError:
        return None


def names(folder: Path) -> list[str]:
    """The names of what a folder holds, in order; [] if there is no such folder."""
    try:
        if not is_remote(folder):
            return sorted(entry.name for entry in folder.iterdir())
        found = _store(folder).ls(_key(folder), detail=False)
    except FileNotFoundError:
        return []
    return sorted({name.rstrip("/").rpartition("/")[2] for name in found if name.rstrip("/") != _key(folder).rstrip("/")})


def files(folder: Path, pattern: str) -> list[Path]:
    """What a folder holds under names like `pattern`, part 99999 before part 100000; [] if there is no such folder."""
    return [folder / name for name in sorted(names(folder), key=_by_number) if fnmatchcase(name, pattern)]


def _by_number(name: str) -> tuple[str | int, ...]:
    """The texts and numbers by turns that a name consists of."""
    return tuple(int(piece) if place % 2 else piece for place, piece in enumerate(_NUMBER.split(name)))


def below(folder: Path) -> list[Path]:
    """All files in a folder and in those below it, in order; [] if there is no such folder."""
    if is_remote(folder):
        root = _key(folder).rstrip("/")
        found = [folder / key.removeprefix(f"{root}/") for key in _store(folder).find(root)]
    else:
        found = [path for path in folder.rglob("*") if path.is_file()]
    return sorted(found, key=lambda path: path.parts)


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it, where the file system has folders: asked for one, S3 would make a bucket."""
    if not is_remote(folder):
        folder.mkdir(parents=True, exist_ok=True)
    elif _protocol(folder) not in _OBJECTS:
        _store(folder).makedirs(_key(folder), exist_ok=True)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the place of `path` when all is written and on the disk; after an error nothing is changed.

    Of several processes that write the same file none disturbs another's. What goes elsewhere is written to a file here
    first, in the folder for temporary files.
    """
    if is_remote(path):
        with NamedTemporaryFile(prefix="skillfactory-") as spooled:
            yield cast(BinaryIO, spooled)
            spooled.flush()
            _put_file(spooled.name, path)
        return
    draft = _draft(path)
    try:
        with draft.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    if os.name == "posix":  # the new name itself is in the folder, which is another thing to force to the disk
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def drafted(path: Path) -> Iterator[Path | BinaryIO]:
    """Where to write a file that appears at `path` when the block ends, or not at all; its folder is made.

    Unlike `replacing` it doesn't wait for the disk: what a cut of the power takes is made again by the same command.
    """
    if is_remote(path):
        with replacing(path) as file:
            yield file
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = _draft(path)
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Removes the drafts that killed processes have left in a folder of this machine, once nobody writes there any more.

    Elsewhere there are none, or signs of life that are just being written are among them.
    """
    for draft in [] if is_remote(folder) else files(folder, ".*.tmp"):
        remove(draft)


def put(path: Path, data: bytes) -> None:
    """Writes a small file elsewhere, whole or not at all."""
    if _protocol(path) in _OBJECTS:
        _store(path).pipe_file(_key(path), data)
        return
    make_folder(path.parent)
    draft = _draft(path)
    _store(path).pipe_file(_key(draft), data)
    _store(path).mv(_key(draft), _key(path))


def put_new(path: Path, data: bytes) -> bool:
    """Writes a small file elsewhere unless there is one of its name, and says whether it did.

    Where the file system can say so (S3, Google's and Azure's stores, and disks), of two that try at once only one does.
    """
    store, key = _store(path), _key(path)
    try:
        if _protocol(path) in ("file", "local"):  # its own way to create a file looks first and writes later
            with store.open(key, "xb") as file:
                file.write(data)
        else:
            store.pipe_file(key, data, mode="create")
    except FileExistsError:
        return False
    return True


def read(path: Path) -> bytes | None:
    """The content of a file elsewhere; None if there is none."""
    try:
        content: bytes = _store(path).cat_file(_key(path))
    except FileNotFoundError:
        return None
    return content


def remove(path: Path) -> None:
    """Removes a file, if it is there."""
    try:
        if is_remote(path):
            _store(path).rm_file(_key(path))
        else:
            path.unlink()
    except FileNotFoundError:
        return


def remove_folder(folder: Path) -> None:
    """Removes a folder of files, if it is there."""
    if not is_remote(folder):
        shutil.rmtree(folder, ignore_errors=True)
    elif _protocol(folder) in _OBJECTS:
        for name in names(folder):
            remove(folder / name)
    else:
        with suppress(FileNotFoundError):
            _store(folder).rm(_key(folder), recursive=True)


def move(path: Path, to: Path) -> None:
    """Gives a file another name of the same file system, whose folder is made, and which another file may have had.

    FileNotFoundError if there is no such file. A store copies it, without its bytes coming here.
    """
    make_folder(to.parent)
    if not is_remote(path):
        path.replace(to)
    elif _protocol(path) in _OBJECTS:
        _store(path).cp_file(_key(path), _key(to))
        remove(path)
    else:
        _store(path).mv(_key(path), _key(to))


@contextmanager
def reaching(folder: Path) -> Iterator[None]:
    """InputError for what a file system elsewhere fails with in here: a mistyped bucket, no network, no credentials."""
    try:
        yield
    except store_errors() as error:
        raise unreachable(folder, error) from error


def unreachable(folder: Path, error: BaseException) -> InputError:
    """The error that says how a file system elsewhere failed."""
    return InputError(
        f"{address(folder)}: can't be read or written ({type(error).__name__}: {error}); address and credentials come from the "
        "settings and the environment of its file system"
    )


def store_errors() -> tuple[type[Exception], ...]:
    """All that file systems may fail with."""
    return (OSError, *own_errors())


def own_errors() -> tuple[type[Exception], ...]:
    """The errors of their own that the file systems in use may fail with, beside OSErrors."""
    return tuple(getattr(sys.modules[module], name) for module, name in _OWN_ERRORS.items() if module in sys.modules)


def _put_file(local: str, path: Path) -> None:
    if _protocol(path) in _OBJECTS:
        _store(path).put_file(local, _key(path))
        return
    make_folder(path.parent)
    draft = _draft(path)
    _store(path).put_file(local, _key(draft))
    _store(path).mv(_key(draft), _key(path))


def _draft(path: Path) -> Path:
    """Where a file is written that isn't whole yet: a name that no other writer has, who may have been taken for dead."""
    return path.with_name(f".{path.name}.{uuid4().hex}.tmp")


def _store(path: Path) -> Any:
    """The file system of a place elsewhere; ConfigError if its package is missing."""
    try:
        return cast(Any, path).fs
    except ImportError as error:
        raise ConfigError(f"{address(path)}: the package for {_protocol(path)}:// is missing: {error}") from error


def _key(path: Path) -> str:
    """The name by which the file system knows a file."""
    return cast(str, cast(Any, path).path)


def _protocol(path: Path) -> str:
    return cast(str, cast(Any, path).protocol)
