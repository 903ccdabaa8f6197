"""The tiny model's tokenizer and chat template."""

import re
from collections.abc import Iterable

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

PAD, START, END, UNKNOWN = SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<unk>")
OPENING = tuple(f"<{name}>" for name in ("answer", "verdict", "think", "sample", "reflect"))
CLOSING = tuple(f"</{tag[1:]}" for tag in OPENING)
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
# A text is cut into tags, whole numbers, words, line breaks and single marks; other white space only separates.
_PIECE = r"</?[a-z]+>|\d+|[A-Za-z]+|\n|[^\sA-Za-z\d]"
# Where decoding leaves out the space that it puts between two tokens.
_TIGHT = [("( ", "("), (" )", ")"), (" \n", "\n"), ("\n ", "\n"), (" ' ", "'"), *((f" {mark}", mark) for mark in ",.:;?!")]
_TIGHT += [(f"{tag} ", tag) for tag in OPENING] + [(f" {tag}", tag) for tag in CLOSING]


def vocabulary_of(texts: Iterable[str], highest: int) -> list[str]:
    """The tokens that these texts need, in a fixed order, with every number from 0 to `highest`."""
    pieces = {piece for text in texts for piece in re.findall(_PIECE, text) if not piece.isdigit()}
    first = [*SPECIAL, *OPENING, *CLOSING, "\n", *map(str, range(highest + 1))]
    return first + sorted(pieces - set(first))


def make_tokenizer(vocabulary: list[str]) -> PreTrainedTokenizerFast:
    """A word-level tokenizer: spaces are not kept, and decoding puts them where a typist would.

    So encode(decode(ids)) == ids, and a text comes back as written if it was spaced that way. What isn't in the vocabulary
    becomes `<unk>`.
    """
    core = Tokenizer(models.WordLevel({token: i for i, token in enumerate(vocabulary)}, unk_token=UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(_PIECE), "isolated"), pre_tokenizers.Split(Regex(r"[^\S\n]+"), "removed")]
    )
    tight = [decoders.Replace(loose, close) for loose, close in _TIGHT]
    core.decoder = decoders.Sequence([decoders.WordPiece(prefix="##", cleanup=False), decoders.Fuse(), *tight])
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )
