"""The verifier that open-instruct calls for rows whose `dataset` is skillfactory: 1.0 for a right final answer, else 0.0."""

from typing import Any

from open_instruct.ground_truth_utils import VerificationResult, VerifierFunction  # type: ignore[import-not-found]

try:
    from skillfactory.reward import score
except ImportError as error:
    raise ImportError(
        "this reward is computed by skillfactory, which is missing here; install it into the environment of every Ray worker: "
        "pip install --no-deps CLONE, the folder of a clone in the version that export.json names"
    ) from error


class SkillFactoryVerifier(VerifierFunction):  # type: ignore[misc]
    """Grades by the task's own check; open-instruct finds it among the subclasses of VerifierFunction."""

    def __init__(self, verifier_config: Any = None) -> None:
        super().__init__("skillfactory", weight=1.0, verifier_config=verifier_config)

    def __call__(
        self, tokenized_prediction: list[int], prediction: str, label: str, query: str | None = None, rollout_state: Any = None
    ) -> Any:
        """The result for one response; `label` is the row's `ground_truth`."""
        return VerificationResult(score=score(prediction, label))
