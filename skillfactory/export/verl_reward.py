"""The reward that verl calls for each response: 1.0 if the task's own check finds the final answer right, else 0.0."""

from typing import Any

try:
    from skillfactory.reward import score
except ImportError as error:
    raise ImportError(
        "this reward is computed by skillfactory, which is missing here; install it into the environment of every Ray worker: "
        "pip install CLONE, the folder of a clone in the version that export.json names"
    ) from error


def compute_score(data_source: str, solution_str: str, ground_truth: str, extra_info: Any = None, **_: Any) -> float:
    """The reward of one response; `ground_truth` says what the question is, with its task and options."""
    return score(solution_str, ground_truth)
