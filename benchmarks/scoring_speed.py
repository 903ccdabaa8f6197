"""How many responses a second are scored and searched for skills on one core, beside plain readers made of patterns.

    python benchmarks/scoring_speed.py [--responses 4000] [--tokens 2000]

The responses are to Countdown, of some 2,000 tokens (4 characters each): in the trace format with 8 attempts and their reviews,
untagged ones, and hostile ones (an attempt in every line). A scored response is all that an evaluation stores of it: the final
answer with its grade by the task's verifier, every attempt graded, every verdict held against the truth, transitions, loops,
skills, format. Then come the numbers of all of them with their intervals. Texts are made one after another, so that memory
holds few; making them isn't counted. CPU time of this process, the best of five rounds; a busy machine changes the ratios
little. Exits 1 if the bar is missed: 5,000 responses a second of the first kind, numbers included.

The plain readers: `final` finds the last answer after the thinking, as RL rewards do, and grades it; `blocks` finds all
blocks, answers and verdicts with one pattern each, grades every answer, and pairs verdicts with the answers before them.
"""

import argparse
import re
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import islice, permutations
from typing import Any

from skillfactory.evaluation import rows_of
from skillfactory.examination import Evaluated, Examination, respond
from skillfactory.flow import Completion, Flow, Sampling
from skillfactory.measure import measured
from skillfactory.records import Check, Question, Stop
from skillfactory.seeds import rng
from skillfactory.suites import Group
from skillfactory.tasks import resolve

BAR = 5_000  # responses of 2,000 tokens a second
SAMPLES = 4
ROUNDS = 5
CHARACTERS = 4  # of a token
TASK = resolve("countdown")
GROUP = Group("countdown-4", "harder", "countdown", level="4", samples=SAMPLES)
HOW = Examination(GROUP.name, TASK, SAMPLES, Sampling(), Sampling())
Text = Callable[[Question, int, int], str]  # question, salt, characters


ORDERS = tuple(permutations(range(4)))
SHAPES = ("{a} {x} {b} {y} {c} {z} {d}", "({a} {x} {b}) {y} {c} {z} {d}", "{a} {x} ({b} {y} {c}) {z} {d}")
REMARKS = ("too large, so I take less", "close, but not it", "too small", "what I had before", "worth another look", "odd")


def prose(salt: int, characters: int) -> str:
    """Attempts at sums to fill a text with; few lines are like another."""
    lines = []
    length = number = 0
    while length < characters:
        a, b = (salt * 7 + number * 13) % 97, (salt + number * 31) % 89
        lines.append(f"{a} + {b} = {a + b} and {a} * {b} = {a * b}, which is {REMARKS[(salt + number) % 6]}.")
        length += len(lines[-1]) + 1
        number += 1
    return "\n".join(lines)[:characters]


def wrong(question: Question, number: int) -> str:
    """A wrong answer over the numbers, as models give them; those of all a question's responses differ.

    It has all numbers in some order, some parentheses, and now and then a value that is no whole number.
    """
    numbers = list(question.facts["numbers"])
    number, place = divmod(number, len(ORDERS))
    a, b, c, d = (numbers[n] for n in ORDERS[place])
    number, shape = divmod(number, len(SHAPES))
    (one, two, three) = (("+", "-", "*", "/")[number // 4**n % 4] for n in range(3))
    return SHAPES[shape].format(a=a, b=b, c=c, d=d, x=one, y=two, z=three)


def trace(question: Question, salt: int, characters: int) -> str:
    """Eight attempts with a review each, the last one right, and the final answer."""
    room = characters // 16 - 40
    parts = ["<think>\n"]
    for number in range(8):
        last = number == 7
        answer, said = (question.answer, "Correct") if last else (wrong(question, 7 * salt + number), "Incorrect")
        parts += [f"<sample>\n{prose(salt + number, room)}\n<answer>{answer}</answer>\n</sample>\n<reflect>\n"]
        parts += [
            f"{prose(salt + 7 * number + 50, room)}\n<verdict>{said}</verdict>\n</reflect>\n",
            "" if last else "Let me try again.\n",
        ]
    return "".join([*parts, f"</think>\n\nThat is it.\n\n<answer>\n{question.answer}\n</answer>"])


def plain(question: Question, salt: int, characters: int) -> str:
    """Thinking without a tag, and an answer."""
    return f"{prose(salt, characters - 40)}\n<answer>{question.answer}</answer>"


def hostile(question: Question, salt: int, characters: int) -> str:
    """An attempt with an answer of its own in every line, tags that never close, and `<` wherever one fits."""
    lines = [f"<sample><answer>{number} < {salt % 97}</answer><reflect></sample>" for number in range(characters // 60)]
    return "\n".join(["<think>", *lines])


def blocks(question: Question, texts: Sequence[str]) -> list[dict[str, Any]]:
    """The plain reader of all blocks."""
    judge = cache(partial(TASK.check, question))
    found = []
    for text in texts:
        events = [(at.start(), at[1].strip()) for at in ANSWER.finditer(text)]
        rights = [judge(answer).check is Check.RIGHT for _, answer in events]
        said = [(at.start(), at[1]) for at in VERDICT.finditer(text)]
        true = sum(
            (verdict == "Correct") == rights[max(n for n, (place, _) in enumerate(events) if place < start)]
            for start, verdict in said
            if events and events[0][0] < start
        )
        found.append({"attempts": len(SAMPLE.findall(text)), "reviews": len(REFLECT.findall(text)), "true": true})
    return found


SAMPLE, REFLECT = (re.compile(rf"<{tag}>(.*?)</{tag}>", re.DOTALL) for tag in ("sample", "reflect"))
ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
VERDICT = re.compile(r"<verdict>\s*(Correct|Incorrect)\s*</verdict>")


def final(question: Question, texts: Sequence[str]) -> list[bool]:
    """The plain reader of final answers."""
    found = []
    for text in texts:
        answers = ANSWER.findall(text.split("</think>")[-1])
        found.append(bool(answers) and TASK.check(question, answers[-1].strip()).check is Check.RIGHT)
    return found


def answered(question: Question, texts: Sequence[str]) -> tuple[Flow[Evaluated], list[Completion]]:
    """The flow of a question that has asked, and what the engine gives it."""
    flow = respond(question, HOW)
    pairs = zip(next(flow), texts, strict=True)
    return flow, [Completion(request.key, text, Stop.END, 50, len(text) // CHARACTERS, 4096) for request, text in pairs]


def scored(flow: Flow[Evaluated], completions: Sequence[Completion]) -> Sequence[Mapping[str, Any]]:
    """The rows to store that the flow makes of the completions."""
    try:
        flow.send(completions)
    except StopIteration as end:
        return rows_of(end.value)["responses"]
    raise AssertionError("the flow of a question without retries asks once")


def material(text: Text, responses: int, characters: int) -> Iterator[tuple[Question, list[str]]]:
    """Questions with the texts to grade, each made when it is wanted."""
    random = rng(0, "scoring speed")
    questions = [item for item in TASK.questions(200, GROUP.level, 0, "eval") if isinstance(item, Question)]
    for number in range(responses // SAMPLES):
        question = questions[number % len(questions)]
        salt = random.getrandbits(16)
        yield question, [text(question, salt + 1000 * sample, characters) for sample in range(SAMPLES)]


def rate(reader: Callable[..., Any], text: Text, responses: int, characters: int) -> float:
    """Responses that a reader takes in a second of CPU time."""
    spent = 0.0
    for question, texts in material(text, responses, characters):
        given: tuple[Any, Any] = answered(question, texts) if reader is scored else (question, texts)
        started = time.process_time()
        reader(*given)
        spent += time.process_time() - started
    return responses / spent


def whole(text: Text, responses: int, characters: int) -> float:
    """Responses a second, scored one after another and added up to the numbers with their intervals."""
    making = 0.0

    def rows() -> Iterator[Mapping[str, Any]]:
        nonlocal making
        source = material(text, responses, characters)
        for number in range(responses // SAMPLES):
            before = time.process_time()
            given = answered(*next(source))
            making += time.process_time() - before
            yield from ({**row, "question_id": f"{number}"} for row in scored(*given))

    started = time.process_time()
    numbers = measured([GROUP], rows(), {})
    spent = time.process_time() - started - making
    assert numbers["groups"][0]["responses"] == responses
    return responses / spent


def main() -> int:
    """0 if the bar is met."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--responses", type=int, default=4_000)
    parser.add_argument("--tokens", type=int, default=2_000)
    args = parser.parse_args()
    size = args.tokens * CHARACTERS
    made = next(islice(material(trace, SAMPLES, size), 1))[1]
    print(
        f"{args.responses:,} responses of {len(made[0]):,} characters, {SAMPLES} to a question; responses a second of CPU time"
    )
    print(f"{'':8}{'scored':>10}{'with numbers':>14}{'blocks':>10}{'final':>10}{'scored/blocks':>15}{'scored/final':>14}")
    speeds = []
    for text in (trace, plain, hostile):
        n = args.responses if text is not hostile else args.responses // 10
        ours, blocky, last = (max(rate(each, text, n, size) for _ in range(ROUNDS)) for each in (scored, blocks, final))
        speeds.append(max(whole(text, n, size) for _ in range(ROUNDS)))
        figures = f"{ours:>10,.0f}{speeds[-1]:>14,.0f}{blocky:>10,.0f}{last:>10,.0f}"
        print(f"{text.__name__:8}{figures}{ours / blocky:>15.2f}{ours / last:>14.2f}")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MiB")
    met = speeds[0] >= BAR
    print("bar met" if met else f"MISSED: {BAR:,} responses of {args.tokens:,} tokens a second")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
