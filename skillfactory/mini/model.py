"""The embedded model's architecture, and how it is saved."""

import math
from pathlib import Path
from typing import Any

from skillfactory.mini.tokens import CONTEXT

WIDTH, LAYERS, HEADS, KEY_HEADS, INNER = 128, 4, 4, 2, 352


def make_model(tokenizer: Any, seed: int) -> Any:
    """A Qwen3 of about 0.9M parameters, freshly initialised: small outputs and wide embeddings, so that it learns fast."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KEY_HEADS,
        head_dim=WIDTH // HEADS,
        max_position_embeddings=CONTEXT,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Qwen3ForCausalLM(config)
    fixed = {"model.embed_tokens.weight": 0.5, "lm_head.weight": 0.01}
    for name, weight in model.named_parameters():
        if weight.dim() == 2:
            residual = name.endswith(("o_proj.weight", "down_proj.weight"))
            scale = 0.5 / math.sqrt(weight.shape[1] * (2 * LAYERS if residual else 1))
            torch.nn.init.normal_(weight, 0, fixed.get(name, scale))
    return model


def save_model(model: Any, tokenizer: Any, folder: Path) -> None:
    """Writes a folder that AutoModelForCausalLM and AutoTokenizer load."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    model.config.architectures = [type(model).__name__]
    model.config.dtype = torch.float32
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
