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
    """A server on a port of its own; the first line of its output is `listening on ws://HOST:PORT/`, or wss://."""

    def __init__(self, command):
        super().__init__([*command, "--listen", "127.0.0.1:0"])
        found = self.line(r"listening on (wss?://\S+)")
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
    """Has the suite test the server at `url`; of wss:// it trusts any certificate."""
    spec = {"servers": [{"agent": agent, "url": url}]}
    with start(wstest, "fuzzingclient", report, spec, cases) as suite:
        asked = cases_of(suite, cases)
        ended = suite.wait(seconds)
    problems = [] if ended else [f"the cases did not end within {seconds:.0f} s"]
    return outcome(suite, asked, report, agent, problems)


def fuzz_client(wstest, report, agent, command, cases, seconds, tls=False):
    """Has the suite test the client that `command` starts; the fuzzing server's URL is appended to it, with `tls` behind
    --ca and the file of the certificate that it shows."""
    port = free_port()
    spec = {"url": f"{'wss' if tls else 'ws'}://127.0.0.1:{port}"}
    url = spec["url"]
    if tls:
        spec["key"], spec["cert"] = (str(path) for path in certify(report))
        command = [*command, "--ca", spec["cert"]]
    with start(wstest, "fuzzingserver", report, spec, cases) as suite:
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


def certify(folder):
    """Files of a key and of a certificate for 127.0.0.1 that it signs itself, made anew.

    The whole configuration is given: openssl's own would have it be an authority, which no server's certificate may be.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config, key, certificate = (folder / f"tls.{end}" for end in ("conf", "key", "pem"))
    config.write_text(
        "[req]\nprompt = no\ndistinguished_name = name\nx509_extensions = extensions\n[name]\nCN = the fuzzing server\n"
        "[extensions]\nsubjectAltName = IP:127.0.0.1\nbasicConstraints = critical, CA:FALSE\n"
    )
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    files = ["-config", config, "-keyout", key, "-out", certificate]
    try:
        done = subprocess.run(["openssl", "req", "-x509", *kind, *files], capture_output=True, text=True)
    except OSError as error:
        raise CannotRun(f"openssl, which makes the fuzzing server's certificate: {error}; apt-get install openssl") from error
    if done.returncode != 0:
        raise CannotRun(f"openssl makes no certificate: {done.stderr.strip()[-500:]}")
    return key, certificate


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
