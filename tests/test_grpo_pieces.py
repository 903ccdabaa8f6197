"""Pieces compute what the whole batch would: the same loss and gradient; and what is masked has no part in it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_grpo import common
from trl.trainer.grpo_trainer import GRPOTrainer

from skillfactory.supply import gather, sources
from skillfactory.train.grpo import GrpoConfig, Reinforcement, Rollouts
from skillfactory.train.grpo_run import arguments, ends_of, trainer_of
from skillfactory.train.grpo_trainer import Reinforcer
from skillfactory.train.loading import load, quiet
from skillfactory.train.pieces import pieces
from skillfactory.train.rewards import Rewards


class Kept(Reinforcer):
    """A trainer that keeps the batches that it has scored."""

    batches: list[dict[str, Any]]

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super()._generate_and_score_completions(inputs)
        self.batches = [*getattr(self, "batches", []), batch]
        return batch


def trainer(config: GrpoConfig) -> Any:
    """A trainer on the embedded model that has not begun."""
    torch.set_num_threads(1)
    with quiet():
        base = load(config.model)
        asked = gather(sources(config.task, {}), config.questions, config.seed, config.split).asked
        return trainer_of(config, base, asked, arguments(config, config.output, ends_of(base)), [], Kept)


def config_of(folder: Path, **how: Any) -> GrpoConfig:
    """One step of 32 responses, small pieces."""
    config = common(folder)
    return replace(
        config,
        task=("easy_task:Sevens",),
        questions=20,
        rollouts=Rollouts(group_size=8, prompts_per_step=4, max_new_tokens=40),
        reinforcement=Reinforcement(steps=1, mini_batch=4, **how),
        running=replace(config.running, tokens_per_pass=300, keep_every=None),
    )


def gradients(model: Any, loss: torch.Tensor) -> list[torch.Tensor]:
    """The gradients, after `loss` is propagated back too."""
    loss.backward()
    found = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    return found


@pytest.mark.parametrize("loss", ["dapo", "grpo", "dr_grpo", "bnpo", "cispo"])
def test_the_pieces_have_the_loss_and_gradient_of_the_whole_batch(tmp_path: Path, loss: str) -> None:
    made = trainer(config_of(tmp_path, loss=loss))
    made.train()
    batch = made.batches[0]
    advantages = batch["advantages"]
    assert 0 < int((advantages != 0).sum()) < len(advantages)  # some groups have a signal, some have none
    assert len(pieces(batch, 300, skip=True)) > 1
    made.model.zero_grad()
    whole = GRPOTrainer._compute_loss(made, made.model, batch)
    expected = gradients(made.model, whole)
    found = made.compute_loss(made.model, batch)
    assert found.item() == pytest.approx(whole.item(), abs=1e-6)
    for ours, theirs in zip(gradients(made.model, found), expected, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


def rows_of(parts: Sequence[dict[str, Any]]) -> list[int]:
    """The rows that are in pieces."""
    return [int(row) for part in parts for row in part["row"]]


def made_up(prompts: list[int], responses: list[int], advantages: list[float]) -> dict[str, Any]:
    """A batch of rows with these lengths: prompts padded left, responses right; every token tells its row."""
    rows, left, right = len(prompts), max(prompts), max(responses)
    prompt_mask = torch.tensor([[0] * (left - n) + [1] * n for n in prompts])
    completion_mask = torch.tensor([[1] * n + [0] * (right - n) for n in responses])
    numbers = torch.arange(1, rows + 1)[:, None]
    return {
        "prompt_ids": prompt_mask * numbers,
        "prompt_mask": prompt_mask,
        "completion_ids": completion_mask * numbers,
        "completion_mask": completion_mask,
        "advantages": torch.tensor(advantages),
        "num_items_in_batch": torch.tensor(sum(responses)),
        "row": torch.arange(rows),
    }


def test_pieces_hold_every_row_once_with_all_its_tokens_and_keep_to_their_size() -> None:
    batch = made_up([3, 9, 4, 4, 5, 2], [50, 3, 0, 7, 7, 20], [1.0] * 6)
    parts = pieces(batch, 40, skip=False)
    assert sorted(rows_of(parts)) == list(range(6))
    for part in parts:
        assert len(part["row"]) == 1 or part["prompt_ids"].numel() + part["completion_ids"].numel() <= 60
        for n, row in enumerate(part["row"].tolist()):
            assert int((part["prompt_ids"][n] == row + 1).sum()) == int(batch["prompt_mask"][row].sum())
            assert int((part["completion_ids"][n] == row + 1).sum()) == int(batch["completion_mask"][row].sum())
        assert part["num_items_in_batch"] == 87


def test_rows_that_cannot_change_the_loss_are_passed_over_and_one_stays_if_none_can() -> None:
    batch = made_up([2, 2, 2, 2], [5, 0, 3, 4], [0.0, 1.0, -1.0, 0.5])
    assert sorted(rows_of(pieces(batch, 100, skip=True))) == [2, 3]
    nothing = made_up([2, 2], [5, 3], [0.0, 0.0])
    assert len(rows_of(pieces(nothing, 100, skip=True))) == 1


@pytest.mark.parametrize(("truncated", "left"), [("zero", True), ("mask", False)])
def test_a_response_that_was_cut_off_stays_in_the_loss_or_not(tmp_path: Path, truncated: Any, left: bool) -> None:
    config = config_of(tmp_path)
    config = replace(config, rewards=Rewards(truncated=truncated), rollouts=replace(config.rollouts, max_new_tokens=24))
    made = trainer(config)
    made.train()
    batch = made.batches[0]
    ends = torch.tensor(made.eos_token_ids)
    ended = torch.isin(batch["completion_ids"], ends).any(1)
    assert bool(ended.any())
    assert not bool(ended.all())
    assert bool((batch["completion_mask"].sum(1) > 0)[ended].all())
    assert bool((batch["completion_mask"].sum(1) > 0)[~ended].any()) is left
    assert int(batch["num_items_in_batch"]) == int(batch["completion_mask"].sum())
