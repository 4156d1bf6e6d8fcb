"""A crowd of silent connections held with heartbeats: what each takes of the server's memory and of the kernel's.

Kept: the figure is of connections that were all opened, all held to the end and all answered their heartbeats, or there is
none: the server drops one that does not answer. Where the limit on open files (RLIMIT_NOFILE) forbids so many, and more
threads would not help, that is said instead (`Forbidden`). Both ends are on this machine, each on one CPU. The server has as
many threads as its connections need: a thread has a table of direct descriptors, which may hold as many as that limit. The
generator sees to that by itself.
Deliberately absent: repetitions. Memory does not scatter as time does.
Tested by its examples: python3 -m doctest bench-scripts/idle.py
"""

import re
import resource
from dataclasses import asdict, dataclass
from pathlib import Path

from interleaved import CannotMeasure, RunFailed, Server, ringsock, run_load, seconds, time_text

CONNECTIONS = 1_000_000
AIM_BYTES = 300
# The server pings whoever was silent for so long, and drops whoever is silent for as long again.
HEARTBEAT_S = 20
# Those that send, among the silent ones, and how often all of them together.
ACTIVE, ACTIVE_PER_S = 64, 1000
# Of a table, what may be meant to be used: connections are spread by chance, and some places are for other files.
TABLE_SHARE = 0.8
# What both ends take in the kernel for one connection, with something to spare.
PAIR_BYTES = 10 << 10
# Slower than this no machine opens connections that is of use here.
OPENED_PER_S_MIN = 1000


class Forbidden(Exception):
    """The hard limit on open files does not allow so many connections here, however they are shared out."""


@dataclass(frozen=True)
class Held:
    """What came of it."""

    connections: int
    threads: int
    heartbeats: int
    server_bytes: tuple
    kernel_bytes: tuple
    server_cpu: float
    p50_ns: float
    p99_ns: float

    @property
    def server_each_bytes(self):
        """
        >>> Held(10, 1, 30, (1000, 4000), (500, 8500), 0.1, 1e5, 1e6).server_each_bytes
        300.0
        """
        before, after = self.server_bytes
        return (after - before) / self.connections

    @property
    def kernel_each_bytes(self):
        before, after = self.kernel_bytes
        return (after - before) / self.connections

    def document(self):
        """For a file."""
        return {**asdict(self), "server_each_bytes": self.server_each_bytes, "kernel_each_bytes": self.kernel_each_bytes}

    def lines(self, hold):
        """For people; `hold` is how long, as it was typed.

        >>> for line in Held(10, 1, 30, (1 << 20, 1 << 21), (500, 80500), 0.123, 1e5, 1e6).lines("60s"):
        ...     print(line)
        idle: 10 connections held for 60s, a heartbeat each every 20 s; 1 server thread
          server's own memory   104,858 B a connection: 1.0 MiB before, 2.0 MiB at the end; at most 300: MISSED
          kernel's, both ends   8,000 B a connection
          heartbeats            30 answered; every connection was held to the end
          server's CPU          12.3 % of its core while they were held, with 1,000 messages/s of 64 active ones
          response of those     p50 100 µs, p99 1.00 ms
        """
        before, after = (f"{count / (1 << 20):,.1f} MiB" for count in self.server_bytes)
        verdict = "met" if self.server_each_bytes <= AIM_BYTES else "MISSED"
        threads = f"{self.threads} server thread{'s' if self.threads > 1 else ''}"
        yield f"idle: {self.connections:,} connections held for {hold}, a heartbeat each every {HEARTBEAT_S} s; {threads}"
        yield (f"  server's own memory   {self.server_each_bytes:,.0f} B a connection: {before} before, {after} at the end;"
               f" at most {AIM_BYTES}: {verdict}")
        yield f"  kernel's, both ends   {self.kernel_each_bytes:,.0f} B a connection"
        yield f"  heartbeats            {self.heartbeats:,} answered; every connection was held to the end"
        yield (f"  server's CPU          {self.server_cpu * 100:.1f} % of its core while they were held, with {ACTIVE_PER_S:,}"
               f" messages/s of {ACTIVE} active ones")
        yield f"  response of those     p50 {time_text(self.p50_ns)}, p99 {time_text(self.p99_ns)}"


def threads_for(connections, limit):
    """How many threads have tables for so many connections, where each table may hold `limit`.

    >>> threads_for(1_000_000, 20_000), threads_for(100_000, 20_000), threads_for(100_000, 1 << 20)
    (63, 7, 1)
    """
    return max(1, -(-connections // int(limit * TABLE_SHARE)))


def hold(bench, connections, duration):
    """Opens so many connections to a server of their own and keeps them for `duration`, as `60s`: what was seen of them.

    Forbidden where the limit on open files does not allow it; CannotMeasure where anything else went wrong, for then nothing
    is known of memory.
    """
    check_memory(connections, Path("/proc/meminfo").read_text())
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    threads = threads_for(connections, limit) if limit != resource.RLIM_INFINITY else 1
    contender = ringsock(
        "idle", bench.binaries, "--threads", str(threads), "--max-connections", str(connections),
        "--ping-interval", f"{HEARTBEAT_S}s",
    )
    try:
        server = Server(contender, bench.given.server_cpu, None, bench.folder.name)
        try:
            command = load_command(bench, server, connections, duration)
            timeout_s = 120 + connections / OPENED_PER_S_MIN + seconds(duration)
            return read(run_load(command, bench.given.load_cpu, timeout_s), threads)
        finally:
            server.end()
    except RunFailed as error:
        raise reason(str(error), limit) from error


def load_command(bench, server, connections, duration):
    return [
        bench.binaries["ringsock-load"], server.url, "--quiet", "--scenario", "idle", "--connections", connections,
        "--active", ACTIVE, "--rate", ACTIVE_PER_S, "--cpus", bench.given.load_cpu,
        "--duration", duration, "--warmup", "1s", "--connect-timeout", "60s", "--server-pid", server.process.pid,
        "--results", bench.folder.name, *bench.load_flags,
    ]


def check_memory(connections, meminfo):
    """CannotMeasure where there is not the memory for both ends, rather than have the kernel look for somebody to end.

    >>> check_memory(1000, "MemTotal: 24000 kB\\nMemAvailable:   11000 kB\\n")
    >>> check_memory(2000, "MemTotal: 24000 kB\\nMemAvailable:   11000 kB\\n")
    Traceback (most recent call last):
    interleaved.CannotMeasure: 2,000 connections take some 19 MiB at both ends, and 10 MiB are available: give fewer --connections
    """
    available = int(re.search(r"^MemAvailable: +([0-9]+) kB$", meminfo, re.MULTILINE)[1]) << 10
    needed = connections * PAIR_BYTES
    if needed > available:
        raise CannotMeasure(
            f"{connections:,} connections take some {needed >> 20:,} MiB at both ends, and {available >> 20:,} MiB are available:"
            " give fewer --connections"
        )


def reason(text, limit):
    """What a failure means: the limit on open files forbids it only where more threads are no remedy.

    >>> reason("too few open files: raise it with `ulimit -n 2000`", 1000)
    Forbidden('the hard limit on open files (RLIMIT_NOFILE) is 1000: too few open files: raise it with `ulimit -n 2000`')
    >>> reason("too few open files: have --threads 9, or `ulimit -n 2000`", 1000)
    CannotMeasure('idle: too few open files: have --threads 9, or `ulimit -n 2000`')
    """
    if "ulimit -n" in text and "--threads" not in text:
        return Forbidden(f"the hard limit on open files (RLIMIT_NOFILE) is {limit}: {text}")
    return CannotMeasure(f"idle: {text}")


def read(result, threads):
    """What a result file says; RunFailed unless all were held and answered every heartbeat that was due.

    >>> crowd = {
    ...     "connections": 90, "opened": 90, "failed": 0, "held": 90, "heartbeats": 270,
    ...     "server_memory": {"of": "server", "before_bytes": 1000, "after_bytes": 4000},
    ...     "kernel_memory": {
    ...         "before": {"slab_bytes": 5, "tcp_buffer_bytes": 2}, "after": {"slab_bytes": 60, "tcp_buffer_bytes": 3},
    ...     },
    ... }
    >>> result = {"particulars": {"crowd": crowd}, "cpu": {"server_cpu_s": 6.0},
    ...           "summary": {"measured_s": 60.0, "response": {"p50_ns": 5, "p99_ns": 7}}}
    >>> held = read(result, 2)
    >>> held.connections, held.heartbeats, held.server_bytes, held.kernel_bytes, held.server_cpu, held.p99_ns
    (90, 270, (1000, 4000), (7, 63), 0.1, 7)
    >>> crowd["held"], crowd["heartbeats"] = 89, 100
    >>> read(result, 2)
    Traceback (most recent call last):
    interleaved.RunFailed: of 90 connections, 90 were opened and 89 held; 100 heartbeats were answered, and 180 were due
    """
    crowd, summary = result["particulars"]["crowd"], result["summary"]
    count, held = crowd["connections"], crowd["held"]
    # One that falls due at the end may come too late to be counted.
    due = count * max(1, int(summary["measured_s"] / HEARTBEAT_S) - 1)
    if held < count or crowd["heartbeats"] < due and summary["measured_s"] > HEARTBEAT_S:
        raise RunFailed(
            f"of {count:,} connections, {crowd['opened']:,} were opened and {held:,} held; {crowd['heartbeats']:,} heartbeats were"
            f" answered, and {due:,} were due"
        )
    server, kernel = crowd["server_memory"], crowd["kernel_memory"]
    kernel_bytes = (kernel[when]["slab_bytes"] + kernel[when]["tcp_buffer_bytes"] for when in ("before", "after"))
    return Held(
        held, threads, crowd["heartbeats"], (server["before_bytes"], server["after_bytes"]), tuple(kernel_bytes),
        result["cpu"]["server_cpu_s"] / summary["measured_s"], summary["response"]["p50_ns"], summary["response"]["p99_ns"],
    )
