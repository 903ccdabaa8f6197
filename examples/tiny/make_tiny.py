"""Trains the stand-in model of this folder from scratch, with one thread: python examples/tiny/make_tiny.py

The data are synthetic (texts.py) under the product's own prompts, over questions of Countdown's `rl` split. In most examples
part of the prompt's words are left out, more of them early on: short contexts are learned first and cheaply, and a prompt
that is worded otherwise later on does not throw the model.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path
from random import Random
from typing import NamedTuple

import torch
from safetensors.torch import save_file
from texts import HIGHEST, attempt, review, spoiled
from tokens import END, make_tokenizer, vocabulary_of
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from skillfactory import seeds
from skillfactory.prompts import load_phrases, load_reflection, load_variants
from skillfactory.tasks.countdown import Countdown

STEPS = 4000
BATCH_TOKENS = 2048  # prompt and padding included
RATE = 4e-3
SEED = 0
UNSEEN = -100  # label of a token without loss


class Example(NamedTuple):
    """The token ids of a chat, and how many of them are its prompt."""

    ids: list[int]
    prompt: int


class Chats:
    """Training chats: the product's prompts around synthetic attempts and reviews."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, seed: int) -> None:
        self.tokenizer = tokenizer
        self.random = seeds.rng(seed, "chats")
        self.task = Countdown()
        self.questions = self.task.questions(10**9, "mini", seed, "rl")
        self.variants = load_variants()
        self.reflection = load_reflection()
        kept = [token for token in tokenizer.get_vocab() if token.isdigit() or (token.startswith("<") and len(token) > 1)]
        self.kept = set(tokenizer.convert_tokens_to_ids(kept))

    def example(self, progress: float) -> Example:
        """An attempt or a review, half of each; `progress`, from 0 to 1, is how far the training is."""
        random = self.random
        question = next(self.questions)
        numbers, target = question.facts["numbers"], question.facts["target"]
        variant = random.choice(self.variants)
        text = attempt(variant.name, numbers, target, random)
        if random.random() < 0.5:
            return self._chat(variant.messages(question, self.task.answer_format), "", text, progress)
        if random.random() < 0.3:  # as many right as wrong ones, all in all
            tries = (attempt(variant.name, numbers, target, random) for _ in range(8))
            text = next((text for text in tries if f"= {target}" in text.partition("<")[0][-8:]), text)
        if random.random() < 0.25:
            text = spoiled(text, random)
        judged = review(text, numbers, target, random)
        if judged is None:
            return self.example(progress)
        return self._chat(self.reflection.messages(question, text), text, judged, progress)

    def _chat(self, messages: tuple[tuple[str, str], ...], shown: str, reply: str, progress: float) -> Example:
        """A chat in which words of the prompt, but none of the attempt `shown` in it, are left out."""
        turns = [{"role": role, "content": content} for role, content in messages]
        prompt = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        before, _, after = prompt.partition(shown) if shown else (prompt, "", "")
        share = self._share(progress)
        ids = self._thinned(before, share) + self._encode(shown) + self._thinned(after, share)
        return Example(ids + self._encode(reply + END), len(ids))

    def _share(self, progress: float) -> float:
        """The share of a prompt's words to leave out: nearly all at first, none in half of the prompts at the end."""
        if self.random.random() < 0.02 + 0.5 * progress**2:
            return 0.0
        return self.random.uniform(0.0 if self.random.random() < progress else 0.9, 1.0)

    def _thinned(self, text: str, share: float) -> list[int]:
        """The ids of `text` without `share` of its words and marks; of these, one in ten stays as an unknown word."""
        out = []
        for i in self._encode(text):
            if i in self.kept or self.random.random() >= share:
                out.append(i)
            elif self.random.random() < 0.1:
                out.append(self.tokenizer.unk_token_id)
        return out

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids


def batches(chats: Chats, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    """`steps` pairs of ids and labels, (chats, tokens), of chats of similar length, padded on the right."""
    random, made = seeds.rng(SEED, "batches"), 0
    while made < steps:
        pool = sorted((chats.example(made / steps) for _ in range(512)), key=lambda example: len(example.ids))
        groups: list[list[Example]] = [[]]
        for example in pool:
            if len(example.ids) * (len(groups[-1]) + 1) > BATCH_TOKENS:
                groups.append([])
            groups[-1].append(example)
        random.shuffle(groups)
        for group in groups[: steps - made]:
            yield _padded(group)
        made += len(groups)


def _padded(group: list[Example]) -> tuple[Tensor, Tensor]:
    """Ids and labels of one batch; the prompt and the padding bear no loss."""
    longest = max(len(example.ids) for example in group)
    ids = torch.zeros(len(group), longest, dtype=torch.long)
    labels = torch.full((len(group), longest), UNSEEN)
    for row, (tokens, prompt) in enumerate(group):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        labels[row, prompt : len(tokens)] = torch.tensor(tokens[prompt:])
    return ids, labels


def make_model(tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    """A Qwen3 of about 0.9M parameters, freshly initialised: small outputs and wide embeddings, so that it learns fast."""
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=320,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=1024,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Qwen3ForCausalLM(config)
    fixed = {"model.embed_tokens.weight": 0.5, "lm_head.weight": 0.01}
    for name, weight in model.named_parameters():
        if weight.dim() == 2:
            residual = name.endswith(("o_proj.weight", "down_proj.weight"))
            nn.init.normal_(weight, 0, fixed.get(name, 0.5 / math.sqrt(weight.shape[1] * (8 if residual else 1))))
    return model


def train(model: Qwen3ForCausalLM, chats: Chats, steps: int) -> None:
    """Trains in place: Muon on the matrices of the layers, AdamW on the rest."""
    inner = [weight for name, weight in model.named_parameters() if weight.dim() == 2 and ".layers." in name]
    others = [weight for name, weight in model.named_parameters() if not (weight.dim() == 2 and ".layers." in name)]
    optimizers = [
        torch.optim.Muon(inner, lr=RATE, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=RATE, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    start, seen, average = time.process_time(), 0, float("nan")
    for step, (ids, labels) in enumerate(batches(chats, steps)):
        own = labels[:, 1:] != UNSEEN
        logits = model.lm_head(model.model(ids[:, :-1]).last_hidden_state[own])
        loss = functional.cross_entropy(logits, labels[:, 1:][own])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        rate = RATE * min(1.0, (step + 1) / 50, max(0.02, (1 - step / steps) / 0.7))
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad()
        seen += ids.numel()
        average = loss.item() if step == 0 else 0.98 * average + 0.02 * loss.item()
        if step % 100 == 99 or step + 1 == steps:
            spent = time.process_time() - start
            print(f"step {step + 1}/{steps}  loss {average:.4f}  {seen / 1e6:.2f}M tokens  {spent:.0f} CPU-s", flush=True)


def save(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Writes the model: weights rounded to fp16 to keep the file small, and a config that has them loaded as fp32."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: weight.detach().half().contiguous() for name, weight in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    model.config.architectures = ["Qwen3ForCausalLM"]
    model.config.dtype = torch.float32
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def texts_of_the_product(random: Random) -> Iterator[str]:
    """Texts that hold every word which prompts, phrases and synthetic texts use."""
    yield "system user assistant"
    yield from (text for texts in astuple(load_phrases()) for text in texts)
    reflection, task = load_reflection(), Countdown()
    for question in task.questions(500, "mini", SEED, "rl"):
        numbers, target = question.facts["numbers"], question.facts["target"]
        for variant in load_variants():
            text = attempt(variant.name, numbers, target, random)
            for shown in (text, spoiled(text, random)):
                turns = (*variant.messages(question, task.answer_format), *reflection.messages(question, shown))
                yield from (content for _, content in turns)
                yield review(shown, numbers, target, random) or ""


def main() -> None:
    """Trains and saves; the same versions of torch, transformers and tokenizers on the same kind of CPU give the same bytes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "model")
    parser.add_argument("--steps", type=int, default=STEPS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    tokenizer = make_tokenizer(vocabulary_of(texts_of_the_product(seeds.rng(SEED, "vocabulary")), HIGHEST))
    model = make_model(tokenizer)
    parameters = sum(weight.numel() for weight in model.parameters())
    print(json.dumps({"parameters": parameters, "vocabulary": len(tokenizer)}))
    train(model, Chats(tokenizer, SEED), options.steps)
    save(model, tokenizer, options.output)


if __name__ == "__main__":
    main()
