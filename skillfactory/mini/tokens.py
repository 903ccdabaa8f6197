"""The tokenizer of the small world: whole words and numbers, no white space."""

import re
from collections.abc import Iterable
from typing import Any

PAD, START, END, UNKNOWN = SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "[UNK]")
_NAMES = ("think", "sample", "reflect", "answer", "verdict")
OPENING, CLOSING = tuple(f"<{name}>" for name in _NAMES), tuple(f"</{name}>" for name in _NAMES)
CONTEXT = 2048
CHAT_TEMPLATE = """\
{%- for message in messages %}
{{- '<|im_start|>' + message['role'] + '\\n' }}
{%- if message['role'] == 'assistant' %}
{%- generation %}{{- message['content'] + '<|im_end|>' }}{%- endgeneration %}
{%- else %}
{{- message['content'] + '<|im_end|>' }}
{%- endif %}
{{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- endif %}"""
# A text is cut into tags, numbers, words and single marks; white space only separates.
_PIECE = r"</?[a-z]+>|\d+|[A-Za-z]+|[^\sA-Za-z\d]"
# How decoding spaces what encoding does not keep: (as the decoder joins it, as it is written).
_BLOCKS = [(f"<{name}> ", f"<{name}>\n") for name in ("think", "sample", "reflect")]
_BLOCKS += [(f" <{name}>", f"\n<{name}>") for name in ("sample", "reflect", "answer", "verdict")]
_BLOCKS += [(f" </{name}>", f"\n</{name}>") for name in ("think", "sample", "reflect")]
_BLOCKS += [(f"</{name}> ", f"</{name}>\n") for name in _NAMES]
_INLINE = [(f"<{name}> ", f"<{name}>") for name in ("answer", "verdict")]
_INLINE += [(f" </{name}>", f"</{name}>") for name in ("answer", "verdict")]
_MARKS = [("( ", "("), (" )", ")"), (" ' ", "'"), *((f" {mark}", mark) for mark in ",.:;?!")]


def vocabulary_of(texts: Iterable[str]) -> list[str]:
    """The tokens that these texts need, in a fixed order, after special tokens, tags and numbers.

    Numbers to 99 are one token; a further digit is a token of its own, so 282 is `28` and `##2`.
    """
    pieces = {piece for text in texts for piece in re.findall(_PIECE, text) if not piece.isdigit()}
    first = [*SPECIAL, *OPENING, *CLOSING, *map(str, range(100)), *(f"##{digit}" for digit in range(10))]
    return first + sorted(pieces - set(first))


def make_tokenizer(vocabulary: list[str]) -> Any:
    """A tokenizer of `transformers` (PreTrainedTokenizerFast) over these tokens, with a chat template.

    White space is not kept. Decoding puts spaces where a typist would, and tags on lines of their own as traces have them, so
    that encode(decode(ids)) == ids. What isn't in the vocabulary becomes `[UNK]`.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordPiece({token: i for i, token in enumerate(vocabulary)}, unk_token=UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(_PIECE), "isolated"), pre_tokenizers.Split(Regex(r"\s+"), "removed")]
    )
    written = [decoders.Replace(loose, close) for loose, close in _BLOCKS + _INLINE + _MARKS]
    core.decoder = decoders.Sequence([decoders.WordPiece(prefix="##", cleanup=False), decoders.Fuse(), *written])
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=CONTEXT,
    )
