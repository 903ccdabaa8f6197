"""An audit as lines of text for a terminal."""

from collections.abc import Iterator, Mapping

from skillfactory.audit import Audit, LayoutAudit
from skillfactory.audit.claims import Claims
from skillfactory.audit.contamination import Contamination
from skillfactory.stats import Share, Spread


def table(audit: Audit) -> Iterator[str]:
    """The lines of an audit: what the traces hold, then what is wrong with them."""
    yield f"{audit.traces:,} traces of {audit.questions:,} questions in {audit.directory}"
    for name, layout in audit.layouts.items():
        yield ""
        yield from _layout(name, layout)
    yield ""
    yield from _columns("prompt variants", audit.variants)
    if audit.skills:
        yield from _columns("blocks of skills", audit.skills)
    for kind, phrases in audit.phrases.items():
        yield f"{kind} phrases: {phrases.distinct:,} distinct in {phrases.uses:,} uses"
        for phrase, uses in phrases.top.items():
            yield f"  {uses / phrases.uses:6.1%}  {_line(phrase)}"
    yield ""
    yield "arithmetic, over distinct texts (docs/audit.md says what is read as a claim)"
    for group, found in audit.arithmetic.items():
        yield from _claims(group, found)
    yield ""
    yield f"broken traces: {_share(audit.faults.broken)}"
    for reason, count in audit.faults.reasons.items():
        yield f"  {reason}: {count:,}, e.g. {', '.join(audit.faults.examples[reason]) or '-'}"
    yield from _duplicates(audit)
    if audit.contamination is None:
        yield "contamination: not looked for (--against FILE)"
    else:
        yield from _contamination(audit.contamination)
    for text in audit.shown:
        yield ""
        yield from map(_safe, text.split("\n"))


def _layout(name: str, layout: LayoutAudit) -> Iterator[str]:
    yield f"layout {name}: {layout.traces:,} traces"
    yield from _columns("  attempts", layout.attempts)
    yield from _columns("  patterns", layout.patterns, layout.distinct_patterns)
    yield f"  characters  {_spread(layout.characters)}"
    yield f"  tokens      {_spread(layout.tokens)}"
    if layout.tokens and layout.tokens.n < layout.traces:
        yield f"              ({layout.traces - layout.tokens.n:,} traces have no token count)"


def _columns(title: str, counts: Mapping[str, int], distinct: int | None = None) -> Iterator[str]:
    """One line: the entries with their counts."""
    entries = "  ".join(f"{name or '-'} {count:,}" for name, count in counts.items())
    more = f"  … {distinct - len(counts):,} more" if distinct and distinct > len(counts) else ""
    yield f"{title}: {entries}{more}"


def _claims(group: str, found: Claims) -> Iterator[str]:
    yield (
        f"  {group}: {found.texts:,} texts, {found.claims:,} claims, "
        f"{found.wrong_claims:,} wrong, {found.disputed_claims:,} disputed"
    )
    yield f"    hold a wrong claim       {_share(found.with_wrong)}"
    yield f"    … of those with a claim  {_share(found.with_wrong_of_checkable)}"
    yield f"    hold a disputed claim    {_share(found.with_disputed)}"
    yield f"    hold no claim to check   {_share(found.without_claims)}"


def _duplicates(audit: Audit) -> Iterator[str]:
    found = audit.duplicates
    yield f"equal traces: {found.equal_traces:,}"
    yield f"attempts in several traces: {found.attempts_in_several_traces:,} of {found.attempts:,}"
    yield f"traces that show one attempt text under two ids: {found.traces_that_repeat_a_text:,}"
    yield f"questions with the text of another: {found.questions_with_equal_text:,}"


def _contamination(found: Contamination) -> Iterator[str]:
    shown = _share(found.questions)
    yield f"questions that are among {found.evaluation_rows:,} evaluation rows: {shown}; {found.traces:,} traces"
    if found.questions.count:
        yield f"  found by {', '.join(f'{key} {count:,}' for key, count in found.by_key.items() if count)}"
        yield f"  e.g. {', '.join(found.examples)}"
    for reason, count in found.skipped.items():
        yield f"  evaluation rows not used, or used by their text alone: {count:,} ({reason})"


def _share(share: Share) -> str:
    """`1.2 % (12 of 1,000; 95 % interval 0.7-2.1 %)`."""
    if share.share is None or share.low is None or share.high is None:
        return "- (0 of 0)"
    return f"{share.share:.1%} ({share.count:,} of {share.n:,}; 95 % interval {100 * share.low:.1f}-{100 * share.high:.1f} %)"


def _spread(spread: Spread | None) -> str:
    if spread is None:
        return "not counted"
    return f"mean {spread.mean:,.0f}  p5 {spread.p5:,.0f}  p50 {spread.p50:,.0f}  p95 {spread.p95:,.0f}  max {spread.max:,}"


def _safe(line: str) -> str:
    """The line without control characters, which could write over a terminal."""
    return "".join(c if c.isprintable() else " " for c in line)


def _line(text: str, width: int = 90) -> str:
    """The text on one line, cut at `width`."""
    plain = _safe(" ".join(text.split()))
    return plain if len(plain) <= width else plain[: width - 1] + "…"
