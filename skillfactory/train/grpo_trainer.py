"""TRL's trainer as `grpo` uses it. What is overridden, and why:

- the order of questions: ours is one course over all steps, so that a resumed training meets the same ones;
- generation: batches that ended texts leave, each text with its own seed;
- the loss: in pieces of like length, without the responses that can't change it;
- the log: our names, measures of rewards and responses, samples.

Importing it loads trl.
"""

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import Sampler
from trl.models.utils import unwrap_model_for_generation
from trl.trainer.grpo_trainer import GRPOTrainer

from skillfactory.flow import Sampling
from skillfactory.seeds import derive
from skillfactory.supply import Asked
from skillfactory.train.pieces import pieces, share
from skillfactory.train.questions import course
from skillfactory.train.rewards import Judged, judged
from skillfactory.train.rollouts import drawn, network
from skillfactory.train.tally import TRAINED, Samples, measures

if TYPE_CHECKING:
    from skillfactory.train.grpo import GrpoConfig


class Course(Sampler[int]):
    """The rows of all steps: a step's questions, each `group` times over, and that once per update."""

    def __init__(self, config: "GrpoConfig", questions: int) -> None:
        self._config, self._questions, self._steps = config, questions, config.most_steps
        self._size = config.rollouts.prompts_per_step

    def __len__(self) -> int:
        return self._steps * self._config.updates * self._size * self._config.rollouts.group_size

    def __iter__(self) -> Iterator[int]:
        step: list[int] = []
        for place in course(self._questions, self._steps * self._size, self._config.seed):
            step += [place] * self._config.rollouts.group_size
            if len(step) == self._size * self._config.rollouts.group_size:
                for _ in range(self._config.updates):
                    yield from step
                step = []


class Reinforcer(GRPOTrainer):  # type: ignore[misc]
    """GRPO on questions with a check. `totals` are counts that survive a kill."""

    def __init__(self, config: "GrpoConfig", asked: Sequence[Asked], ends: Sequence[int], **how: Any) -> None:
        self._config, self._asked = config, asked
        super().__init__(reward_funcs=self.reward, **how)
        self.eos_token_ids = list(ends)  # the chat template's end of turn too
        self.totals: dict[str, float] = {}
        self.samples: Samples | None = None
        self._found: list[Judged] = []
        self._measured: dict[str, float] = {}

    @property
    def rollout_step(self) -> int:
        """The step that is under way, from 1 on."""
        return int(self.state.global_step) // self._config.updates + 1

    def _get_train_sampler(self, dataset: Any = None) -> Sampler[int]:
        return Course(self._config, len(self._asked))

    def _generate_single_turn(
        self,
        prompt_ids: list[list[int]],
        images: Any,
        multimodal_fields: Any,
        num_generations: int,
        has_tool_images: bool = False,
    ) -> tuple[list[list[int]], Any]:
        """The responses, and their log-probabilities if vLLM gives them."""
        if self.use_vllm:
            return super()._generate_single_turn(prompt_ids, images, multimodal_fields, num_generations, has_tool_images)  # type: ignore[no-any-return]
        how, process = self._config.rollouts, self.accelerator.process_index
        sampling = Sampling(how.temperature, how.top_p, how.top_k, 1.0, how.max_new_tokens)
        seeds = [derive(self._config.seed, "rollout", self.rollout_step, process, n) for n in range(len(prompt_ids))]
        with unwrap_model_for_generation(
            self.model_wrapped, self.accelerator, gradient_checkpointing_kwargs=self.args.gradient_checkpointing_kwargs
        ) as model:
            net = network(model, self._tokenizer.pad_token_id, self.eos_token_ids)
            context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
            return drawn(net, prompt_ids, seeds, sampling, how.generate_batch, context), None

    def reward(
        self, prompts: Any, completions: Any, completion_ids: list[list[int]], question: list[int], **_: Any
    ) -> list[float | None]:
        """The rewards of responses, with the step's account and samples on the side."""
        asked = [self._asked[place] for place in question]
        texts = self._tokenizer.batch_decode(completion_ids, skip_special_tokens=True)
        ended = [bool(ids) and ids[-1] in self.eos_token_ids for ids in completion_ids]
        self._found = [
            judged(one.source.task, one.question, text, end) for one, text, end in zip(asked, texts, ended, strict=True)
        ]
        lengths = [len(ids) for ids in completion_ids]
        self.totals["generated_tokens"] = self.totals.get("generated_tokens", 0) + sum(lengths)
        self._measured = measures(asked, self._found, lengths, self.num_generations)
        if self.samples is not None:
            self.samples.add(self.rollout_step, asked, texts, self._found)
        return [one.reward for one in self._found]

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """TRL's batch, in which responses that are to be masked have no token in the loss."""
        batch: dict[str, Any] = super()._generate_and_score_completions(inputs)
        out = torch.tensor([self._config.rewards.masks(one.outcome) for one in self._found], device=self.accelerator.device)
        if bool(out.any()):
            batch["completion_mask"] = batch["completion_mask"] * ~out[:, None]
            batch["num_items_in_batch"] = self.accelerator.gather(batch["completion_mask"].sum()).sum()
        return batch

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, logits_to_keep: int, *rest: Any, **others: Any
    ) -> Any:
        """What TRL computes; for a whole generation (without gradients) in pieces of like length."""
        if torch.is_grad_enabled():
            return super()._get_per_token_logps_and_entropies(model, input_ids, attention_mask, logits_to_keep, *rest, **others)
        start = input_ids.shape[1] - logits_to_keep
        whole = {
            "prompt_ids": input_ids[:, :start],
            "prompt_mask": attention_mask[:, :start],
            "completion_ids": input_ids[:, start:],
            "completion_mask": attention_mask[:, start:],
            "row": torch.arange(len(input_ids), device=input_ids.device),
        }
        logps = torch.zeros(len(input_ids), logits_to_keep, device=input_ids.device)
        for piece in self._cut(whole, skip=False):
            ids = torch.cat([piece["prompt_ids"], piece["completion_ids"]], dim=1)
            mask = torch.cat([piece["prompt_mask"], piece["completion_mask"]], dim=1)
            width = piece["completion_ids"].shape[1]
            found, _, _ = super()._get_per_token_logps_and_entropies(model, ids, mask, width)
            logps[piece["row"], :width] = found.to(logps.dtype)
        return logps, None, None

    def _cut(self, batch: Mapping[str, Any], skip: bool) -> list[dict[str, Any]]:
        return pieces(batch, self._config.running.tokens_per_pass, skip)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of a mini-batch, piece by piece: all but the last are already propagated back when it is given."""
        alone = self.accelerator.num_processes == 1  # several must compute equally many pieces
        parts = self._cut(inputs, skip=alone and self.beta == 0 and not self.aux_loss_enabled)
        known, weighed, weights = self._metrics["train"], defaultdict[str, float](float), 0.0
        total = torch.zeros((), device=self.accelerator.device)
        for number, part in enumerate(parts, 1):
            self._metrics["train"] = defaultdict(list)
            last = number == len(parts)
            with contextlib.nullcontext() if last else self.accelerator.no_sync(model):
                loss = self._compute_loss(model, part) * share(self.loss_type, part, inputs)
                if not last:
                    self.accelerator.backward(loss)
            weight = float(part["completion_mask"].sum())
            weights += weight
            for name, values in self._metrics["train"].items():
                weighed[name] += weight * values[-1]
            total = total + (loss if last else loss.detach())
        self._metrics["train"] = known
        for name, value in weighed.items():
            known[name].append(value / max(weights, 1.0))
        return total

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Logs under our names."""
        trained = self._metrics["train"]
        kept = {ours: trained[theirs] for theirs, ours in TRAINED.items() if trained.get(theirs)}
        self._metrics["train"] = defaultdict(list, kept | {name: [value] for name, value in self._measured.items()})
        super().log(logs, start_time)

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Nothing: checkpoints need no card, and the model gets ours."""

    def _send_telemetry(self) -> None:
        """Nothing: nobody is told."""
