"""What tells one model or input from another: hashes of what files hold."""

from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

from skillfactory.embedded import located

# The files of a model folder on which it depends as a base: weights, tokenizer and their settings; no cards, no notes.
MODEL = ("*.json", "*.safetensors", "*.bin", "*.jinja", "*.model", "merges.txt", "vocab.txt")
_PASSED_OVER = "training.json"  # the account of a training tells how long it took
_WEIGHTS = {".safetensors", ".bin"}
_WHOLE, _EVERY, _BLOCK = 64 * 2**20, 32 * 2**20, 2**20  # bytes


def fingerprint(path: Path, *patterns: str) -> str:
    """A hash of what a file, or the files of a folder that fit one of the patterns (else all), hold.

    Of weights over 64 MiB the header and 1 MiB in every 32 MiB are read: training changes all of them. An account of a
    training is passed over.
    """
    sum_ = blake2b(digest_size=8)
    found = {path} if path.is_file() else {file for pattern in patterns or ("*",) for file in path.glob(pattern)}
    for file in sorted(one for one in found if one.is_file() and (one == path or one.name != _PASSED_OVER)):
        size = file.stat().st_size
        sum_.update(f"{file.name}\x1f{size}\x1f".encode())
        with file.open("rb") as opened:
            for block in _sampled(opened, size) if file.suffix in _WEIGHTS and size > _WHOLE else _all(opened):
                sum_.update(block)
    return sum_.hexdigest()


def held(model: str) -> dict[str, str]:
    """The hash of a model folder by the model's name; nothing for one of the Hub."""
    folder = Path(located(model))
    return {model: fingerprint(folder, *MODEL)} if folder.is_dir() else {}


def _all(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(_BLOCK):
        yield block


def _sampled(file: BinaryIO, size: int) -> Iterator[bytes]:
    """The header (that of safetensors says its length in 8 bytes), a block in every so many bytes, and the last one."""
    header = min(int.from_bytes(file.read(8), "little"), _WHOLE)
    file.seek(0)
    yield file.read(8 + header) if file.name.endswith(".safetensors") else b""
    for start in (*range(0, size, _EVERY), size - _BLOCK):
        file.seek(start)
        yield file.read(_BLOCK)
