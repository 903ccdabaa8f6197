"""Whether LLaMA-Factory makes of the rows beside this script what the model's own chat template makes of them.

    python check.py [sft.yaml]

Prints what is trained; exits with 1 if the tokens of a row differ, if the loss doesn't begin with the answer's first token, or
if a row is longer than `cutoff_len` and would be cut.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Reads the recipe, encodes every row both ways, says what it found."""
    import yaml
    from datasets import load_dataset
    from llamafactory.data import get_template_and_fix_tokenizer
    from llamafactory.hparams import DataArguments
    from transformers import AutoTokenizer

    said = yaml.safe_load((HERE / (sys.argv[1] if len(sys.argv) > 1 else "sft.yaml")).read_text("utf-8"))
    name = said["model_name_or_path"]
    model = str(HERE / name) if (HERE / name).exists() else name
    own, theirs = AutoTokenizer.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    if not own.chat_template:
        raise SystemExit(f"{model} has no chat template to compare with: look at LLaMA-Factory's with the key `template`")
    known = {field.name for field in dataclasses.fields(DataArguments)}
    data = DataArguments(**{key: value for key, value in said.items() if key in known})
    template = get_template_and_fix_tokenizer(theirs, data)
    rows = load_dataset("parquet", data_files=str(HERE / "data" / "*.parquet"), split="train")
    told = counted(rows, own, theirs, template, said["cutoff_len"])
    faults = {
        "have other tokens than the model's chat template gives them": told["other"],
        "would be trained from elsewhere than their answer's first token": told["elsewhere"],
        f"are longer than {said['cutoff_len']:,} tokens and would be cut": told["long"],
    }
    if any(faults.values()):
        print(f"of {len(rows):,} rows", "; ".join(f"{count:,} {fault}" for fault, count in faults.items() if count))
        print(*told["first"], sep="\n")
        raise SystemExit(1)
    share = told["trained"] / told["tokens"]
    print(f"{len(rows):,} rows have the tokens of the model's chat template; {share:.1%} of {told['tokens']:,} are trained")


def counted(rows: Any, own: Any, theirs: Any, template: Any, limit: int) -> dict[str, Any]:
    """How many rows are at fault and in which way, the first with other tokens, and how many tokens are trained."""
    told: dict[str, Any] = {"other": 0, "elsewhere": 0, "long": 0, "tokens": 0, "trained": 0, "first": ()}
    for row in rows:
        turns = row["conversations"]
        wanted = own.apply_chat_template(turns, tokenize=True, return_dict=False)
        answer = own(turns[-1]["content"], add_special_tokens=False)["input_ids"]
        ((prompt, response),) = template.encode_multiturn(theirs, turns, None, None)
        found = prompt + response
        told["elsewhere"] += response[: len(answer)] != answer
        told["long"] += len(found) > limit
        told["tokens"] += len(found)
        told["trained"] += len(response)
        if found != wanted:
            told["other"] += 1
            told["first"] = told["first"] or ("model: " + repr(own.decode(wanted)), "theirs: " + repr(own.decode(found)))
    return told


if __name__ == "__main__":
    main()
