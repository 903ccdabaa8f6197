"""Prints how often the attempts of a curated run are right, and its verdicts: python examples/tiny/measure.py RUN

Intervals are 95 % Wilson intervals; they take samples to be independent, and those of one question are not quite.
"""

import sys
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq

from skillfactory.records import Check, Verdict
from skillfactory.stats import share


def line(name: str, count: int, n: int) -> str:
    """A share with its interval, in percent."""
    found = share(count, n)
    if found.share is None or found.low is None or found.high is None:
        return f"{name:<36} none"
    return f"{name:<36} {100 * found.share:5.1f} %  ({100 * found.low:.1f} to {100 * found.high:.1f}, n = {n})"


def main() -> None:
    """Reads the run's tables and prints its shares."""
    run = Path(sys.argv[1])
    attempts = pq.read_table(run / "attempts").to_pylist()
    checks = {attempt["id"]: Check(attempt["check"]) for attempt in attempts}
    found = Counter(
        (checks[row["attempt_id"]], Verdict(row["verdict"])) for row in pq.read_table(run / "reflections").to_pylist()
    )
    print(line("attempts that are right", sum(check is Check.RIGHT for check in checks.values()), len(checks)))
    for variant in sorted({attempt["variant"] for attempt in attempts}):
        own = [checks[attempt["id"]] for attempt in attempts if attempt["variant"] == variant]
        print(line(f"  {variant}", sum(check is Check.RIGHT for check in own), len(own)))
    agree = {Check.RIGHT: Verdict.CORRECT, Check.WRONG: Verdict.INCORRECT}
    print(line("verdicts that are right", sum(found[pair] for pair in agree.items()), found.total()))
    for check, verdict in agree.items():
        judged = sum(count for (truth, _), count in found.items() if truth is check)
        print(line(f"  on {check} attempts", found[check, verdict], judged))
    tokens = Counter(row["stop"] for row in attempts)
    print("attempts ended by:", ", ".join(f"{stop} {count}" for stop, count in sorted(tokens.items())))


if __name__ == "__main__":
    main()
