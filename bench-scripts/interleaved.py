"""Interleaved measurement of servers, for the scripts beside this file: what a run is, and what may be said of many.

A round measures every contender once, in an order shuffled anew, each by a server started anew on one CPU and driven
by ringsock-load from another: so whatever else the machine does falls on all alike, and no process keeps the luck of
its memory layout for a whole measurement. A ratio is the median over rounds of one round's ratio, for what disturbs a
round disturbs all of it; its 95 % interval comes from resampling rounds. One program under two names (A/A) shows what
the machine can tell apart; a difference within that is none.

Nothing but loopback is used, and every server started here is ended here. Judgement of what ratios ought to be is
left to the scripts. The statistics are tested by their examples: python3 -m doctest bench-scripts/interleaved.py
"""

import ctypes
import json
import os
import random
import re
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from pathlib import Path

import features

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS_MAX = 20
STOP_SECONDS_MAX = 20
# What a run may take beyond its warm-up and duration: connecting, draining, writing the result.
RUN_SECONDS_MAX = 120
# What is read of a server's output.
OUTPUT_BYTES_MAX = 1 << 20
# Of a run in which nothing was measured; a busy machine may stop a process for longer than a short run lasts.
ATTEMPTS = 3
RESAMPLES = 2000
# With fewer rounds an interval is little more than the rounds' extremes.
ROUNDS_FOR_INTERVALS = 5
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)


class CannotMeasure(Exception):
    """Nothing can be measured until a person mends this."""


class RunFailed(Exception):
    """One contender could not be started, or did not echo everything rightly."""


class NothingMeasured(RunFailed):
    """Nothing went wrong, but nothing was sent or served in the measured time: the machine stood still."""


# ---- what is measured


@dataclass(frozen=True)
class Cell:
    """A load: closed loop, each of `connections` keeping `pipeline` messages in flight."""

    connections: int
    payload_bytes: int
    pipeline: int
    feature: features.Feature | None = None

    @property
    def name(self):
        """
        >>> Cell(8, 65536, 1).name, Cell(64, 100, 16, features.TLS).name
        ('8x64KiBx1', '64x100Bx16-tls')
        """
        load = f"{self.connections}x{size_text(self.payload_bytes).replace(' ', '')}x{self.pipeline}"
        return f"{load}-{self.feature.name}" if self.feature else load

    @property
    def title(self):
        """
        >>> Cell(8, 65536, 1, features.TLS).title
        '8 x 64 KiB, 1 in flight; TLS 1.3, AES-128-GCM'
        """
        load = f"{self.connections} x {size_text(self.payload_bytes)}, {self.pipeline} in flight"
        return f"{load}; {self.feature.title}" if self.feature else load

    @property
    def in_flight_bytes(self):
        return self.connections * self.payload_bytes * self.pipeline


@dataclass(frozen=True)
class Contender:
    """A server program. `{address}`, `{port}` and `{cpu}` in its command are filled in when it is started, and for
    TLS `{certificate}` and `{key}`, PEM files."""

    name: str
    command: tuple
    # It prints a line `listening on ws://ADDRESS/`; otherwise it is ready once its port takes connections.
    announces: bool = True
    scheme: str = "ws"
    # Without it there is nothing to compare with, so its failure ends the measurement.
    required: bool = False
    # What it does beyond echoing: the name of a feature, and the words that its command needs for it.
    able: tuple = ()
    # What it is measured with, whatever a cell asks for.
    feature: features.Feature | None = None

    def has(self, feature):
        return feature is None or feature.name in dict(self.able)

    def command_for(self, feature):
        """
        >>> server = Contender("it", ("it", "{port}"), able=(("deflate", ("--deflate",)),))
        >>> server.command_for(None), server.command_for(features.DEFLATE), server.has(features.TLS)
        (('it', '{port}'), ('it', '{port}', '--deflate'), False)
        """
        return (*self.command, *dict(self.able)[feature.name]) if feature else self.command

    def scheme_for(self, feature):
        return feature.scheme if feature else self.scheme


OURS_ABLE = (
    ("deflate", ("--deflate",)),
    ("tls", ("--tls-cert", "{certificate}", "--tls-key", "{key}")),
)


def ringsock(name, binaries, *flags, scheme="ws", required=True):
    """ringsock-server as a contender."""
    command = (str(binaries["ringsock-server"]), "--listen", "{address}", "--cpus", "{cpu}", *flags)
    return Contender(name, command, scheme=scheme, required=required, able=OURS_ABLE if scheme == "ws" else ())


def uring_twice(binaries, *flags):
    """What others are held against, under the two names that tell what the machine can tell apart; more flags, if any."""
    return [ringsock(name, binaries, "--engine", "uring", *flags) for name in ("uring", "uring again")]


class Server:
    """A contender's process, bound to one CPU with all its threads, and the URL that reaches it.

    `folder` holds the certificate for TLS.
    """

    def __init__(self, contender, cpu, feature, folder):
        port = 0 if contender.announces else free_port()
        places = {
            "{address}": f"127.0.0.1:{port}", "{port}": str(port), "{cpu}": str(cpu),
            "{certificate}": str(Path(folder) / features.CERTIFICATE), "{key}": str(Path(folder) / features.KEY),
        }
        command = [fill(part, places) for part in contender.command_for(feature)]
        self.output = tempfile.TemporaryFile()
        try:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=self.output, stderr=subprocess.STDOUT,
                preexec_fn=lambda: prepare_child(cpu),
            )
        except OSError as error:
            self.output.close()
            raise RunFailed(f"{command[0]}: {error.strerror}") from error
        try:
            self.address = self.announced() if contender.announces else self.reached(port)
        except BaseException:
            self.end()
            raise
        self.url = f"{contender.scheme_for(feature)}://{self.address}/{feature.path if feature else ''}"

    def announced(self):
        """The address that it says it listens on."""

        def look():
            line = re.search(r"^listening on wss?://(\S+)/\n", self.text(), re.MULTILINE)
            return line and line[1]

        return self.wait_for(look, "did not say `listening on ws://ADDRESS/`")

    def reached(self, port):
        """The address, once a connection to it succeeds."""

        def connect():
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                return None
            return f"127.0.0.1:{port}"

        return self.wait_for(connect, f"does not take connections at port {port}")

    def wait_for(self, probe, otherwise):
        until = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < until:
            found = probe()
            if found:
                return found
            if self.process.poll() is not None:
                raise RunFailed(f"the server ended ({self.process.returncode}): {self.words()}")
            time.sleep(0.002)
        raise RunFailed(f"the server {otherwise} within {START_SECONDS_MAX} s: {self.words()}")

    def text(self):
        # Where we read must not move where the server writes: both share one file offset.
        return os.pread(self.output.fileno(), OUTPUT_BYTES_MAX, 0).decode(errors="replace")

    def engine(self):
        """What ringsock-server says that it runs: engine, kernel, features; None of others."""
        line = re.search(r"^engine (.*)$", self.text(), re.MULTILINE)
        return line and line[1]

    def words(self):
        """What it said, in a line: an error may come first or last."""
        lines = [line for line in self.text().splitlines() if line.strip()]
        return " / ".join(lines if len(lines) < 4 else [*lines[:2], "...", lines[-1]]) or "it said nothing"

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.output.close()


def fill(part, places):
    for place, value in places.items():
        part = part.replace(place, value)
    return part


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def prepare_child(cpu):
    """In the child, before its program: its CPU, as many open files as may be, and our end is its end."""
    os.sched_setaffinity(0, {cpu})
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


# ---- measuring


class Bench:
    """How to measure, and everything measured: the programs, the flags as settled, the random order, the results."""

    def __init__(self, given, binaries, load_flags=()):
        self.given = given
        self.binaries = binaries
        self.load_flags = [str(flag) for flag in load_flags]
        self.order = random.Random(given.seed)
        self.folder = tempfile.TemporaryDirectory()
        self.progress = Progress()
        # What each of our servers said that it runs: it must be the same in every round.
        self.engines = {}
        # Servers that have shown what no result file can say, and of which feature.
        self.proven = set()

    def run(self, contender, cell):
        """One run of one contender; its figures, times in ns and CPU times per message."""
        for _ in range(ATTEMPTS - 1):
            try:
                return self.attempt(contender, cell, self.given.duration, self.given.warmup)
            except NothingMeasured:
                continue
        return self.attempt(contender, cell, self.given.duration, self.given.warmup)

    def attempt(self, contender, cell, duration, warmup, more=()):
        """A run by a server of its own."""
        feature = contender.feature or cell.feature
        server = self.server(contender, feature)
        try:
            command = [
                self.binaries["ringsock-load"], server.url, "--quiet", "--closed-loop", "--pipeline", cell.pipeline,
                "--connections", cell.connections, "--payload", cell.payload_bytes, "--duration", duration,
                "--warmup", warmup, "--cpus", self.given.load_cpu, "--server-pid", server.process.pid,
                "--results", self.folder.name, *self.load_flags, *(feature.load if feature else ()), *more,
            ]
            timeout_s = RUN_SECONDS_MAX + seconds(duration) + seconds(warmup)
            result = figures(run_load(command, self.given.load_cpu, timeout_s), feature)
            engine = server.engine()
            if self.engines.setdefault(contender.name, engine) != engine:
                raise CannotMeasure(f"{contender.name} runs {engine}, and ran {self.engines[contender.name]} before")
            return result
        except RunFailed as error:
            error.args = (f"{error}; the server said: {server.words()}",)
            raise
        finally:
            server.end()

    def server(self, contender, feature):
        """A server of its own, with what the feature needs."""
        if feature is features.TLS and not Path(self.folder.name, features.CERTIFICATE).exists():
            why = features.make_identity(self.folder.name)
            if why:
                raise CannotMeasure(why)
        return Server(contender, self.given.server_cpu, feature, self.folder.name)

    def prove(self, contender, feature):
        """RunFailed if it does not show what no result file can say."""
        if (contender.name, feature.name) in self.proven:
            return
        server = self.server(contender, feature)
        try:
            feature.prove(server.address)
            self.proven.add((contender.name, feature.name))
        except (ValueError, OSError) as error:
            raise RunFailed(f"{error}; the server said: {server.words()}") from None
        finally:
            server.end()

    def check(self, contender):
        """That it echoes text and the largest message byte for byte, before anything rests on it."""
        text = Cell(2, 1000, 4), "100ms", ["--text"]
        largest = Cell(1, 64 << 20, 1), "1s", ["--drain-timeout", "20s"]
        for cell, duration, more in (text, largest):
            try:
                self.attempt(contender, cell, duration, "20ms", more)
            except NothingMeasured:
                self.attempt(contender, cell, "10s", "20ms", more)

    def usable(self, contenders):
        """Those that start and echo rightly here; and of the others, why they do not."""
        good, refused = [], {}
        for contender in contenders:
            self.progress.show(f"checking {contender.name}")
            try:
                self.check(contender)
                good.append(contender)
            except RunFailed as error:
                if contender.required:
                    raise CannotMeasure(f"{contender.name}: {error}") from error
                refused[contender.name] = str(error)
                warn(f"{contender.name} LEFT OUT: {error}")
        self.progress.clear()
        return good, refused

    def tables(self, cells, contenders, record, notes=None):
        """Measures cell by cell and prints each one's table when it is done; appends to `record`, for a file.

        The reference is `uring`, its other name `uring again`.
        """
        compared = {}
        for cell in cells:
            able = [it for it in contenders if it.has(cell.feature)]
            without = [it.name for it in contenders if it not in able]
            runs, failures = self.rounds(cell, able)
            self.progress.clear()
            comparison = compared[cell] = Comparison(runs, "uring", "uring again", self.order)
            record.append({"cell": cell.name, "failures": failures, "without": without, **comparison.document()})
            unit = cell.feature.unit if cell.feature else "messages"
            lines = [*table(comparison, failures, notes, unit), *self.remarks(cell, runs, without)]
            print(f"{cell.title} ({cell.name})", *lines, "", sep="\n", flush=True)
            if cell.feature is features.DEFLATE:
                record[-1]["answer_bytes"] = answer_bytes(runs)
        return compared

    def remarks(self, cell, runs, without):
        """What a table has no column for."""
        if cell.feature is features.DEFLATE:
            said = (f"{name} {mean:.0f} B" for name, mean in answer_bytes(runs).items())
            yield f"  an answer to {size_text(cell.payload_bytes)}: {', '.join(said)}"
        if without:
            yield f"  without it: {', '.join(without)}"

    def rounds(self, cell, contenders):
        """Figures of every run by contender, in order of rounds; and of contenders that failed, why.

        A contender that fails is measured no further in this cell and has no figures, for its rounds would not
        pair with the others'.
        """
        runs, failures = {contender.name: [] for contender in contenders}, {}
        for done in range(self.given.rounds):
            for contender in self.order.sample(contenders, len(contenders)):
                if contender.name in failures:
                    continue
                self.progress.show(f"{cell.name}, round {done + 1} of {self.given.rounds}, {contender.name}")
                try:
                    if cell.feature:
                        self.prove(contender, cell.feature)
                    runs[contender.name].append(self.run(contender, cell))
                except RunFailed as error:
                    if contender.required:
                        raise CannotMeasure(f"{contender.name}, {cell.name}: {error}") from error
                    failures[contender.name] = str(error)
                    warn(f"{contender.name} FAILED in {cell.name}, and is left out there: {error}")
                self.progress.done()
        return {name: figures for name, figures in runs.items() if name not in failures}, failures


def answer_bytes(runs):
    """What a compressed answer came to on the wire, by contender: the mean of its runs' means.

    >>> answer_bytes({"a": [{"answer_bytes": 390.0}, {"answer_bytes": 394.0}]})
    {'a': 392.0}
    """
    return {name: statistics.mean(run["answer_bytes"] for run in of_name) for name, of_name in runs.items()}


def run_load(command, cpu, timeout_s):
    """Runs the generator and reads its result; fails unless every message came back, rightly and in order."""
    command = [str(part) for part in command]
    try:
        output = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout_s,
            preexec_fn=lambda: prepare_child(cpu),
        )
    except subprocess.TimeoutExpired:
        raise RunFailed(f"ringsock-load did not end within {timeout_s:.0f} s") from None
    saved = re.search(r"^saved (.*)$", output.stdout, re.MULTILINE)
    result = json.loads(Path(saved[1]).read_text()) if saved else {}
    if saved:
        Path(saved[1]).unlink()
    if result and nothing_happened(result):
        raise NothingMeasured("nothing was answered in the measured time; a longer --duration may help")
    if output.returncode != 0 or not result:
        why = why_failed(result) if result else output.stdout.strip()
        raise RunFailed(f"ringsock-load failed ({output.returncode}): {why}")
    return result


def nothing_happened(result):
    books = result["accounting"]
    idle = books["offered"] == 0 and not books["errors"] and not books["connections_failed"]
    return idle and result["outcome"]["status"] == "completed"


def why_failed(result):
    """What a result says of a run that went wrong."""
    outcome, books = result["outcome"], result["accounting"]
    told = [outcome["status"], outcome["reason"], *(f"{key} {value}" for key, value in books.items() if value)]
    return ", ".join(part for part in told if part)


def figures(result, feature=None):
    """What is kept of a result file; RunFailed if the feature was not what was meant."""
    refusal = feature and feature.refusal(result)
    if refusal:
        raise RunFailed(f"{feature.title}: {refusal}")
    answered, service = result["accounting"]["answered"], result["summary"]["service"]
    if not answered or not result["cpu"]["server_cpu_s"]:
        raise NothingMeasured("the server did not get to run in the measured time; a longer --duration may help")
    kept = {
        "server_ns": result["cpu"]["server_cpu_s"] * 1e9 / answered,
        "load_ns": result["cpu"]["load_cpu_s"] * 1e9 / answered,
        "rate_per_s": result["summary"]["rate_achieved_per_s"],
        "p50_ns": service["p50_ns"],
        "p99_ns": service["p99_ns"],
        "p99.9_ns": service["p99.9_ns"],
    }
    if result["target"]["deflate"]:
        kept["answer_bytes"] = features.answer_bytes(result["target"])
    return kept


# ---- what may be said of many runs


@dataclass(frozen=True)
class Ratio:
    """A median over rounds and its 95 % interval."""

    median: float
    low: float
    high: float

    def differs(self, same):
        """Whether this is a difference at all, where `same` is the A/A ratio: its interval leaves out 1, and it is
        farther from 1 than the A/A interval reaches.

        >>> same = Ratio(1.001, 0.98, 1.01)
        >>> Ratio(1.05, 1.03, 1.07).differs(same), Ratio(0.95, 0.93, 0.97).differs(same)
        (True, True)
        >>> Ratio(1.05, 0.99, 1.07).differs(same), Ratio(1.015, 1.012, 1.02).differs(same)
        (False, False)
        """
        return not self.low <= 1 <= self.high and abs(self.median - 1) > same.reach()

    def reach(self):
        """How far from 1 the interval goes.

        >>> round(Ratio(1.001, 0.98, 1.01).reach(), 3)
        0.02
        """
        return max(abs(self.low - 1), abs(self.high - 1))


def ratio(over, under, order, key="server_ns"):
    """Ratio of `key` between two lists of figures, paired by round.

    >>> over, under = [{"server_ns": 2 * n} for n in (5, 7, 9)], [{"server_ns": n} for n in (5, 7, 9)]
    >>> ratio(over, under, random.Random(1))
    Ratio(median=2.0, low=2.0, high=2.0)

    One disturbed round of many moves neither the median nor the interval much:

    >>> over = [{"server_ns": 100 + n % 3} for n in range(30)] + [{"server_ns": 1000}]
    >>> figure = ratio(over, [{"server_ns": 100}] * 31, random.Random(1))
    >>> figure.median, figure.low >= 1, figure.high <= 1.02
    (1.01, True, True)

    >>> ratio(over, [{"server_ns": 100}], random.Random(1))
    Traceback (most recent call last):
    AssertionError: rounds do not pair
    """
    assert len(over) == len(under) > 0, "rounds do not pair"
    ratios = [one[key] / other[key] for one, other in zip(over, under)]
    resampled = sorted(statistics.median(order.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES))
    outside = RESAMPLES // 40
    return Ratio(statistics.median(ratios), resampled[outside], resampled[-outside - 1])


def mean_by_round(one, other):
    """Figures of one program that ran under two names, as one; `None` where either has none.

    >>> mean_by_round([{"a": 1, "b": None}], [{"a": 2, "b": 3}])
    [{'a': 1.5, 'b': None}]
    """

    def mean(left, right):
        return None if left is None or right is None else (left + right) / 2

    return [{key: mean(left[key], right[key]) for key in left} for left, right in zip(one, other)]


def middle(runs, key):
    """Median over rounds, `None` if any round has too few samples.

    >>> middle([{"a": 3}, {"a": 1}, {"a": 2}], "a"), middle([{"a": 3}, {"a": None}], "a")
    (2, None)
    """
    values = [run[key] for run in runs]
    return None if None in values else statistics.median(values)


class Comparison:
    """One cell's runs against a reference that ran under two names."""

    def __init__(self, runs, reference, again, order):
        self.runs, self.order = runs, order
        self.reference, self.again = reference, again
        self.reference_runs = mean_by_round(runs[reference], runs[again])
        self.same = ratio(runs[reference], runs[again], order)
        others = [name for name in runs if name not in (reference, again)]
        self.ratios = {name: ratio(runs[name], self.reference_runs, order) for name in others}

    def differs(self, name):
        return self.ratios[name].differs(self.same)

    def of(self, over, under):
        """Server CPU of `over` in multiples of `under`'s; either may be the reference, which is then both its runs."""
        chosen = [self.reference_runs if name == self.reference else self.runs[name] for name in (over, under)]
        return ratio(*chosen, self.order)

    def document(self):
        """For a file: every run's figures, and what is made of them."""
        named = [(self.again, self.same), *self.ratios.items()]
        spread = {name: [figure.median, figure.low, figure.high] for name, figure in named}
        return {"reference": self.reference, "again": self.again, "ratios": spread, "runs": self.runs}

    def cheapest(self, names):
        """The name of the least server CPU time, `None` if none of them was measured."""
        measured = [name for name in names if name in self.ratios]
        return min(measured, key=lambda name: self.ratios[name].median, default=None)


# ---- text


def size_text(count_bytes):
    """
    >>> size_text(64), size_text(4096), size_text(64 << 20), size_text(1000)
    ('64 B', '4 KiB', '64 MiB', '1000 B')
    """
    for unit, size in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count_bytes >= size and count_bytes % size == 0:
            return f"{count_bytes // size} {unit}"
    return f"{count_bytes} B"


def time_text(time_ns):
    """Three significant digits.

    >>> time_text(85.94), time_text(4145), time_text(12_345_678), time_text(999.7), time_text(None)
    ('85.9 ns', '4.14 µs', '12.3 ms', '1.00 µs', '-')
    """
    if time_ns is None:
        return "-"
    for unit, size in (("ns", 1), ("µs", 1e3), ("ms", 1e6), ("s", 1e9)):
        value = time_ns / size
        digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
        if round(value, digits) < 1000 or unit == "s":
            return f"{value:.{digits}f} {unit}"


def seconds(text):
    """
    >>> seconds("600ms"), seconds("1.5s"), seconds("2m")
    (0.6, 1.5, 120.0)
    >>> seconds("600")
    Traceback (most recent call last):
    ValueError: `600` is no time such as 600ms, 2s or 1m
    """
    parts = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m)", text)
    if not parts:
        raise ValueError(f"`{text}` is no time such as 600ms, 2s or 1m")
    return float(parts[1]) * {"ms": 1e-3, "s": 1, "m": 60}[parts[2]]


def table(comparison, failures, notes=None, unit="messages"):
    """The lines of one cell's table, of CPU times for one of `unit`; `print_heading` explains its signs."""
    width = max(len(name) for name in [*comparison.runs, *failures, "uring again"])
    reference, rate = comparison.reference, f"{unit}/s"
    wide = max(len(rate), 11)
    yield (f"  {'':<{width}}  {'server CPU':>10}   {'of ' + reference + ' [95 %]':<22}  {rate:>{wide}}"
           f"  {'load':>5}  {'p50':>8}  {'p99':>8}  {'p99.9':>8}" + ("  how" if notes else ""))
    for name, runs in comparison.runs.items():
        times = "".join(f"  {time_text(middle(runs, key)):>8}" for key in ("p50_ns", "p99_ns", "p99.9_ns"))
        load = statistics.median(run["load_ns"] / run["server_ns"] for run in runs)
        note = f"  {notes.get(name, '')}" if notes else ""
        line = (f"  {name:<{width}}  {time_text(middle(runs, 'server_ns')):>10}   {ratio_text(comparison, name):<22}"
                f"  {middle(runs, 'rate_per_s'):>{wide},.0f}  {load:>5.2f}{times}{note}")
        yield line.rstrip()
    for name, why in failures.items():
        yield f"  {name:<{width}}  FAILED: {why}"


def ratio_text(comparison, name):
    if name == comparison.reference:
        return "1"
    if name == comparison.again:
        return f"{interval_text(comparison.same)} A/A"
    figure = comparison.ratios[name]
    return interval_text(figure) if comparison.differs(name) else f"~     {interval_text(figure)[6:]}"


def interval_text(figure):
    """
    >>> interval_text(Ratio(1.0512, 1.03, 12.345))
    '1.051 [1.030, 12.35]'
    """
    return " ".join([number(figure.median), f"[{number(figure.low)}, {number(figure.high)}]"])


def number(value):
    return f"{value:.3f}" if value < 9.9995 else f"{value:.2f}" if value < 99.995 else f"{value:.1f}"


def not_dearer(figure, same):
    """Whether a ratio of ours to another's shows that ours takes no more, where `same` is the A/A ratio.

    >>> same = Ratio(1, 0.98, 1.02)
    >>> not_dearer(Ratio(0.9, 0.85, 0.96), same), not_dearer(Ratio(1.1, 1.05, 1.2), same)
    ('met', 'MISSED')
    >>> not_dearer(Ratio(1.05, 0.98, 1.2), same), not_dearer(Ratio(1.015, 1.01, 1.02), same)
    ('no difference beyond the noise', 'no difference beyond the noise')
    """
    if not figure.differs(same):
        return "no difference beyond the noise"
    return "met" if figure.median < 1 else "MISSED"


def judged(figure, aim):
    """Whether a ratio that ought to be at most `aim` is.

    >>> judged(Ratio(0.8, 0.7, 0.85), 0.9), judged(Ratio(0.8, 0.7, 0.95), 0.9), judged(Ratio(0.95, 0.92, 1), 0.9)
    ('met', 'met (not beyond the noise)', 'MISSED')
    >>> judged(Ratio(0.95, 0.85, 1), 0.9)
    'MISSED (not beyond the noise)'
    """
    verdict = "met" if figure.median <= aim else "MISSED"
    is_sure = figure.low == figure.high or not figure.low <= aim <= figure.high
    return verdict if is_sure else f"{verdict} (not beyond the noise)"


class Progress:
    """On a terminal, what is being done and how long it will take still; elsewhere nothing."""

    def __init__(self):
        self.expected, self.finished, self.began = 0, 0, None

    def expect(self, runs):
        self.expected, self.finished, self.began = runs, 0, None

    def show(self, what):
        self.began = self.began if self.began is not None else time.monotonic()
        if not sys.stderr.isatty():
            return
        left = ""
        if 0 < self.finished < self.expected:
            left_s = (time.monotonic() - self.began) / self.finished * (self.expected - self.finished)
            left = f"; about {left_s / 60:.0f} min left" if left_s > 90 else f"; about {left_s:.0f} s left"
        print(f"\r\033[K{what}{left} ", end="", file=sys.stderr, flush=True)

    def done(self):
        self.finished += 1

    def clear(self):
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def warn(text):
    start = "\r\033[K" if sys.stderr.isatty() else ""
    print(f"{start}{Path(sys.argv[0]).name}: {text}", file=sys.stderr, flush=True)


# ---- flags, environment, files


def add_common_flags(flags, *, rounds, duration, warmup):
    """The flags of every script that measures so."""
    flags.add_argument("--rounds", type=int, default=rounds, help="runs of each server in a cell (default %(default)s)")
    flags.add_argument("--duration", default=duration, help="measured part of a run (default %(default)s)")
    flags.add_argument("--warmup", default=warmup, help="unmeasured part before it (default %(default)s)")
    flags.add_argument("--server-cpu", type=int, default=None, help="CPU of the servers (default: the first)")
    flags.add_argument("--load-cpu", type=int, default=None, help="CPU of the generator (default: the second)")
    flags.add_argument("--seed", type=int, default=1, help="of the order of runs (default %(default)s)")
    flags.add_argument("--json", type=Path, help="write every run's figures to this file, which must not exist")


def add_load_flags(flags):
    """Further flags, of scripts that measure a grid of loads with a generator of a named engine."""
    flags.add_argument(
        "--cell", action="append", metavar="PATTERN", help="only cells like this, as '64x*x16'; may be repeated"
    )
    flags.add_argument("--load-engine", default="uring", help="the generator's engine (default %(default)s)")


def chosen(cells, patterns):
    """
    >>> [cell.name for cell in chosen([Cell(1, 64, 1), Cell(64, 64, 1), Cell(64, 64, 16)], ["64x*x16", "1x*"])]
    ['1x64Bx1', '64x64Bx16']
    >>> len(chosen([Cell(1, 64, 1)], None))
    1
    """
    return [cell for cell in cells if any(fnmatchcase(cell.name, pattern) for pattern in patterns or ["*"])]


def settle_common_flags(flags, given, *, rounds_min=1):
    """Checks the common flags and picks the CPUs that were not named."""
    if given.rounds < rounds_min:
        flags.error(f"--rounds: {rounds_min} or more")
    for name in ("duration", "warmup"):
        try:
            seconds(getattr(given, name))
        except ValueError as error:
            flags.error(f"--{name}: {error}")
    settle_json(flags, given)
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        flags.error("two CPUs are needed, one for the servers and one for the generator")
    given.server_cpu = cpus[0] if given.server_cpu is None else given.server_cpu
    given.load_cpu = cpus[1] if given.load_cpu is None else given.load_cpu
    for cpu in (given.server_cpu, given.load_cpu):
        if cpu not in cpus:
            flags.error(f"CPU {cpu} is not among those this process may use: {', '.join(map(str, cpus))}")
    if given.server_cpu == given.load_cpu:
        flags.error("server and generator have to be on different CPUs")


def settle_json(flags, given):
    """Checks that the file to be written is not there, and that its folder is."""
    if given.json and given.json.exists():
        flags.error(f"--json: {given.json} exists; results are not overwritten")
    if given.json and not given.json.absolute().parent.is_dir():
        flags.error(f"--json: there is no folder {given.json.absolute().parent}")


def cargo_build(*flags, folder=ROOT, env=None):
    """Builds in release; the executables' paths by name, as cargo tells them (the target folder may be anywhere).

    `env` is added to the environment.
    """
    command = ["cargo", "build", "--release", "--quiet", "--message-format=json-render-diagnostics", *map(str, flags)]
    try:
        done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, env={**os.environ, **(env or {})})
    except OSError as error:
        raise CannotMeasure(f"cargo cannot be run ({error.strerror}): install a Rust toolchain") from error
    if done.returncode != 0:
        raise CannotMeasure(f"`{' '.join(command)}` failed in {folder}")
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    return {it["target"]["name"]: it["executable"] for it in messages if it.get("executable")}


def environment():
    """Where and when: kernel, processor, how many CPUs this process may use, time, revision."""
    described = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    model = re.search(r"^(?:model name|Model|cpu)\s*: *(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "kernel": os.uname().release,
        "cpu": model[1] if model else os.uname().machine,
        "cpus": len(os.sched_getaffinity(0)),
        "began": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "revision": described.stdout.strip() or None,
    }


def print_where(where):
    print(f"Linux {where['kernel']}, {where['cpu']}, {where['cpus']} CPUs; {where['began']};"
          f" ringsock {where['revision'] or 'of unknown revision'}")


def print_heading(where, given, per="message"):
    """What was measured where, and how; CPU times are for one `per`."""
    print_where(where)
    print(f"server on CPU {given.server_cpu}, generator on CPU {given.load_cpu}; closed loop;"
          f" {given.rounds} rounds of {given.duration} after {given.warmup}; seed {given.seed}")
    if given.rounds < ROUNDS_FOR_INTERVALS:
        print(f"fewer than {ROUNDS_FOR_INTERVALS} rounds: the intervals mean little")
    print(f"server CPU: time per {per}. ~: no difference beyond the noise. load: the generator's CPU time over the\n"
          "server's; above 1, the rate is the generator's.\n", flush=True)


def save_new(path, document):
    """Writes JSON whole or not at all, and never over another file."""
    path = path.absolute()
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", suffix=".part") as part:
        json.dump(document, part, indent=1)
        part.write("\n")
        part.flush()
        os.fsync(part.fileno())
        os.chmod(part.name, 0o644)
        try:
            os.link(part.name, path)
        except FileExistsError:
            raise CannotMeasure(f"--json: {path} has appeared meanwhile; results are not overwritten") from None


def main_guard(main):
    """Runs a script's main: a signal ends servers too, and what cannot be measured is told in a line."""

    def terminated(*_):
        sys.exit(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, terminated)
    try:
        sys.exit(main())
    except CannotMeasure as error:
        warn(error)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
