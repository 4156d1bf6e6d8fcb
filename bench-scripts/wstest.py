"""Runs of the Autobahn|Testsuite's `wstest`, in either role, for bench-scripts/autobahn.

The suite's fuzzing client tests a server, its fuzzing server tests a client. Its exit code is 0 whatever happened and says
nothing; what counts are the cases that it set out to run, by its log, and the outcomes in its index.json, which is deleted
before a run so that no earlier one's can pass for it.

Every process started here is ended here by its id, or by the kernel where this one ends first. Judgement of outcomes is left to
the script.
"""

import ast
import ctypes
import json
import queue
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

START_SECONDS_MAX = 60
STOP_SECONDS_MAX = 20
LAST_WORDS_SECONDS_MAX = 2
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)


class CannotRun(Exception):
    """The suite could not be run, so it says nothing about us."""


@dataclass
class Outcome:
    """What the suite set out to run, and what came of it."""

    asked: list
    # By case, as in index.json.
    index: dict
    report: Path
    # What is wrong beside any case.
    problems: list = field(default_factory=list)

    def why(self, case):
        """The suite's own words for the outcome of a case."""
        try:
            report = json.loads((self.report / self.index[case]["reportfile"]).read_text())
            return f"{report['result']} {report['resultClose']}"
        except (OSError, ValueError, KeyError) as error:
            return f"no case report ({error})"


class Process:
    """A process whose output is read to the end: one that is blocked on a full pipe would look hung.

    It has a session of its own: Ctrl-C is the script's affair.
    """

    def __init__(self, command):
        self.command = [str(part) for part in command]
        try:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                errors="replace", start_new_session=True,
                preexec_fn=lambda: LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
            )
        except OSError as error:
            raise CannotRun(f"{self.command[0]}: {error}") from error
        self.output = []
        self.lines = queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        with self.process.stdout as lines:
            for line in lines:
                self.output.append(line)
                self.lines.put(line)
        self.lines.put(None)

    def line(self, pattern, seconds=START_SECONDS_MAX):
        """The first match in a line to come; None where there is none in time, or at all."""
        until = time.monotonic() + seconds
        while True:
            try:
                line = self.lines.get(timeout=max(0, until - time.monotonic()))
            except queue.Empty:
                return None
            if line is None:
                return None
            found = re.search(pattern, line)
            if found:
                return found

    def wait(self, seconds):
        """Whether it ended by itself."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        # All that it said; unless a child of its own lives on and holds the pipe.
        self.reader.join(LAST_WORDS_SECONDS_MAX)
        return True

    def kill(self):
        self.process.kill()
        self.wait(STOP_SECONDS_MAX)

    def words(self):
        """The end of what it said."""
        return "".join(self.output)[-1000:].strip() or "it said nothing"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.kill()


class Server(Process):
    """A server on a port of its own; the first line of its output is `listening on ws://HOST:PORT/`."""

    def __init__(self, command):
        super().__init__([*command, "--listen", "127.0.0.1:0"])
        found = self.line(r"listening on (ws://\S+)")
        if not found:
            self.kill()
            raise CannotRun(f"no `listening on ws://...` by `{shlex.join(self.command)}`: {self.words()}")
        self.url = found[1]

    def end(self):
        """Ends it as a person would; what is wrong with how it ends."""
        if self.process.poll() is not None:
            return [f"the server ended by itself with {self.process.returncode}: {self.words()}"]
        self.process.send_signal(signal.SIGTERM)
        if not self.wait(STOP_SECONDS_MAX):
            return [f"the server did not end within {STOP_SECONDS_MAX} s of SIGTERM"]
        if self.process.returncode != 0:
            return [f"the server ended with {self.process.returncode} on SIGTERM: {self.words()}"]
        return []


def fuzz_server(wstest, report, agent, url, cases, seconds):
    """Has the suite test the server at `url`."""
    spec = {"servers": [{"agent": agent, "url": url}]}
    with start(wstest, "fuzzingclient", report, spec, cases) as suite:
        asked = cases_of(suite, cases)
        ended = suite.wait(seconds)
    problems = [] if ended else [f"the cases did not end within {seconds:.0f} s"]
    return outcome(suite, asked, report, agent, problems)


def fuzz_client(wstest, report, agent, command, cases, seconds):
    """Has the suite test the client that `command` starts; the fuzzing server's URL is appended to it."""
    port = free_port()
    url = f"ws://127.0.0.1:{port}"
    with start(wstest, "fuzzingserver", report, {"url": url}, cases) as suite:
        asked = cases_of(suite, cases)
        if not is_reached(port):
            raise CannotRun(f"the fuzzing server does not take connections at {url}: {suite.words()}")
        with Process([*command, f"{url}/"]) as client:
            ended = client.wait(seconds)
        (report / "client.log").write_text("".join(client.output))
    if not ended:
        problems = [f"the client did not come to an end within {seconds:.0f} s: {client.words()}"]
    elif client.process.returncode != 0:
        problems = [f"the client ended with {client.process.returncode}: {client.words()}"]
    else:
        problems = []
    return outcome(suite, asked, report, agent, problems)


def start(wstest, mode, report, spec, cases):
    report.mkdir(parents=True, exist_ok=True)
    (report / "index.json").unlink(missing_ok=True)
    nothing = {"exclude-cases": [], "exclude-agent-cases": {}}
    spec_file = report / "spec.json"
    spec_file.write_text(json.dumps({"outdir": str(report), **spec, "cases": list(cases), **nothing}, indent=1))
    # Without a page of its own (-u 0), which would want a port that is the same for all.
    return Process([wstest, "-m", mode, "-s", spec_file, "-u", "0"])


def cases_of(suite, cases):
    """The names of the cases that it sets out to run. Where it has none, it would wait for ever."""
    found = suite.line(r"^Cases = (\[.*\])$")
    named = [str(case) for case in ast.literal_eval(found[1])] if found else []
    if not named:
        suite.kill()
        raise CannotRun(f"wstest finds no cases for {' '.join(cases)}:\n{suite.words()}")
    return named


def outcome(suite, asked, report, agent, problems):
    (report / "wstest.log").write_text("".join(suite.output))
    try:
        index = json.loads((report / "index.json").read_text()).get(agent, {})
    except (OSError, ValueError) as error:
        return Outcome(asked, {}, report, [*problems, f"wstest left no index of outcomes ({error}): {suite.words()}"])
    return Outcome(asked, index, report, problems)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_reached(port):
    """Whether it takes connections, soon."""
    until = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return True
        except OSError:
            time.sleep(0.02)
    return False


def install(script, prefix):
    """Path of wstest, installed under `prefix` by `script` unless it is there already."""
    done = subprocess.run([script, prefix], stdout=sys.stderr)
    if done.returncode != 0:
        raise CannotRun(f"{script.name} {prefix} ended with {done.returncode}")
    return prefix / "bin/wstest"
