"""Small tokenizers in the style of three families of models, chat templates to go with them, and traces that try them."""

from pathlib import Path
from typing import Any

from silver import attempt, row

from skillfactory.traces import Row

TEMPLATES = Path(__file__).parent / "cases" / "templates"
# As those of newer models: up to three digits together, signs with the new lines behind them.
_PIECES = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_WORDS = (
    "think sample reflect answer verdict user assistant system Make from Let Ġme Ġtry ĠTry ĠThat Ġis Ġthe Ġright Ġwrong "
    "ĠCorrect ĠIncorrect Correct Incorrect Once Ġmore So Ġhere Ġit </ >Ċ .Ċ ĊĊ > |> <| Ġ+ Ġ= Ġhelpful You Ġare Ġa"
)


def tokenizer(style: str) -> Any:
    """A tokenizer of bytes and a few words; `style` is chatml, headers or plain.

    "chatml" and "headers" join signs with a new line behind them to one token; "headers" adds a token before any text, unless
    told not to; "plain" tells its tokens' places without their white space, and knows but one special token.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = dict.fromkeys((word[:end], word[end]) for word in _WORDS.split() for end in range(1, len(word)))
    vocabulary = dict.fromkeys([*alphabet, *(left + right for left, right in merges)])
    core = Tokenizer(models.BPE(vocab={piece: n for n, piece in enumerate(vocabulary)}, merges=list(merges)))
    bytes_alone = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=style == "plain")
    pieces = [pre_tokenizers.Split(Regex(_PIECES), "isolated")] if style != "plain" else []
    core.pre_tokenizer = pre_tokenizers.Sequence([*pieces, bytes_alone])
    core.decoder = decoders.ByteLevel()
    frame: dict[str, list[str]] = {
        "chatml": ["<|endoftext|>", "<|im_end|>", "<|im_start|>"],
        "headers": ["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"],
        "plain": ["<|endoftext|>", "<|endoftext|>"],
    }
    first, end, *others = frame[style]
    found = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=first, eos_token=end, pad_token=first, additional_special_tokens=others
    )
    backend = found.backend_tokenizer
    backend.post_processor = processors.ByteLevel(trim_offsets=style == "plain")
    if style == "headers":
        backend.post_processor = processors.TemplateProcessing(
            single=f"{first} $A", special_tokens=[(first, found.convert_tokens_to_ids(first))]
        )
    return found


def with_template(style: str, name: str) -> Any:
    """A tokenizer with the chat template of that name."""
    found = tokenizer(style)
    found.chat_template = (TEMPLATES / f"{name}.jinja").read_text("utf-8")
    return found


def plain() -> Row:
    """A wrong attempt, a right one, both reflected on, and the right one said again."""
    wrong, right = (attempt("original/0", "Let me try 5 + 5 = 10.", False), attempt("rephrase/0", "5 + 2 = 7.", True))
    return row("q1/plain", [(wrong, "That is wrong."), (right, "That is right."), (right, None)])


def multibyte() -> Row:
    """Characters of several bytes at the borders of attempts, combining ones, and white space round an attempt."""
    wrong = attempt("original/0", " \n\t 😀 Zuerst: 5−2 = 3 e\u0301\n ", False)
    right = attempt("rephrase/0", "数字は ５+２ です 👩‍👩‍👧", True)
    return row("q1/multibyte", [(wrong, "Nein. 🙁"), (right, "Ja ✓")], prompt="Make 7 from 5, 2. Ünïcode: ½ 😀")
