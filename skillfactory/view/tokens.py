"""A page that shows traces token by token: which ones bear loss, which a mask silences, and which are context."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from skillfactory.errors import ConfigError, InputError
from skillfactory.masks import Mask
from skillfactory.progress import Progress, Silent

if TYPE_CHECKING:
    from skillfactory.encoding import Encoder, Example, Rendered, Row
    from skillfactory.tracefiles import TraceFiles

TRAINED, SILENT, CONTEXT = "trained", "silent", "context"
_MOST = 50  # traces on a page


@dataclass(frozen=True)
class TokensConfig:
    """Which traces to show, and with whose tokens."""

    directory: Path = field(metadata={"positional": True, "metavar": "DIR", "help": "traces of `skillfactory build`"})
    output: Path = field(metadata={"metavar": "FILE", "help": "the page to write, such as tokens.html"})
    model: str = field(
        default="mini", metadata={"help": "whose tokens: a folder, a Hub id, or mini, the embedded model; or a tokenizer alone"}
    )
    mask: Mask = field(default="none", metadata={"help": "attempts that bear no loss (docs/training.md)"})
    trace: tuple[str, ...] = field(default=(), metadata={"metavar": "ID", "help": "a trace to show", "shown": "the first --n"})
    n: int = field(default=3, metadata={"help": "how many traces to show"})
    chat_template: Path | None = field(
        default=None, metadata={"help": "a Jinja file in place of the tokenizer's template", "shown": "the tokenizer's"}
    )

    def __post_init__(self) -> None:
        if not 1 <= self.n <= _MOST or len(self.trace) > _MOST:
            raise ConfigError(f"n: expected 1 to {_MOST} traces on a page, came {max(self.n, len(self.trace))}")


class Shown(NamedTuple):
    """A token as it is shown: its characters, "" if an earlier one shows them, and what it is to the training."""

    text: str
    id: int | None  # None for characters that no token stands for
    state: str


@dataclass(frozen=True, slots=True)
class Spelt:
    """A trace in tokens, or why it can't be learnt from."""

    id: str
    tokens: Sequence[Shown]
    refused: str = ""

    @property
    def counts(self) -> Counter[str]:
        """How many tokens are in each state."""
        return Counter(token.state for token in self.tokens if token.id is not None)


@dataclass(frozen=True, slots=True)
class TokensSummary:
    """What the page shows."""

    output: Path
    traces: int
    counts: Counter[str]
    refused: int

    @property
    def share(self) -> float:
        """The share of the tokens that bear loss."""
        return self.counts[TRAINED] / max(1, self.counts.total())

    def to_dict(self) -> dict[str, Any]:
        """The summary as JSON-safe values."""
        counts = {state: self.counts[state] for state in (TRAINED, SILENT, CONTEXT)}
        told = {"output": str(self.output), "traces": self.traces, "refused": self.refused}
        return told | {"tokens": counts, "trained_share": round(self.share, 4)}

    def __str__(self) -> str:
        of = f"{self.counts[TRAINED]:,} of {self.counts.total():,} tokens bear loss ({self.share:.1%})"
        return f"{self.output}: {self.traces:,} trace{'' if self.traces == 1 else 's'}, {of}"


def tokens(config: TokensConfig, progress: Progress | None = None) -> TokensSummary:
    """Writes the page, and says what it shows.

    InputError for a directory without traces, a trace that isn't there, and a model that can't be loaded; ConfigError for a
    chat template that `sft` would refuse.
    """
    from skillfactory.encoding import Encoder, open_traces, tokenizer_of
    from skillfactory.places import make_folder, replacing
    from skillfactory.view.tokenpage import page

    if config.output.is_dir():
        raise InputError(f"{config.output}: a folder; expected the name of the page to write, such as tokens.html")
    encoder = Encoder(tokenizer_of(config.model, config.chat_template), 1 << 30)
    (progress or Silent()).begin("read", "traces")
    chosen = _chosen(open_traces(config.directory, config.mask), config)
    found = [_spelt(example, encoder) for example in chosen]
    (progress or Silent()).end()
    make_folder(config.output.parent)
    with replacing(config.output) as file:
        file.write(page(found, config).encode())
    counts = sum((each.counts for each in found), Counter[str]())
    return TokensSummary(config.output, len(found), counts, sum(bool(each.refused) for each in found))


def _chosen(files: "TraceFiles", config: TokensConfig) -> "list[Example]":
    """The traces to show: those named, in that order, or the first ones."""
    if not config.trace:
        return [example for example, _ in zip(_all(files, config.mask), range(config.n), strict=False)]
    wanted, found = set(config.trace), {}
    for example in _all(files, config.mask):
        if example.id in wanted:
            found[example.id] = example
            if len(found) == len(wanted):
                break
    missing = [name for name in config.trace if name not in found]
    if missing:
        first = next(_all(files, config.mask)).id
        raise InputError(f"{config.directory}: no trace '{missing[0]}' among {files.rows:,}; the first is '{first}'")
    return [found[name] for name in dict.fromkeys(config.trace)]


def _all(files: "TraceFiles", mask: Mask) -> "Iterator[Example]":
    from skillfactory.encoding import examples

    return (example for part in files.parts for some in examples(files, part, mask) for example in some)


def _spelt(example: "Example", encoder: "Encoder") -> Spelt:
    """The trace as the training would have it."""
    from skillfactory.encoding import Row

    (row,), (rendered,) = encoder.rows([example]), encoder.rendered([example])
    if not isinstance(row, Row):
        return Spelt(example.id, (), row.value)
    return Spelt(example.id, tuple(_tokens(rendered, row)))


def _tokens(rendered: "Rendered", row: "Row") -> Iterator[Shown]:
    from skillfactory.encoding import IGNORED

    begin, end = rendered.turn
    at = 0
    for number, (start, stop) in enumerate(rendered.places.tolist()):
        if start > at:
            yield Shown(rendered.text[at:start], None, CONTEXT)
        inside = begin <= start and stop <= end
        state = TRAINED if row.labels[number] != IGNORED else SILENT if inside else CONTEXT
        yield Shown(rendered.text[max(at, start) : stop], int(row.ids[number]), state)
        at = max(at, stop)
    if at < len(rendered.text):
        yield Shown(rendered.text[at:], None, CONTEXT)
