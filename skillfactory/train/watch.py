"""What a training tells while it goes on: its progress, a line of metrics.jsonl per log, complete checkpoints.

Importing it loads transformers.
"""

import time
from typing import Any

from transformers import TrainerCallback

from skillfactory.progress import Progress
from skillfactory.train.checkpoints import Work


class Watch(TrainerCallback):  # type: ignore[misc]
    """A callback of the transformers trainer. `totals` may be added to; they survive a kill with the last checkpoint.

    It makes every save a log too, so that what a resumed training writes is what an undisturbed one would have written. The
    trainer's one epoch stands for `rounds`, and `updates` of its steps are one of ours: it must log and save at such a border.
    At the last step there is no checkpoint: the model is saved then.
    """

    def __init__(self, work: Work, progress: Progress, label: str, rounds: float = 1.0, updates: int = 1) -> None:
        self._work, self._progress, self._label, self._rounds, self._updates = work, progress, label, rounds, updates
        self.totals: dict[str, float] = {"seconds": 0.0, **(work.resume.totals if work.resume else {})}
        self._since = time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Begins the bar where the checkpoint stands."""
        self._progress.begin(self._label, "steps", state.max_steps // self._updates)
        self._progress.advance(state.global_step // self._updates)
        self._since = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Counts the step and its time."""
        now = time.monotonic()
        self.totals["seconds"] += now - self._since
        self._since = now
        last = state.global_step >= state.max_steps
        control.should_log = control.should_log or control.should_save or last
        control.should_save = control.should_save and not last
        self._progress.advance(int(state.global_step % self._updates == 0))

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Writes the line: the step, what the trainer measured since the last one, and the totals."""
        if logs is None or "train_runtime" in logs:  # the trainer's own summary of one process
            return
        totals = {name: round(value, 3) for name, value in self.totals.items()}
        logs = logs | {"epoch": round(logs.get("epoch", 0.0) * self._rounds, 4)}
        self._work.log({"step": state.global_step // self._updates, **logs, **totals})
        said = next((f"{name} {logs[name]:.3g}" for name in ("reward", "loss") if name in logs), "")
        self._progress.advance(0, said)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Declares the checkpoint complete."""
        self._work.complete(state.global_step // self._updates, self.totals, self._updates)
