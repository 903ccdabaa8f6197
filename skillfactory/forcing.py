"""The flow that makes the responses to a question go on, and the votes of independent samples that cost as many tokens."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

from skillfactory.deck import clean
from skillfactory.errors import ConfigError
from skillfactory.examination import Examination
from skillfactory.flow import Completion, Engine, Flow, Request, Start, Writer, together
from skillfactory.markup import final_answer
from skillfactory.measure import ballot
from skillfactory.records import Check, Drop, Grade, Question, Stop
from skillfactory.seeds import derive
from skillfactory.skills import shown
from skillfactory.tasks.judging import Judging

END = "</think>"  # what a trigger takes the place of
TRIGGERS = {"sample": "<sample>\n", "wait": "Wait"}
_THINKING = "\n</think>\n\n<answer>\n"
_CLOSINGS = {"unclosed_think": _THINKING, "unclosed_answer": ""}  # by the reason why there is no answer
_ANSWER = "\n<answer>\n"  # for any other reason
MAX_VOTERS = 2000  # independent samples beside one response


@dataclass(frozen=True)
class Forcing:
    """How far responses are made to go on, and with what."""

    budgets: tuple[int, ...] = field(
        default=(256, 512, 1024),
        metadata={"help": "generated tokens of a response in all, after each round; two or more, rising"},
    )
    trigger: str = field(
        default="sample",
        metadata={"help": "what stands in place of the closing of thinking: sample (the tag), wait ('Wait'), or your own text"},
    )
    close: int = field(
        default=0,
        metadata={
            "help": "where a budget ends without an answer, also close the thinking and allow an answer so many tokens",
            "shown": "what has no answer has none",
        },
    )
    vote: bool = field(default=True, metadata={"help": "beside it, votes of independent samples that cost as many tokens"})

    def __post_init__(self) -> None:
        if len(self.budgets) < 2 or self.budgets[0] < 1 or list(self.budgets) != sorted(set(self.budgets)):
            raise ConfigError(
                f"budgets: expected two or more numbers of tokens, each larger than the last, came {self.budgets}"
            )
        if not self.trigger:
            raise ConfigError("trigger: expected sample, wait or a text, came nothing")
        if self.close < 0:
            raise ConfigError(f"close: expected 0 or more tokens, came {self.close}")

    @property
    def words(self) -> str:
        """The trigger's text."""
        return TRIGGERS.get(self.trigger, self.trigger)

    def writable(self, engine: Engine) -> Engine:
        """The engine, if its model can write the trigger and what closes; ConfigError otherwise, before a text is paid for."""
        closings = (*_CLOSINGS.values(), _ANSWER) if self.close else ()
        for text in (self.words, *closings):
            if text and isinstance(engine, Writer) and (why := engine.unwritable(text)):
                engine.close()
                if text in closings:
                    raise ConfigError(f"close: {why}; leave it at 0")
                raise ConfigError(f"trigger: {why}; give words that the model writes, or sample where it knows that tag")
        return engine


@dataclass(frozen=True, slots=True)
class Vote:
    """What the commonest answer of independent samples comes to."""

    right: float  # the chance that it is right
    samples: float  # how many the tokens pay for, the last one in part
    tokens: float  # that these cost


@dataclass(frozen=True, slots=True)
class Closed:
    """What came of a text without an answer that was made to give one; of a text with an answer, that answer."""

    answer: str | None
    check: Check
    tokens: int  # more than the text itself cost


@dataclass(frozen=True, slots=True)
class Round:
    """A response as it stands when a budget is used up."""

    number: int
    budget: int
    text: str
    answer: str | None
    check: Check
    reason: str
    stop: Stop
    key: str
    tokens: int  # generated in this round
    forced: int  # of its trigger
    spent: int  # up to here: generated and forced, with what a trigger has taken the place of
    no_room: bool  # the model's context left no room to go on: the response stands as it did
    attempts: int
    reflections: int
    closed: Closed | None
    vote: Vote | None
    closed_vote: Vote | None


@dataclass(frozen=True, slots=True)
class Voter:
    """An independent sample, as long as the first budget at most."""

    number: int
    key: str
    answer: str | None
    check: Check
    tokens: int
    closed: Closed | None


@dataclass(frozen=True, slots=True)
class Response:
    """One response through all rounds."""

    id: str
    question_id: str
    group: str
    sample: int
    rounds: tuple[Round, ...]
    voters: tuple[Voter, ...]


@dataclass(frozen=True, slots=True)
class Forced:
    """What came of a question."""

    group: str
    question: Question | None  # None if the task could not give it
    responses: tuple[Response, ...] = ()
    drops: tuple[Drop, ...] = ()


def force(question: Question, how: Examination, forcing: Forcing) -> Flow[Forced]:
    """The flow of one question: its responses side by side, each through all rounds, then the samples that vote beside it."""
    judge = Judging(partial(how.task.check, question))
    samples = range(how.samples)
    found = yield from together([_Sample(question, how, forcing, sample, judge).flow() for sample in samples])
    drops = tuple(item for item in found if isinstance(item, Drop))
    return Forced(how.group, question, tuple(item for item in found if isinstance(item, Response)), drops)


class _State(NamedTuple):
    """A response after a round: the completion that it stands on, and what the round cost."""

    made: Completion
    tokens: int
    forced: int
    no_room: bool = False


class _LostError(Exception):
    """The engine failed on a part of a response."""


class _Sample:
    """One response of a question under way."""

    def __init__(self, question: Question, how: Examination, forcing: Forcing, sample: int, judge: Judging) -> None:
        self.question, self.how, self.forcing, self.sample, self.judge = question, how, forcing, sample, judge
        self.id = f"{how.group}/{question.id}/{sample}"
        self.first = replace(how.attempt(question, sample), ids=True)

    def flow(self) -> Flow[Response | Drop]:
        """The response through all rounds, with the samples that vote beside it; a drop if the engine failed on any of them."""
        try:
            states = yield from self._rounds()
            closings = yield from self._closed([state.made for state in states], "close")
            voters = (yield from self._voters(states, closings)) if self.forcing.vote else []
        except _LostError as error:
            return Drop("budget", self.id, "engine_error", str(error))
        rounds = tuple(self._round(number, states, closings, voters) for number in range(len(states)))
        return Response(self.id, self.question.id, self.how.group, self.sample, rounds, tuple(voters))

    def _seed(self, *names: str | int) -> int:
        return derive(self.how.seed, self.question.id, "budget", self.sample, *names)

    def _rounds(self) -> Flow[list[_State]]:
        """The response after every budget. What the context leaves no room for stands as it did."""
        (made,) = _whole((yield [self.first]))
        states = [_State(made, made.tokens, 0)]
        for number, budget in enumerate(self.forcing.budgets[1:], 1):
            left = budget - sum(state.tokens for state in states)
            start = Start(made.ids or (), END, self.forcing.words)
            (went,) = _whole((yield [self._on(start, left, self._seed("round", number), ids=True)]))
            no_room = _no_room(went)
            made = made if no_room else went
            states.append(_State(made, went.tokens, 0 if no_room else went.forced, no_room))
        return states

    def _on(self, start: Start, limit: int, seed: int, ids: bool = False) -> Request:
        return Request(self.first.messages, replace(self.first.sampling, max_tokens=limit), seed, start, ids)

    def _closed(self, texts: Sequence[Completion], *names: str | int) -> Flow[list[Closed | None]]:
        """What these texts answer if made to: asked only of those without an answer; None for all if nothing is to be made."""
        if not self.forcing.close:
            return [None] * len(texts)
        found: dict[int, Closed] = {}
        asked: dict[int, Request] = {}
        for n, made in enumerate(texts):
            answer, grade = _graded(made.text, self.judge)
            found[n] = Closed(answer, grade.check, 0)
            if answer is None:
                start = Start(made.ids or (), "", _CLOSINGS.get(grade.reason, _ANSWER))
                asked[n] = self._on(start, self.forcing.close, self._seed(*names, made.key))
        came = _whole((yield list(asked.values()))) if asked else ()
        for n, made in zip(asked, came, strict=True):
            answer, grade = _graded(made.text, self.judge)
            found[n] = Closed(answer, grade.check, 0 if _no_room(made) else made.tokens + made.forced)
        return [found[n] for n in range(len(texts))]

    def _voters(self, states: Sequence[_State], closings: Sequence[Closed | None]) -> Flow[list[Voter]]:
        """Independent samples, the response's first round among them, until they cost as much as the response did."""
        spent = [_spent(states, n) for n in range(len(states))]
        goals = (
            spent[-1],
            max(tokens + (closed.tokens if closed else 0) for tokens, closed in zip(spent, closings, strict=True)),
        )
        voters = [self._voter(0, states[0].made, closings[0])]
        while len(voters) < MAX_VOTERS:
            # What is empty may cost nothing, so that no number of it would be enough.
            costs = [sum(max(1, _cost(each, closed)) for each in voters) for closed in (False, True)]
            short = max(goal - cost for goal, cost in zip(goals, costs, strict=True))
            if short <= 0:
                break
            wanting = max(1, short * len(voters) // max(costs))
            count = min(MAX_VOTERS - len(voters), wanting, 4 * len(voters))  # a few short ones say little of the others
            numbers = range(len(voters), len(voters) + count)
            wanted = bool(self.forcing.close)
            made = _whole((yield [replace(self.first, seed=self._seed("vote", n), ids=wanted) for n in numbers]))
            closed = yield from self._closed(made, "vote", "close")
            voters += map(self._voter, numbers, made, closed)
        return voters

    def _voter(self, number: int, made: Completion, closed: Closed | None) -> Voter:
        answer, grade = _graded(made.text, self.judge)
        return Voter(number, made.key, answer, grade.check, made.tokens, closed)

    def _round(
        self, number: int, states: Sequence[_State], closings: Sequence[Closed | None], voters: Sequence[Voter]
    ) -> Round:
        state, closed = states[number], closings[number]
        made, spent = state.made, _spent(states, number)
        answer, grade = _graded(made.text, self.judge)
        skills = shown(clean(made.text), lambda answer: self.judge.attempt(answer).check)
        return Round(
            number,
            self.forcing.budgets[number],
            clean(made.text),
            answer,
            grade.check,
            grade.reason,
            made.stop,
            made.key,
            state.tokens,
            state.forced,
            spent,
            state.no_room,
            skills.attempts,
            skills.reflections,
            closed,
            bought(voters, spent) if voters else None,
            bought(voters, spent + closed.tokens, closed=True) if voters and closed else None,
        )


def _whole(completions: Sequence[Completion]) -> Sequence[Completion]:
    """The completions, if the engine failed on none of them."""
    for completion in completions:
        if completion.stop is Stop.ERROR:
            raise _LostError(completion.error)
    return completions


def _no_room(made: Completion) -> bool:
    """Whether the model's context left nothing of a text to be made. A text that ended at once is empty by its own choice."""
    return made.full and not made.tokens


def _graded(text: str, judge: Judging) -> tuple[str | None, Grade]:
    """The final answer of a text as it stands and what the verifier finds."""
    answer, reason = final_answer(clean(text))
    return answer, Grade(Check.MISSING, reason) if answer is None else judge(answer)


def _spent(states: Sequence[_State], number: int) -> int:
    return sum(state.tokens + state.forced for state in states[: number + 1])


def _cost(voter: Voter, closed: bool) -> int:
    return voter.tokens + (voter.closed.tokens if closed and voter.closed else 0)


def bought(voters: Sequence[Voter], tokens: int, closed: bool = False) -> Vote:
    """The vote of as many samples, in order, as `tokens` pay for; `closed` lets each be made to answer, at its cost.

    The sample that is paid for in part takes part with the chance of that part, so that the vote costs the same in the mean.
    The first one always votes: where its closing is paid for in part, as it stands with the chance of the other part.
    """
    begun = voters[0].tokens
    if closed and begun <= tokens < _cost(voters[0], closed):
        plain, made = majority(voters[:1]), majority(voters[:1], closed)
        return Vote(plain + (tokens - begun) / (_cost(voters[0], closed) - begun) * (made - plain), 1, tokens)
    cost, n = 0, 0
    while n < len(voters) and (n == 0 or cost + _cost(voters[n], closed) <= tokens):
        cost += _cost(voters[n], closed)
        n += 1
    right = majority(voters[:n], closed)
    if n == len(voters) or tokens <= cost:
        return Vote(right, n, cost)
    part = (tokens - cost) / _cost(voters[n], closed)
    return Vote(right + part * (majority(voters[: n + 1], closed) - right), n + part, tokens)


def majority(voters: Sequence[Voter], closed: bool = False) -> float:
    """The chance that the commonest answer is right, equally common ones winning as often; no answer is no vote."""
    found: dict[str, list[bool]] = {}
    for voter in voters:
        said = voter.closed if closed and voter.closed else voter
        if said.answer is not None:
            found.setdefault(ballot(said.answer), []).append(said.check is Check.RIGHT)
    most = max(map(len, found.values()), default=0)
    top = [sum(rights) / len(rights) for rights in found.values() if len(rights) == most]
    return sum(top) / len(top) if top else 0.0
