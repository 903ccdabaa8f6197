"""The chat completions protocol without I/O: what is sent for a request, and what an answer of a server means."""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from skillfactory.flow import Completion, Request, failed
from skillfactory.records import Stop

SEED_RANGE = 2**31  # what every server known to us takes; the chance that two of 64 samples share one is one in a million
_AGAIN = frozenset({408, 409, 425, 429})
_STOPS = {"stop": Stop.END, "eos": Stop.END, "end_turn": Stop.END, "length": Stop.LENGTH, "max_tokens": Stop.LENGTH}
_UNFINISHED = frozenset({"abort", "error", "cancelled"})  # the server gave up, not the model
_EXTENDED = ("top_k", "repetition_penalty")
_REASON_LENGTH = 400


@dataclass(frozen=True, slots=True)
class Again:
    """An answer that another try may mend: why, and how long the server asks to wait (seconds)."""

    reason: str
    after: float | None = None


def payload(
    request: Request,
    model: str,
    limit_field: str,
    extended: bool,
    extra: Mapping[str, Any],
    prompt: Sequence[int] | None = None,
) -> bytes:
    """The JSON body for a request, of the plain completions protocol if it is put as `prompt` ids; `extra` fields win.

    Extended sampling is always sent in full: servers fill what is missing from the model's own recommendations. A seed is
    reduced to 31 bits.
    """
    sampling = request.sampling
    asked: dict[str, Any] = {"messages": [{"role": role, "content": content} for role, content in request.messages]}
    if prompt is not None:
        asked = {"prompt": list(prompt), "return_token_ids": True}
    fields: dict[str, Any] = {
        "model": model,
        **asked,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        limit_field: sampling.max_tokens,
        "seed": request.seed % SEED_RANGE,
    }
    if extended:
        fields["top_k"] = sampling.top_k or -1
        fields["repetition_penalty"] = sampling.repetition_penalty
    return json.dumps(fields | dict(extra), ensure_ascii=False).encode("utf-8", "replace")


def outcome(request: Request, status: int, retry_after: str | None, body: bytes, plain: bool = False) -> Completion | Again:
    """What a server's answer makes of a request: its completion (an ERROR one if no other try can help), or another try.

    That of the `plain` completions protocol is to hold token ids; its completion is of the new ones alone.
    """
    if status in _AGAIN or status >= 500:
        return Again(f"HTTP {status}: {_said(body)}", waiting(retry_after, datetime.now(UTC)))
    if status != 200:
        said = _said(body)
        option = "; set extended_sampling to false if it doesn't know these fields" if any(f in said for f in _EXTENDED) else ""
        return failed(request, f"the server refused the request: HTTP {status}: {said}{option}")
    return _completion(request, _parsed(body), plain)


def waiting(retry_after: str | None, now: datetime) -> float | None:
    """The seconds that a Retry-After header asks for, given as seconds or as an HTTP date; None if it says nothing usable."""
    text = (retry_after or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - now).total_seconds())


def pause(tried: int, after: float | None, first: float, longest: float, dice: random.Random) -> float:
    """How long to wait after `tried` tries: what the server asked for, else doubling from `first`; never over `longest`.

    Jitter spreads requests that failed together: up to `first` on top of what was asked for, up to a half off the doubling.
    """
    if after is not None:
        return min(after, longest) + dice.uniform(0.0, first)
    return min(first * 2.0 ** min(tried - 1, 60), longest) * dice.uniform(0.5, 1.0)


def _completion(request: Request, answer: Any, plain: bool) -> Completion | Again:
    """The completion in a parsed answer; Again if there is none or the server did not finish it."""
    choices = answer.get("choices") if isinstance(answer, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if plain and isinstance(choice, dict):
        message = {"content": choice.get("text")}
    if not isinstance(message, dict) or not isinstance(message.get("content") or "", str):
        return Again("the server's answer holds no completion")
    reason = choice.get("finish_reason") if isinstance(choice, dict) else None
    if not isinstance(reason, str) or reason in _UNFINISHED:
        return Again(f"the server did not finish the text (finish_reason {json.dumps(reason)[:80]})")
    if reason not in _STOPS:
        return failed(request, f"the server withheld the text (finish_reason '{reason[:80]}')")
    text = (message.get("content") or "").encode("utf-8", "replace").decode()  # JSON can hold halves of surrogate pairs
    limit, stop = request.sampling.max_tokens, _STOPS[reason]
    prompt_tokens = _counted(answer, "prompt_tokens", sum(_guess(content) for _, content in request.messages))
    tokens = _counted(answer, "completion_tokens", limit if stop is Stop.LENGTH else min(limit, _guess(text)))
    made = Completion(request.key, text, stop, prompt_tokens, tokens, limit)
    return replace(made, tokens=len(ids), ids=ids) if plain and (ids := _ids(choice)) is not None else made


def _ids(choice: Any) -> tuple[int, ...] | None:
    """The token ids of a choice, None if the server doesn't give them."""
    ids = choice.get("token_ids")
    whole = isinstance(ids, list) and all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 2**31 for n in ids)
    return tuple(ids) if whole else None


def _counted(answer: Mapping[str, Any], name: str, guess: int) -> int:
    """A number of tokens from the answer's `usage`, or the guess."""
    usage = answer.get("usage")
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if isinstance(count, int) and not isinstance(count, bool) and 0 <= count < 2**31 else guess


def _guess(text: str) -> int:
    """About how many tokens a text has: a token for every four characters."""
    return -(-len(text) // 4)


def _parsed(body: bytes) -> Any:
    """The JSON value in a body; None if it isn't JSON."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _said(body: bytes) -> str:
    """What a server said in an error, on one line and not too long: its message if it is in a known place, else the body."""
    answer = _parsed(body)
    error = answer.get("error", answer) if isinstance(answer, dict) else answer
    message = error.get("message", error.get("detail")) if isinstance(error, dict) else error
    text = message if isinstance(message, str) else body[: 4 * _REASON_LENGTH].decode("utf-8", "replace")
    line = " ".join(text.encode("utf-8", "replace").decode()[: 4 * _REASON_LENGTH].split())
    return line if len(line) <= _REASON_LENGTH else line[: _REASON_LENGTH - 1] + "…"
