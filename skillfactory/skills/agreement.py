"""How far two raters of the same texts agree: the share of equal findings, and Cohen's kappa with its interval."""

import math
from dataclasses import dataclass
from typing import Any

from skillfactory.stats import Estimate, share

Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Agreement:
    """How often two raters found a thing in the same texts."""

    both: int
    first: int  # the first rater alone
    second: int
    neither: int

    @property
    def n(self) -> int:
        """How many texts both have rated."""
        return self.both + self.first + self.second + self.neither

    def to_dict(self) -> dict[str, Any]:
        """The counts, the share of equal findings and kappa, each with its 95 % interval, as JSON-safe values."""
        same = share(self.both + self.neither, self.n)
        found = kappa(self)
        return {
            **{name: getattr(self, name) for name in ("n", "both", "first", "second", "neither")},
            "agreement": {"value": same.share, "low": same.low, "high": same.high},
            "kappa": {"value": found.value, "low": found.low, "high": found.high},
        }


def kappa(found: Agreement) -> Estimate:
    """Cohen's kappa (1960): the agreement beyond that of chance, in units of the most there can be; 1 is all, 0 is chance.

    None where a rater's every finding is the same and the other's too: then chance alone explains all. The interval is normal
    with the standard error for large n of Fleiss, Cohen and Everitt (1969), cut at -1 and 1; it takes texts to be independent.
    """
    n = found.n
    if not n:
        return Estimate(None, None, None, None, 0)
    cells = ((found.both / n, found.first / n), (found.second / n, found.neither / n))
    rows = [sum(row) for row in cells]
    columns = [cells[0][i] + cells[1][i] for i in (0, 1)]
    chance = sum(rows[i] * columns[i] for i in (0, 1))
    if chance >= 1:
        return Estimate(None, None, None, None, n)
    observed = cells[0][0] + cells[1][1]
    value = (observed - chance) / (1 - chance)
    variance = sum(cells[i][i] * (1 - (rows[i] + columns[i]) * (1 - value)) ** 2 for i in (0, 1))
    variance += (1 - value) ** 2 * sum(cells[i][1 - i] * (columns[i] + rows[1 - i]) ** 2 for i in (0, 1))
    variance -= (value - chance * (1 - value)) ** 2
    se = math.sqrt(max(variance, 0.0) / n) / (1 - chance)
    return Estimate(value, max(-1.0, value - Z95 * se), min(1.0, value + Z95 * se), se, n)
