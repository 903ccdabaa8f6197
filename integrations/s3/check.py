"""Runs, traces and evaluations on S3's own protocol, spoken by a server on this machine: killed, gone on with, byte for byte.

The scripted engine answers, so that nothing but the file system differs from plain paths. Prints what `integrations/run.py`
reads.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import boto3

TESTS = Path(__file__).resolve().parent.parent.parent / "tests"
PACKAGES = ("s3fs", "aiobotocore", "botocore", "moto", "fsspec", "universal_pathlib", "pyarrow")
BUCKET = "skillfactory-check"
ENGINE = ["--engine", "scripted", "--engine-option", "answer=solver:answer"]
SLOW = [*ENGINE, "--engine-option", "delay=0.06", "--engine-option", "concurrency=4"]  # a block takes twenty seconds
CURATE = ["curate", "--task", "multiplication", "--samples", "2", "--reflections", "2"]
HOLD = """
import sys
from skillfactory.errors import RunLockedError
from skillfactory.holding import held
from skillfactory.places import place
try:
    with held(place(sys.argv[1]), beat=0.2, stale=1):
        print("held", flush=True)
        sys.stdin.read()
except RunLockedError as error:
    print(error)
"""


class Checks:
    """What was found, told as it is found."""

    def __init__(self) -> None:
        self.failed = 0

    def tell(self, good: bool, what: str, detail: str) -> None:
        """Prints a finding."""
        self.failed += not good
        print("ok" if good else "failed", what, detail, sep="\t", flush=True)


@contextmanager
def server(log: Path) -> Iterator[str]:
    """The address of a server that speaks S3, which ends with this; it writes a line for each request to `log`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with log.open("wb") as file:
        process = subprocess.Popen(arguments, stdout=file, stderr=file)
    try:
        end = time.monotonic() + 60
        while "Running on" not in log.read_text("utf-8"):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"the server didn't start: {log.read_text('utf-8')}")
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def command(arguments: Sequence[str]) -> list[str]:
    """A command as a user starts it."""
    return [sys.executable, "-m", "skillfactory", *arguments, "--quiet"]


def run(arguments: Sequence[str], code: int = 0) -> str:
    """What a command prints; RuntimeError if it doesn't end with `code`."""
    done = subprocess.run(command(arguments), capture_output=True, text=True, check=False)
    if done.returncode != code:
        raise RuntimeError(f"{arguments[0]} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout + done.stderr


def stored(prefix: str) -> dict[str, bytes]:
    """The objects under a prefix, but for locks and logs."""
    client = boto3.client("s3")
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{prefix}/")
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
    names = {key.removeprefix(f"{prefix}/"): key for key in keys}
    return {
        name: client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        for name, key in names.items()
        if not name.startswith((".", "log"))
    }


def written(folder: Path) -> dict[str, bytes]:
    """The files in a folder, but for locks and logs."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith((".", "log")))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def same(name: str) -> tuple[bool, str]:
    """Whether a folder here and its twin on S3 hold the same bytes, apart from how the twin is called; and in words."""
    here, there = written(Path(name)), stored(name)
    for account in ("build.json", "audit.json"):
        if account in there:
            there[account] = there[account].replace(f"s3://{BUCKET}/".encode(), b"")
    differ = sorted(key for key in {*here, *there} if here.get(key) != there.get(key))
    return bool(here) and not differ, f"differ: {', '.join(differ)}" if differ else f"{len(here)} files, byte for byte"


def kept() -> int:
    """How many completions stand in objects of open blocks."""
    return sum(content.count(b"\n") for name, content in stored("run").items() if name.startswith("ledger-"))


def wait_for_texts(process: subprocess.Popen[bytes]) -> None:
    """Waits until completions stand in objects; RuntimeError if the process ends before."""
    while not kept():
        if process.poll() is not None:
            raise RuntimeError("curate ended before it could be killed")
        time.sleep(0.1)


def check_curation(checks: Checks) -> None:
    """A run killed once, gone on with, and asked for again."""
    arguments = [*CURATE, "--questions", "100", *SLOW]
    run([*arguments, "--output", "run"])
    url = f"s3://{BUCKET}/run"
    process = subprocess.Popen(command([*arguments, "--output", url]), stdout=subprocess.DEVNULL)
    wait_for_texts(process)
    second = run([*arguments, "--output", url], code=2)
    named = f"(process {process.pid} on " in second
    checks.tell(named, "a second process is refused", " ".join(second.split()))
    wait_for_texts(process)  # the block of before may have ended, and taken its ledger with it
    process.send_signal(signal.SIGKILL)
    process.wait()
    there = kept()
    summary = json.loads(run([*arguments, "--output", url, "--json"]))
    total = json.loads(Path("run/run.json").read_text("utf-8"))["counts"]["tokens"]
    good, detail = same("run")
    checks.tell(
        good and there > 0 and summary["new_tokens"] < total,
        "curate, killed and gone on with",
        f"{detail}; {there} texts stood in objects when it was killed, {summary['new_texts']} were asked for after",
    )
    again = json.loads(run([*arguments, "--output", url, "--json"]))
    checks.tell(again["nothing_to_do"], "the same command again", "there is nothing to do")


def check_the_rest(checks: Checks) -> None:
    """Traces, their audit and their export, and an evaluation."""
    for root in ("", f"s3://{BUCKET}/"):
        run(["build", f"{root}run", "--layout", "*C_full", "--max-attempts", "3", "--output", f"{root}traces"])
        run(["audit", f"{root}traces"])
        run(["export", f"{root}traces", "--to", "trl", "--output", "export-here" if root == "" else "export-there"])
        run(["evaluate", "some/model", "--task", "multiplication@100", *ENGINE, "--output", f"{root}eval"])
    checks.tell(*_named("build and audit", same("traces")))
    checks.tell(*_named("evaluate", same("eval")))
    one, other = (
        {name: text for name, text in written(Path(f"export-{end}")).items() if name != "export.json"}
        for end in ("here", "there")
    )
    checks.tell(bool(one) and one == other, "export of traces there", f"{len(one)} files, byte for byte")


def check_grades(checks: Checks) -> None:
    """Rows graded there, read from there."""
    rows = [{"facts": {"factors": [n, 3]}, "response": f"<answer>{3 * n + n % 2}</answer>"} for n in range(2, 3000)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    boto3.client("s3").upload_file("rows.jsonl", BUCKET, "graded/rows.jsonl")
    for source, root in (("rows.jsonl", "graded"), (f"s3://{BUCKET}/graded/rows.jsonl", f"s3://{BUCKET}/graded")):
        run(["grade", source, "--task", "multiplication", "--output", f"{root}/grades.parquet"])
    one, other = Path("graded/grades.parquet").read_bytes(), stored("graded")["grades.parquet"]
    checks.tell(one == other, "grade", f"{len(rows):,} rows, byte for byte")


def _named(what: str, found: tuple[bool, str]) -> tuple[bool, str, str]:
    return found[0], what, found[1]


def check_holders(checks: Checks) -> None:
    """Of many processes that begin at once one holds the directory, also when it has to be taken over from a dead one."""
    for name, dead in (("begun", False), ("taken-over", True)):
        if dead:
            sign = json.dumps({"process": 1, "host": "far", "machine": "another", "token": "t"})
            boto3.client("s3").put_object(Bucket=BUCKET, Key=f"{name}/.holder-000003", Body=sign.encode())
        arguments = [sys.executable, "-c", HOLD, f"s3://{BUCKET}/{name}"]
        pipe = subprocess.PIPE
        begun = [subprocess.Popen(arguments, stdin=pipe, stdout=pipe, text=True) for _ in range(4)]
        said = [process.stdout.readline().strip() for process in begun if process.stdout]
        for process in begun:
            process.communicate()
        what = "a directory of a dead process, by four at once" if dead else "a directory by four at once"
        checks.tell(said.count("held") == 1, what, f"{said.count('held')} of 4 processes hold it")


def check_mistakes(checks: Checks) -> None:
    """A bucket that isn't there, and a server that isn't."""
    told = run([*CURATE, *ENGINE, "--questions", "1", "--output", "s3://no-such-bucket/run"], code=2)
    checks.tell("can't be read or written" in told, "a mistyped bucket", " ".join(told.split()))
    os.environ["AWS_ENDPOINT_URL"], kept_url = "http://127.0.0.1:9", os.environ["AWS_ENDPOINT_URL"]
    told = run([*CURATE, *ENGINE, "--questions", "1", "--output", f"s3://{BUCKET}/run"], code=2)
    os.environ["AWS_ENDPOINT_URL"] = kept_url
    checks.tell("can't be read or written" in told, "no server", " ".join(told.split()))


def check_cost(checks: Checks, log: Path) -> None:
    """The requests that 1,000 questions take."""
    before = log.stat().st_size
    started = time.monotonic()
    run([*CURATE, *ENGINE, "--questions", "1000", "--output", f"s3://{BUCKET}/thousand"])
    seconds = time.monotonic() - started
    with log.open("rb") as file:
        file.seek(before)
        lines = file.read().decode()
    requests = Counter(re.findall(r"\"(?:\x1b\[[\d;]*m)*(GET|PUT|HEAD|DELETE|POST) ", lines))
    put, head, gone = requests["PUT"], requests["HEAD"], requests["DELETE"]
    lists = len(re.findall(r"GET /[^ ]*\?list-type", lines))
    texts = json.loads(boto3.client("s3").get_object(Bucket=BUCKET, Key="thousand/run.json")["Body"].read())["counts"]
    checks.tell(
        0 < put < 200,
        "requests for 1,000 questions",
        f"{put} PUT, {lists} LIST, {requests['GET'] - lists} GET, {head} HEAD, {gone} DELETE "
        f"for 16 blocks, {texts['attempts/requested']:,} attempts, in {seconds:.0f} s",
    )


def main() -> int:
    """All checks; 1 if one failed."""
    for package in PACKAGES:
        print("version", package, version(package), sep="\t")
    for name in [name for name in os.environ if name.lower().endswith("_proxy") or name.startswith("AWS_")]:
        del os.environ[name]
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "check",
        "AWS_SECRET_ACCESS_KEY": "check",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(TESTS),
    }
    checks = Checks()
    log = Path("server.log")
    with server(log) as address:
        os.environ["AWS_ENDPOINT_URL"] = address
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        check_curation(checks)
        check_the_rest(checks)
        check_grades(checks)
        check_holders(checks)
        check_mistakes(checks)
        check_cost(checks, log)
    return 1 if checks.failed else 0


if __name__ == "__main__":
    sys.exit(main())
