"""Chat templates: which tokens of a trace bear loss, to the token, and which templates are refused."""

import json
from pathlib import Path
from typing import Any

import chats
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skillfactory.encoding import IGNORED, Encoder, Example, Refused, Row
from skillfactory.errors import ConfigError
from skillfactory.masks import Mask, silent
from skillfactory.traces import Row as Trace

GOLDEN = json.loads((chats.TEMPLATES / "golden.json").read_text("utf-8"))
TRACES = {"plain": chats.plain, "multibyte": chats.multibyte}
STYLES = {"qwen2.5": "chatml", "qwen2.5-wide": "chatml", "llama-3": "headers", "olmo": "plain"}
FAMILIES = {name: chats.with_template(style, name) for name, style in STYLES.items()}


def example(trace: Trace, mask: Mask = "none") -> Example:
    segments = [segment._asdict() for segment in trace.segments]
    return Example(trace.trace.id, trace.trace.prompt, trace.text, silent(segments, mask))


def encoded(tokenizer: Any, one: Example) -> Row:
    (found,) = Encoder(tokenizer, 4096).rows([one])
    assert isinstance(found, Row)
    return found


def stretches(tokenizer: Any, row: Row) -> tuple[list[str], list[str]]:
    """The texts of the tokens that bear loss, and of those between them that don't, each stretch by itself."""
    trained = [n for n, label in enumerate(row.labels) if label != IGNORED]
    parts: list[tuple[bool, list[int]]] = []
    for n in range(trained[0], trained[-1] + 1):
        bears = bool(row.labels[n] != IGNORED)
        if not parts or parts[-1][0] != bears:
            parts.append((bears, []))
        parts[-1][1].append(int(row.ids[n]))
    learnt, quiet = ([tokenizer.decode(ids) for bears, ids in parts if bears == wanted] for wanted in (True, False))
    return learnt, quiet


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: f"{case['template']} {case['trace']}")
@pytest.mark.parametrize("mask", ["none", "wrong", "all-but-last"])
def test_the_tokens_that_bear_loss_are_the_golden_ones(case: dict[str, Any], mask: Mask) -> None:
    tokenizer = chats.with_template(case["tokenizer"], case["template"])
    one, golden = example(TRACES[case["trace"]](), mask), case["masks"][mask]
    (rendered,) = Encoder(tokenizer, 4096).rendered([one])
    assert rendered.text == case["text"]
    assert one.response in rendered.text, "the template lost a part of the trace"
    row = encoded(tokenizer, one)
    trained = [n for n, label in enumerate(row.labels) if label != IGNORED]
    assert tokenizer.decode(row.ids) == case["text"]
    assert (trained[0], len(trained), len(row.ids)) == (golden["before"], golden["trained"], golden["tokens"])
    assert tokenizer.decode(row.ids[: trained[0]]) + one.response == case["text"][: case["text"].rindex(golden["last"])]
    assert tokenizer.decode(row.ids[trained[0]]) == golden["first"]
    assert tokenizer.decode(row.ids[trained[-1]]) == golden["last"]
    assert stretches(tokenizer, row)[1] == golden["silent"]
    assert (row.labels[trained] == row.ids[trained]).all()


@pytest.mark.parametrize("name", FAMILIES)
def test_learning_begins_where_the_model_is_asked_to_go_on(name: str) -> None:
    tokenizer, trace = FAMILIES[name], chats.plain()
    turns = [{"role": "user", "content": trace.trace.prompt}]
    shown = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=True)["input_ids"]
    row = encoded(tokenizer, example(trace))
    assert row.ids[: len(shown)].tolist() == shown
    assert (row.labels[: len(shown)] == IGNORED).all()
    assert row.labels[len(shown)] != IGNORED


@pytest.mark.parametrize("name", ["qwen2.5", "llama-3", "olmo"])
def test_a_template_without_markers_is_an_error_with_its_remedy(name: str) -> None:
    tokenizer = chats.with_template(STYLES[name], f"{name}-unmarked")
    with pytest.raises(ConfigError, match=r"no \{% generation %\} markers, and TRL knows no version with them") as caught:
        encoded(tokenizer, example(chats.plain()))
    assert "--chat-template FILE" in str(caught.value)


@pytest.mark.parametrize(("name", "file"), [("qwen2.5", "qwen2_5"), ("qwen2.5", "qwen3"), ("llama-3", "llama3")])
@pytest.mark.parametrize("mask", ["none", "wrong", "all-but-last"])
def test_the_templates_that_trl_marks_give_the_same_loss_as_ours(name: str, file: str, mask: Mask) -> None:
    import trl

    tokenizer = chats.tokenizer(STYLES[name])
    tokenizer.chat_template = (Path(trl.__file__).parent / "chat_templates" / f"{file}.jinja").read_text("utf-8")
    assert "{%- generation" not in tokenizer.chat_template
    for trace in (chats.plain(), chats.multibyte()):
        one = example(trace, mask)
        ours = stretches(FAMILIES[name], encoded(FAMILIES[name], one))
        assert stretches(tokenizer, encoded(tokenizer, one)) == ours


def test_a_template_that_strips_thinking_is_refused_and_one_that_keeps_it_is_not() -> None:
    forgets = chats.with_template("chatml", "strips-thinking")
    with pytest.raises(ConfigError, match=r"drops a part of the assistant's turn .* --chat-template FILE"):
        encoded(forgets, example(chats.plain()))
    keeps = chats.with_template("chatml", "keeps-last-thinking")
    assert chats.plain().text in keeps.decode(encoded(keeps, example(chats.plain())).ids)
    rewritten = Example("a", "Q", "<think>\n\n\nSo.\n</think>\n\n7")
    with pytest.raises(ConfigError, match="drops a part"):
        encoded(keeps, rewritten)
    answer = encoded(forgets, Example("b", "Q", "7"))  # where there is nothing to forget
    assert stretches(forgets, answer) == (["7<|im_end|>"], [])


@pytest.mark.parametrize(("name", "stripped"), [("qwen2.5", False), ("llama-3", True), ("olmo", False)])
def test_white_space_at_the_ends_moves_no_mask_and_silences_no_end_token(name: str, stripped: bool) -> None:
    tokenizer = FAMILIES[name]
    response = " \n one wrong two right \n "
    whole = ((0, 12), (16, len(response)))  # "one wrong" with the white space before it, "right" with that behind
    learnt, quiet = stretches(tokenizer, encoded(tokenizer, Example("a", "Q", response, whole)))
    assert learnt[-1] == tokenizer.eos_token
    assert learnt[:-1] == [" two"]
    assert quiet == [" right" if stripped else " right \n "]


def test_special_tokens_without_a_name_end_turns_and_stand_in_no_answer() -> None:
    """As in models whose end of a text is one token and whose end of a turn is another, which has no name."""
    from transformers import PreTrainedTokenizerFast

    named = FAMILIES["llama-3"]
    first = named.bos_token
    bare = PreTrainedTokenizerFast(
        tokenizer_object=named.backend_tokenizer, bos_token=first, eos_token=first, chat_template=named.chat_template
    )
    assert bare.all_special_tokens == [first]
    ours, theirs = (Encoder(tokenizer, 4096) for tokenizer in (bare, named))
    one = example(chats.plain(), "wrong")
    (found,), (wanted,) = ours.rows([one]), theirs.rows([one])
    assert isinstance(found, Row)
    assert isinstance(wanted, Row)
    assert (found.labels == wanted.labels).all()
    assert ours.end_token == theirs.end_token == named.convert_tokens_to_ids("<|eot_id|>")
    assert list(ours.rows([Example("h", "Q", "So <|start_header_id|> no")])) == [Refused.SPECIAL_TOKEN]


texts = st.text(st.sampled_from("ab .,\n\t<>/5e\u0301é漢😀\u200d\u202e+"), max_size=30)


@st.composite
def masked(draw: st.DrawFn) -> Example:
    """A response of any characters with any spans, in order and apart."""
    response = draw(texts.filter(lambda text: bool(text.strip())))
    places = sorted(draw(st.sets(st.integers(0, len(response)), max_size=6)))
    return Example("h", draw(texts), response, tuple(zip(places[::2], places[1::2], strict=False)))


@pytest.mark.parametrize("name", STYLES)
@settings(max_examples=150, deadline=None)
@given(one=masked())
def test_a_token_bears_loss_if_none_of_its_characters_is_silent_or_out_of_the_turn(name: str, one: Example) -> None:
    """Against what its bytes say: these tokenizers lose none, so that adding up lengths gives every token's place."""
    tokenizer = FAMILIES[name]
    encoder = Encoder(tokenizer, 4096)
    (row,), (rendered,) = encoder.rows([one]), encoder.rendered([one])
    text, (begin, end) = rendered.text, rendered.turn
    strips = name == "llama-3"
    kept = one.response.strip() if strips else one.response
    moved = len(one.response) - len(one.response.lstrip()) if strips else 0
    at = end - len(tokenizer.eos_token) - len(kept)
    assert text[at:end] == kept + tokenizer.eos_token
    hidden = {at + n - moved for first, last in one.silent for n in range(first, last) if 0 <= n - moved < len(kept)}
    of_byte = [n for n, char in enumerate(text) for _ in char.encode()]
    place, expected, torn = 0, [], False
    for token in rendered.ids:
        piece = tokenizer.convert_ids_to_tokens(int(token))
        size = len(piece.encode()) if int(token) in tokenizer.all_special_ids else len(piece)  # a sign a byte
        chars = {of_byte[n] for n in range(place, place + size)}
        inside = {begin <= n < end for n in chars}
        torn |= len(inside) == 2
        expected.append(inside == {True} and not chars & hidden)
        place += size
    assert place == len(of_byte)
    if isinstance(row, Row):
        assert not torn
        assert [bool(label != IGNORED) for label in row.labels] == expected
    else:
        assert row is Refused.BLURRED
        assert torn
