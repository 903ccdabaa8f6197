"""Sizes of models: shapes of known ones, or of a local config.json, and what follows from a shape."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from skillfactory.embedded import located
from skillfactory.errors import InputError

QkNorm = Literal["none", "head", "whole"]


@dataclass(frozen=True, slots=True)
class Shape:
    """A decoder with gated feed-forward layers and RMS norms, as transformers builds Llama, Qwen2, Qwen3, Olmo 2 and 3."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    tied: bool  # one matrix for the embedding and the head
    biases: bool = False  # on queries, keys and values
    qk_norm: QkNorm = "none"  # a norm of queries and keys: of each head alike, or of all heads together
    window: int = 0  # tokens that a windowed layer looks back
    windowed: int = 0  # layers with a window

    @property
    def queries(self) -> int:
        """Width of the queries."""
        return self.heads * self.head_dim

    @property
    def keys(self) -> int:
        """Width of the keys; the values have the same."""
        return self.kv_heads * self.head_dim

    @property
    def linear(self) -> tuple[tuple[int, int], ...]:
        """Inputs and outputs of the linear layers of one block: queries, keys, values, output, gate, up, down."""
        hidden, wide = self.hidden, self.intermediate
        attention = ((hidden, self.queries), (hidden, self.keys), (hidden, self.keys), (self.queries, hidden))
        return (*attention, (hidden, wide), (hidden, wide), (wide, hidden))

    @property
    def parameters(self) -> int:
        """All weights."""
        matrices = sum(inputs * outputs for inputs, outputs in self.linear)
        biases = self.queries + 2 * self.keys if self.biases else 0
        norms = 2 * self.hidden
        norms += {"none": 0, "head": 2 * self.head_dim, "whole": self.queries + self.keys}[self.qk_norm]
        embeddings = self.vocab * self.hidden * (1 if self.tied else 2)
        return embeddings + self.layers * (matrices + biases + norms) + self.hidden

    def adapters(self, rank: int) -> int:
        """Weights of low-rank adapters on every linear layer but the head."""
        return self.layers * sum(rank * (inputs + outputs) for inputs, outputs in self.linear)

    def cached(self, tokens: int) -> int:
        """Numbers that the cache holds for a sequence of so many tokens: keys and values of every layer."""
        seen = (self.layers - self.windowed) * tokens + self.windowed * min(tokens, self.window)
        return 2 * self.keys * seen


# Published config.json files. The tests compare the parameter counts that follow with the published ones.
KNOWN: Mapping[str, Shape] = {
    "qwen2.5-0.5b": Shape(896, 24, 14, 2, 64, 4864, 151_936, tied=True, biases=True),
    "qwen2.5-1.5b": Shape(1536, 28, 12, 2, 128, 8960, 151_936, tied=True, biases=True),
    "qwen2.5-3b": Shape(2048, 36, 16, 2, 128, 11_008, 151_936, tied=True, biases=True),
    "qwen2.5-7b": Shape(3584, 28, 28, 4, 128, 18_944, 152_064, tied=False, biases=True),
    "qwen3-0.6b": Shape(1024, 28, 16, 8, 128, 3072, 151_936, tied=True, qk_norm="head"),
    "qwen3-1.7b": Shape(2048, 28, 16, 8, 128, 6144, 151_936, tied=True, qk_norm="head"),
    "qwen3-4b": Shape(2560, 36, 32, 8, 128, 9728, 151_936, tied=True, qk_norm="head"),
    "qwen3-8b": Shape(4096, 36, 32, 8, 128, 12_288, 151_936, tied=False, qk_norm="head"),
    "llama-3.2-1b": Shape(2048, 16, 32, 8, 64, 8192, 128_256, tied=True),
    "llama-3.2-3b": Shape(3072, 28, 24, 8, 128, 8192, 128_256, tied=True),
    "llama-3.1-8b": Shape(4096, 32, 32, 8, 128, 14_336, 128_256, tied=False),
    "olmo-3-7b": Shape(4096, 32, 32, 32, 128, 11_008, 100_278, tied=False, qk_norm="whole", window=4096, windowed=24),
    "olmo-3-1025-7b": Shape(4096, 32, 32, 32, 128, 11_008, 100_278, tied=False, qk_norm="whole", window=4096, windowed=24),
}
_QK_NORM: Mapping[str, QkNorm] = {
    "llama": "none",
    "mistral": "none",
    "qwen2": "none",
    "qwen3": "head",
    "olmo2": "whole",
    "olmo3": "whole",
}


@dataclass(frozen=True, slots=True)
class Sized:
    """A model's name and what is known of its size: None is unknown."""

    name: str
    parameters: int | None
    shape: Shape | None


def sized(model: str, parameters: int | None = None) -> Sized:
    """What is known of a model: a folder with a config.json, an embedded or a known model by name; else `parameters` alone."""
    place = Path(located(model)) / "config.json"
    if place.is_file():
        shape = from_config(place)
    else:
        name = model.rpartition("/")[2].lower()
        fits = [known for known in KNOWN if name == known or name.startswith((f"{known}-", f"meta-{known}"))]
        shape = KNOWN[max(fits, key=len)] if fits else None
    return Sized(model, parameters or (shape.parameters if shape else None), shape)


def from_config(path: Path) -> Shape | None:
    """The shape that a config.json tells; None for an architecture that isn't one of these."""
    try:
        config: Mapping[str, Any] = json.loads(path.read_text("utf-8"))
        if config.get("model_type") not in _QK_NORM:
            return None
        heads = config["num_attention_heads"]
        kinds = config.get("layer_types") or []
        return Shape(
            hidden=config["hidden_size"],
            layers=config["num_hidden_layers"],
            heads=heads,
            kv_heads=config.get("num_key_value_heads") or heads,
            head_dim=config.get("head_dim") or config["hidden_size"] // heads,
            intermediate=config["intermediate_size"],
            vocab=config["vocab_size"],
            tied=config.get("tie_word_embeddings", False),
            biases=config["model_type"] == "qwen2" or bool(config.get("attention_bias")),
            qk_norm=_QK_NORM[config["model_type"]],
            window=config.get("sliding_window") or 0,
            windowed=kinds.count("sliding_attention"),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: expected the configuration of a transformers model, came {error!r}") from error
