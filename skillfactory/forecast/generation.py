"""The plan of a stage that asks a model: `curate` and `evaluate`."""

from collections.abc import Mapping

from skillfactory.forecast.gpus import gpu
from skillfactory.forecast.memory import BFLOAT16, cache
from skillfactory.forecast.plan import Plan, Planning
from skillfactory.forecast.shapes import sized
from skillfactory.forecast.speed import generating_seconds

AT_ONCE = 256  # sequences that an engine works on: vLLM's default (max_num_seqs)
PROMPT = 128  # tokens of a prompt, where nothing is known: Countdown's has about as many
MARGIN = 0.9  # share of the memory that vLLM takes, by default


def plan_texts(
    title: str,
    model: str,
    texts: Mapping[str, tuple[int, int]],
    planning: Planning,
    *notes: str,
    counts: Mapping[str, None] | None = None,
) -> Plan:
    """The plan of asking for `texts`: a kind → how many, and the tokens that one may have at most. `counts`: kinds unknown."""
    known, card = sized(model, planning.parameters), gpu(planning.gpu)
    longest = PROMPT + max((limit for _, limit in texts.values()), default=0)
    tokens = {kind: count * planning.response(limit) for kind, (count, limit) in texts.items()}
    seconds = {
        kind: generating_seconds(known, tokens[kind], count * PROMPT, PROMPT + planning.response(limit), AT_ONCE, card)
        for kind, (count, limit) in texts.items()
    }
    memory: dict[str, int | None] = {}
    if known.parameters is not None:
        memory = {"weights": BFLOAT16 * known.parameters, f"cache of {AT_ONCE} texts": cache(known, AT_ONCE, longest)}
    assumed = ", ".join(f"{planning.response(limit):,} a text ({kind})" for kind, (_, limit) in texts.items())
    return Plan(
        title,
        known,
        {**{kind: count for kind, (count, _) in texts.items()}, **counts, "generated tokens": None}
        if counts
        else {**{kind: count for kind, (count, _) in texts.items()}, "generated tokens": sum(tokens.values())},
        memory,
        {kind: value / 3600 / planning.gpus for kind, value in seconds.items()},
        card,
        planning.gpus,
        (*([f"assumed: tokens {assumed}"] if assumed else []), *notes),
    )
