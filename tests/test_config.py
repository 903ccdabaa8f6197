"""Laws of the configuration: recipes, flags and defaults meet in a stage's dataclass, and every mistake is named."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from skillfactory.config import add_arguments, construct, dump, from_options, given, options, read_recipe
from skillfactory.errors import ConfigError, InputError


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Heat:
    """How hot."""

    temperature: float = field(default=0.7, metadata={"help": "how hot"})
    limit: int = field(default=9, metadata={"help": "an upper bound"})


@dataclass(frozen=True)
class Stage:
    output: Path = field(metadata={"help": "where to"})
    inputs: tuple[str, ...] = field(default=(), metadata={"help": "what from", "positional": True, "metavar": "INPUT"})
    attempts: int = field(default=5, metadata={"help": "how many, 100 % at most"})
    limit: int | None = field(default=None, metadata={"help": "stop after"})
    name: str | None = field(default=None, metadata={"help": "a name"})
    layout: tuple[str, ...] = field(default=("paper",), metadata={"help": "patterns", "split": False})
    variants: tuple[str, ...] = field(default=(), metadata={"help": "which", "shown": "all"})
    unique: bool = field(default=False, metadata={"help": "each once"})
    mode: Literal["lazy", "eager"] = field(default="lazy", metadata={"help": "how"})
    colour: Colour = field(default=Colour.RED, metadata={"help": "which"})
    extra: Mapping[str, str] = field(default_factory=dict, metadata={"help": "more"})
    loose: Mapping[str, Any] = field(default_factory=dict, metadata={"help": "typed by their consumer"})
    heat: Heat = field(default=Heat(limit=3), metadata={"help": "nested"})


def from_flags(*arguments: str, recipe: Mapping[str, Any] | None = None) -> Stage:
    parser = argparse.ArgumentParser()
    add_arguments(parser, Stage)
    return construct(Stage, recipe or {}, given(parser.parse_args(arguments), Stage))


def from_recipe(folder: Path, text: str) -> Stage:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return construct(Stage, read_recipe(path, "stage", Stage, ["stage", "other"]))


def test_flags_set_every_type() -> None:
    config = from_flags(
        *["a.jsonl", "b.jsonl", "--output", "out", "--attempts", "7", "--limit", "3", "--layout", "a,b", "--layout", "c"],
        *["--variants", "x,y", "--variants", "z", "--unique", "--mode", "eager", "--colour", "blue"],
        *["--extra", "k=v=w", "--extra", "n=1", "--temperature", "1e-3", "--heat-limit", "4"],
    )
    expected = Stage(
        output=Path("out"),
        inputs=("a.jsonl", "b.jsonl"),
        attempts=7,
        limit=3,
        layout=("a,b", "c"),
        variants=("x", "y", "z"),
        unique=True,
        mode="eager",
        colour=Colour.BLUE,
        extra={"k": "v=w", "n": "1"},
        heat=Heat(temperature=0.001, limit=4),
    )
    assert config == expected


def test_a_stage_without_flags_has_its_defaults_and_those_that_its_parent_gives_to_nested_options() -> None:
    assert from_flags("--output", "out") == Stage(output=Path("out"))
    assert {option.flag: option.setting.default for option in options(Stage)}["--heat-limit"] == 3


def test_flags_override_the_recipe_which_overrides_the_defaults_also_inside_nested_options() -> None:
    recipe = {"output": Path("r"), "attempts": 6, "heat": {"temperature": 0.1, "limit": 8}}
    assert from_flags("--heat-limit", "2", "--output", "f", recipe=recipe) == Stage(
        output=Path("f"), attempts=6, heat=Heat(temperature=0.1, limit=2)
    )


def test_a_switch_of_the_recipe_can_be_turned_off_and_a_limit_unset_by_flags() -> None:
    recipe = {"output": Path("r"), "unique": True, "limit": 6}
    assert from_flags("--no-unique", "--limit", "none", recipe=recipe) == Stage(output=Path("r"))


def test_a_recipe_means_what_it_says_where_yaml_surprises(tmp_path: Path) -> None:
    text = "stage: {output: o, name: no, attempts: 010, limit: ~, variants: [on, 1:30], heat: {temperature: 1e-6}, unique: yes}"
    config = from_recipe(tmp_path, text)
    assert (config.name, config.attempts, config.limit, config.variants) == ("no", 10, None, ("on", "1:30"))
    assert (config.heat.temperature, config.unique) == (1e-6, True)


def test_a_nested_option_may_stand_under_its_flags_name(tmp_path: Path) -> None:
    flat = from_recipe(tmp_path, "stage: {output: o, temperature: 0.5, heat_limit: 4, limit: 6}")
    assert flat == from_recipe(tmp_path, "stage: {output: o, limit: 6, heat: {temperature: 0.5, limit: 4}}")
    assert from_recipe(tmp_path, "stage: {output: o, temperature: 0.5, heat: {limit: 4}, limit: 6}") == flat


@pytest.mark.parametrize("text", ["stage: {layout: *C_full}", "stage:\n  layout: *C*IC\n"])
def test_an_unquoted_layout_is_told_to_be_quoted(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match=r"recipe.yaml: not a YAML file: .*; a text that begins with \* must be quoted"):
        from_recipe(tmp_path, text)


def test_one_value_stands_for_a_list_of_one(tmp_path: Path) -> None:
    assert from_recipe(tmp_path, "stage: {output: o, layout: '*C, full'}").layout == ("*C, full",)


LOOSE = {"revision": "0123456", "version": "1.10", "day": "2024-01-01", "on": "yes", "sizes": "[3, 4]", "none": "null"}


def test_options_that_their_consumer_types_stay_text_alike_in_flags_and_recipes(tmp_path: Path) -> None:
    flags = from_flags("--output", "o", *(f"--loose={name}={text}" for name, text in LOOSE.items()))
    plain = ", ".join(f"'{name}': {text}" for name, text in LOOSE.items() if name != "sizes")
    recipe = from_recipe(tmp_path, f"stage: {{output: o, loose: {{{plain}, sizes: '[3, 4]'}}}}")
    assert (flags.loose, recipe.loose) == (LOOSE, LOOSE)


@dataclass(frozen=True)
class Consumer:
    revision: str | None = None
    threads: int | None = None
    exact: bool = True
    args: Mapping[str, Any] = field(default_factory=dict)
    free: Any = None


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("revision", "0123456", "0123456"),
        ("revision", "1.10", "1.10"),
        ("revision", "2024-01-01", "2024-01-01"),
        ("revision", "none", None),
        ("threads", "1", 1),
        ("exact", "false", False),
        (
            "args",
            '{"quantization": "fp8", "seqs": 4, "revision": "0123"}',
            {"quantization": "fp8", "seqs": 4, "revision": "0123"},
        ),
        ("args", "seqs=4", {"seqs": 4}),
        ("args", {"seqs": "4", "sizes": ["1", "x"]}, {"seqs": 4, "sizes": [1, "x"]}),  # as a recipe holds it
        ("free", "[1, a]", [1, "a"]),
    ],
)
def test_an_option_means_what_the_type_of_its_consumers_field_says(name: str, text: Any, value: Any) -> None:
    assert getattr(from_options(Consumer, {name: text}, "option"), name) == value


def test_a_flow_mapping_that_does_not_close_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^option args: expected a YAML value, came '\{a'$"):
        from_options(Consumer, {"args": "{a"}, "option")


def test_a_stage_with_nothing_under_it_has_its_defaults(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("stage:\nother: {x: 1}", encoding="utf-8")
    assert read_recipe(path, "stage", Stage, ["stage", "other"]) == {}


MISTAKES = {
    "stage: {output: o, atempts: 5}": (
        "{path}: stage: unknown key 'atempts'; did you mean 'attempts'? (known: attempts, colour, extra, heat, "
        "heat_limit, inputs, layout, limit, loose, mode, name, output, temperature, unique, variants)"
    ),
    "stage: {output: o, temperatur: 5}": (
        "{path}: stage: unknown key 'temperatur'; did you mean 'temperature'? (known: attempts, colour, extra, heat, "
        "heat_limit, inputs, layout, limit, loose, mode, name, output, temperature, unique, variants)"
    ),
    "stage: {output: o, temperature: 1, heat: {temperature: 2}}": (
        "{path}: stage.temperature: stands under 'heat' too; give it once"
    ),
    "stage: {output: o, temperature: hot}": "{path}: stage.heat.temperature: expected a number, came 'hot'",
    "stage: {output: o, temperature: 1, heat: 3}": "{path}: stage.heat: expected a mapping of options, came '3'",
    "stage: {output: o, heat: {temp: 5}}": (
        "{path}: stage.heat: unknown key 'temp'; did you mean 'temperature'? (known: limit, temperature)"
    ),
    "stags: {}": "{path}: unknown stage 'stags'; did you mean 'stage'? (known: other, stage)",
    "stage: {output: o, attempts: five}": "{path}: stage.attempts: expected a whole number, came 'five'",
    "stage: {output: o, attempts: 1.5}": "{path}: stage.attempts: expected a whole number, came '1.5'",
    "stage: {output: o, attempts: [1]}": "{path}: stage.attempts: expected a whole number, came a list",
    "stage: {output: o, attempts: }": "{path}: stage.attempts: expected a whole number, came nothing",
    "stage: {output: o, limit: x}": "{path}: stage.limit: expected a whole number or none, came 'x'",
    "stage: {output: o, heat: {temperature: nan}}": "{path}: stage.heat.temperature: expected a number, came 'nan'",
    "stage: {output: o, heat: 3}": "{path}: stage.heat: expected a mapping of options, came '3'",
    "stage: {output: o, unique: maybe}": "{path}: stage.unique: expected true or false, came 'maybe'",
    "stage: {output: o, mode: fast}": "{path}: stage.mode: expected one of lazy, eager, came 'fast'",
    "stage: {output: {a: b}}": "{path}: stage.output: expected a path, came a mapping",
    "stage: {output: o, extra: [novalue]}": "{path}: stage.extra: expected key=value, came 'novalue'",
    "stage: {attempts: 5}": "--output is missing: give it on the command line, or 'output' in a recipe",
    "stage: [a]": "{path}: stage: expected a mapping of options, came a list",
    "other: {x: 1}": "{path}: says nothing of 'stage' (it has: other)",
    "{}": "{path}: says nothing of 'stage' (it has: nothing)",
    "- stage": "{path}: expected a mapping of stages to their options, came a list",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_in_a_recipe_names_the_file_the_key_what_was_expected_and_what_came(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as raised:
        from_recipe(tmp_path, text)
    assert str(raised.value) == MISTAKES[text].replace("{path}", str(tmp_path / "recipe.yaml"))


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"recipe.yaml: not a YAML file: the key 'attempts' stands twice in the mapping at line 2"
    ):
        from_recipe(tmp_path, "stage:\n  attempts: 1\n  attempts: 2\n")


def test_a_file_that_is_not_there_or_not_yaml_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none.yaml: can't read the recipe: No such file"):
        read_recipe(tmp_path / "none.yaml", "stage", Stage, ["stage"])
    with pytest.raises(InputError, match=r"recipe.yaml: not a YAML file: .*line 1"):
        from_recipe(tmp_path, "stage: {")


def test_a_mistake_in_a_flag_names_the_flag() -> None:
    with pytest.raises(ConfigError, match=r"^--attempts: expected a whole number, came 'many'$"):
        from_flags("--output", "o", "--attempts", "many")
    with pytest.raises(ConfigError, match=r"^--temperature: expected a number, came 'hot'$"):
        from_flags("--output", "o", "--temperature", "hot")


def test_a_mistake_in_key_value_options_says_whose_they_are() -> None:
    assert from_options(Heat, {"limit": "4"}, "engine option") == Heat(limit=4)
    with pytest.raises(ConfigError, match=r"^engine option limit: expected a whole number, came 'x'$"):
        from_options(Heat, {"limit": "x"}, "engine option")
    with pytest.raises(ConfigError, match=r"^engine option: unknown key 'limits'; did you mean 'limit'"):
        from_options(Heat, {"limits": "4"}, "engine option")
    with pytest.raises(ConfigError, match=r"^option of the heater, output is missing: where to$"):
        from_options(Stage, {}, "option of the heater,")
    with pytest.raises(ConfigError, match=r"^option of the heater: unknown key 'x'"):
        from_options(Stage, {"x": 1}, "option of the heater,")


def test_help_shows_every_option_with_its_default() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser, Stage)
    text = " ".join(parser.format_help().split())
    assert "--output PATH where to (required)" in text
    assert "--attempts N how many, 100 % at most (default: 5)" in text
    assert "--unique, --no-unique each once (default: off)" in text
    assert "--variants VARIANTS which (default: all; repeatable)" in text
    assert "--mode {lazy,eager} how (default: lazy)" in text
    assert "--extra KEY=VALUE more (default: none; repeatable)" in text
    assert "heat: How hot. --temperature X how hot (default: 0.7) --heat-limit N an upper bound (default: 3)" in text


words = st.text(max_size=8).filter(lambda text: text.lower() not in ("", "~", "none", "null"))
stages = st.builds(
    Stage,
    output=words.map(Path),
    inputs=st.lists(st.from_regex(r"[a-z*@:.]{1,8}", fullmatch=True)).map(tuple),
    attempts=st.integers(),
    limit=st.none() | st.integers(),
    name=st.none() | words,
    layout=st.lists(words).map(tuple),
    unique=st.booleans(),
    mode=st.sampled_from(["lazy", "eager"]),
    colour=st.sampled_from(Colour),
    extra=st.dictionaries(words, words, max_size=3),
    heat=st.builds(Heat, temperature=st.floats(allow_nan=False, allow_infinity=False)),
)


@settings(max_examples=50, deadline=None)
@for_all(stages)
def test_a_dumped_configuration_read_as_a_recipe_gives_it_back(tmp_path_factory: pytest.TempPathFactory, config: Stage) -> None:
    text = yaml.safe_dump({"stage": dump(config)})
    assert from_recipe(tmp_path_factory.getbasetemp(), text) == config
