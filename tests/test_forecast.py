"""Laws of the forecast: its arithmetic agrees with published counts and with what torch and transformers really hold and do."""

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, LlamaConfig, Olmo2Config, Qwen2Config, Qwen3Config

from skillfactory.embedded import located
from skillfactory.errors import ConfigError, InputError
from skillfactory.forecast.generation import plan_texts
from skillfactory.forecast.gpus import GPUS, gpu
from skillfactory.forecast.memory import TILE, Pass, activations, cache, head, training_memory
from skillfactory.forecast.plan import GIB, Plan, Planning
from skillfactory.forecast.shapes import KNOWN, Shape, from_config, sized
from skillfactory.forecast.speed import generating_seconds, training_flops, training_seconds

PUBLISHED = {
    "Qwen/Qwen2.5-0.5B-Instruct": 494_032_768,
    "Qwen/Qwen2.5-1.5B-Instruct": 1_543_714_304,
    "Qwen/Qwen2.5-3B": 3_085_938_688,
    "Qwen/Qwen2.5-7B-Instruct": 7_615_616_512,
    "Qwen/Qwen3-0.6B": 596_049_920,
    "Qwen/Qwen3-8B": 8_190_735_360,
    "meta-llama/Llama-3.2-1B-Instruct": 1_235_814_400,
    "meta-llama/Llama-3.2-3B": 3_212_749_824,
    "meta-llama/Meta-Llama-3.1-8B-Instruct": 8_030_261_248,
    "allenai/Olmo-3-7B-Instruct": 7_298_011_136,
    "allenai/Olmo-3-1025-7B": 7_298_011_136,
}
CONFIGS = (LlamaConfig, Qwen2Config, Qwen3Config, Olmo2Config)


@pytest.fixture(scope="module")
def mini() -> Any:
    """The embedded model, in float32."""
    return AutoModelForCausalLM.from_pretrained(located("mini"), dtype=torch.float32)


def small(config_type: Any, layers: int) -> Any:
    """A configuration whose widths all differ."""
    sizes = {"hidden_size": 192, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 32, "intermediate_size": 448}
    return config_type(**sizes, num_hidden_layers=layers, vocab_size=96, pad_token_id=0, eos_token_id=1, use_cache=False)


def shape(config: Any, folder: Path) -> Shape:
    """What the forecast makes of a configuration, by way of its file."""
    config.save_pretrained(folder)
    found = from_config(folder / "config.json")
    assert found is not None
    return found


@pytest.mark.parametrize(("name", "count"), PUBLISHED.items())
def test_a_known_models_parameters_are_the_published_ones(name: str, count: int) -> None:
    assert sized(name).parameters == count


@pytest.mark.parametrize("config_type", CONFIGS, ids=lambda config: config.model_type)
def test_the_parameters_that_a_config_tells_are_those_of_the_model(config_type: Any, tmp_path: Path) -> None:
    for tied in (False, True):
        config = small(config_type, 3)
        config.tie_word_embeddings = tied
        assert shape(config, tmp_path).parameters == AutoModelForCausalLM.from_config(config).num_parameters()


def test_a_training_step_of_the_embedded_model_holds_what_is_forecast(mini: Any) -> None:
    model = AutoModelForCausalLM.from_pretrained(located("mini"), dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    ids = torch.arange(32)[None]
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    parts = training_memory(sized("mini"), Pass(1, 32, checkpointing=False, bfloat16=False))
    assert parts["weights"] == sum(p.nbytes for p in model.parameters())
    assert parts["gradients"] == sum(p.grad.nbytes for p in model.parameters())
    moments = [state[name].nbytes for state in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
    assert parts["optimizer"] == sum(moments)


def saved_bytes(config: Any, autocast: bool, checkpointing: bool) -> tuple[float, int]:
    """What autograd keeps of a forward pass without weights and their copies, and the number of tokens."""
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).train()
    if checkpointing:
        model.activation_checkpointing_enable()
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    copies = {(*p.shape,) for p in model.parameters()} | {(*p.shape[::-1],) for p in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in weights and (*tensor.shape,) not in copies:
            kept[place] = tensor
        return tensor

    ids = torch.zeros(1, 80, dtype=torch.long)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), torch.autocast("cpu", enabled=autocast):
        model.model(input_ids=ids)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values()), ids.numel()


@pytest.mark.parametrize("config_type", CONFIGS, ids=lambda config: config.model_type)
@pytest.mark.parametrize(("autocast", "checkpointing"), [(True, False), (False, False), (True, True)])
def test_activations_are_what_autograd_keeps(config_type: Any, autocast: bool, checkpointing: bool, tmp_path: Path) -> None:
    (more, tokens), (less, _) = (saved_bytes(small(config_type, layers), autocast, checkpointing) for layers in (3, 2))
    three, two = (activations(shape(small(config_type, n), tmp_path), tokens, checkpointing, autocast) for n in (3, 2))
    assert more - less == pytest.approx(three - two, rel=0.03)


def test_the_cache_of_the_embedded_model_holds_what_is_forecast(mini: Any) -> None:
    held = mini(input_ids=torch.zeros(3, 17, dtype=torch.long), use_cache=True).past_key_values
    real = sum(layer.keys.nbytes + layer.values.nbytes for layer in held.layers)
    assert cache(sized("mini"), sequences=3, length=17, bytes_each=4) == real


def test_a_window_bounds_the_cache() -> None:
    olmo = KNOWN["olmo-3-7b"]
    assert olmo.cached(4096) == 2 * 4096 * 32 * 4096
    assert olmo.cached(8192) == 2 * 4096 * (8 * 8192 + 24 * 4096)


def test_the_operations_of_the_embedded_model_are_those_that_torch_counts() -> None:
    tokens = 128  # torch counts no operations of fused attention on a CPU, hence eager
    mini = AutoModelForCausalLM.from_pretrained(located("mini"), dtype=torch.float32, attn_implementation="eager")
    with FlopCounterMode(display=False) as forward:
        loss = mini(input_ids=torch.zeros(1, tokens, dtype=torch.long), use_cache=False).logits.sum()
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    plain = training_flops(sized("mini"), tokens, 0, checkpointing=False, passes=1)
    attention = training_flops(sized("mini"), tokens, tokens, checkpointing=False, passes=1) - plain
    counted = forward.get_total_flops()
    assert counted == pytest.approx(plain + 2 * attention, rel=0.01)  # torch counts the masked half of the scores too
    assert forward.get_total_flops() + backward.get_total_flops() == pytest.approx(3 * counted, rel=0.1)


def test_logits_are_forecast_in_the_trainers_own_tiles() -> None:
    spec = find_spec("trl")  # its source is read: importing it takes ten seconds
    assert spec is not None
    assert spec.origin is not None
    sizes = []
    for file, name in (("kernels/chunked_logprob.py", "TOKEN_CHUNK_SIZE"), ("trainer/utils.py", "_CHUNKED_LOGPROB_CHUNK_SIZE")):
        found = re.search(rf"^{name} = (\d+)$", (Path(spec.origin).parent / file).read_text("utf-8"), re.MULTILINE)
        assert found is not None
        sizes.append(int(found[1]))
    assert tuple(sizes) == TILE
    large = KNOWN["qwen2.5-1.5b"]
    tile = sizes[0] * sizes[1] * 2
    assert head(large, 8192) == tile + 4 * large.hidden * (8192 + large.vocab)
    assert head(large, 8192, frozen=True) == tile + 4 * large.hidden * 8192


def test_adapters_need_gradients_and_moments_for_themselves_only() -> None:
    qwen = sized("Qwen/Qwen2.5-1.5B-Instruct")
    parts = training_memory(qwen, Pass(1, 4096, checkpointing=True, adapters=16))
    assert qwen.shape is not None
    assert parts["gradients"] == 4 * qwen.shape.adapters(16) == 4 * 18_464_768  # as peft counts them
    assert parts["optimizer"] == 8 * 18_464_768


def test_time_goes_with_the_work_and_against_the_gpu() -> None:
    qwen = sized("Qwen/Qwen2.5-1.5B-Instruct")
    once = training_seconds(qwen, 1e6, 4096, True, gpu("h100"))
    assert training_seconds(qwen, 2e6, 4096, True, gpu("h100")) == pytest.approx(2 * once)
    assert training_seconds(qwen, 1e6, 4096, True, gpu("a100-80")) == pytest.approx(once * 989 / 312)
    assert training_seconds(qwen, 1e6, 4096, False, gpu("h100")) == pytest.approx(once * 3 / 4)
    few, many = (generating_seconds(qwen, 1e6, 0, 1024, sequences, gpu("h100")) for sequences in (1, 64))
    assert few == pytest.approx(1e6 * 2 * qwen.parameters / 3.35e12 / 0.5, rel=0.02)  # type: ignore[operator]  # bandwidth alone
    assert many < few / 30  # the weights are read once for all sequences


def plan_of(model: str, planning: Planning) -> Plan:
    """A plan of a training step."""
    known = sized(model, planning.parameters)
    memory = training_memory(known, Pass(1, 4096, checkpointing=True))
    return Plan("sft", known, {"steps": 10}, memory, {"train": 1.0}, gpu(planning.gpu), planning.gpus)


def test_a_plan_says_what_fits_and_what_would_if_it_were_sharded() -> None:
    small, large = "Qwen/Qwen2.5-1.5B-Instruct", "Qwen/Qwen2.5-7B-Instruct"
    assert plan_of(small, Planning()).fits
    assert str(plan_of(small, Planning())).count("fits") == 1
    assert "too much\n" in str(plan_of(large, Planning()))
    plan = plan_of(large, Planning(gpus=4))
    assert not plan.fits
    assert plan.sharded < plan.gpu.memory * GIB
    assert "GiB if sharded (FSDP or ZeRO-3), fits" in str(plan)
    assert json.loads(json.dumps(plan.to_dict()))["fits"] is False


def test_an_unknown_model_is_said_to_be_unknown_until_its_size_is_given() -> None:
    text = str(plan_of("someone/else", Planning()))
    assert "someone/else (unknown size: give --parameters)" in text
    assert "GiB" not in text
    told = plan_of("someone/else", Planning(parameters=1_000_000_000))
    assert told.fits is None
    assert told.memory["gradients"] == 4_000_000_000
    assert told.memory["activations"] is None
    assert "activations           unknown" in str(told)


def test_an_unknown_architecture_has_no_shape_and_a_broken_config_is_named(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"model_type": "mamba"}')
    assert from_config(path) is None
    assert sized(str(tmp_path)).parameters is None
    for broken in ("[]", "{", '{"model_type": "llama"}', '{"model_type": "llama", "num_attention_heads": "x"}'):
        path.write_text(broken)
        with pytest.raises(InputError, match=r"config.json: expected the configuration of a transformers model, came"):
            sized(str(tmp_path))


def test_an_unknown_gpu_and_a_bad_number_are_named() -> None:
    with pytest.raises(ConfigError, match=r"unknown GPU 'h10'; did you mean 'h100'\? \(known: .*4090.*\)"):
        Planning(gpu="h10")
    with pytest.raises(ConfigError, match="gpus: expected 1 or more, came 0"):
        Planning(gpus=0)
    assert all(gpu(name.upper()) is found for name, found in GPUS.items())


def test_the_plan_of_asking_a_model_counts_texts_and_tokens() -> None:
    texts = {"attempts": (1000, 1024), "reflections": (500, 512)}
    plan = plan_texts("curate", "Qwen/Qwen2.5-1.5B-Instruct", texts, Planning())
    assert plan.counts == {"attempts": 1000, "reflections": 500, "generated tokens": 1000 * 256 + 500 * 128}
    told = plan_texts("curate", "Qwen/Qwen2.5-1.5B-Instruct", texts, Planning(response_tokens=600, gpus=2))
    assert told.counts["generated tokens"] == 1000 * 600 + 500 * 512
    assert set(told.hours) == {"attempts", "reflections"}
    assert 0 < told.total_hours < plan.total_hours * 2
    assert "assumed: tokens 600 a text (attempts), 512 a text (reflections)" in str(told)
