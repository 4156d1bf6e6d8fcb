"""Instructions per message: servers driven in guests whose clock counts instructions, for the scripts beside this file.

Server and generator are processes of their own in a guest of one virtual CPU, where a nanosecond is an instruction,
kernel and user together. A server is started anew for each cell and driven three times, each time on new connections
until every message is answered: once to warm up, then for a short and for a long while. Its figure is what the long run
cost it beyond the short one, by the messages that the long one had beyond the short one: handshakes, goodbyes and
messages at the edges of a window cancel out, so a figure does not depend on where a window ends.

Kept: a figure is the same bit for bit whenever kernel, programs, seed, QEMU and this plan are (but with TLS, whose
certificate is made anew, to about a thousandth); every contender has boots
of its own, so it does not depend on which others are measured. Deliberately absent: any statement about time. There are
no caches, no branch prediction and no cycles in it. Tested by its examples: python3 -m doctest bench-scripts/instructions.py
"""

import json
import shlex
import statistics
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import features
import guests
from interleaved import (
    CannotMeasure, Cell, Contender, Progress, RunFailed, chosen, environment, fill, number, ringsock, save_new, seconds, settle_json,
)

# What the field is compared in: small messages one by one and in batches, and large ones.
CELLS = [Cell(64, 64, 1), Cell(64, 64, 16), Cell(64, 64, 64), Cell(8, 65536, 1)]
KERNEL = "6.12"
PORT = 9001
# Virtual time; of the long run it is what it has beyond the short one.
SHORT, LONG = "50ms", "500ms"
# How long a guest's server may take to listen, in tries 10 ms apart.
LISTEN_TRIES = 1000
# Real time for one drive of a server, by the virtual time that it sends: emulation may be that much slower.
REAL_PER_VIRTUAL = 60
BOOT_SECONDS_MAX = 120
# Where a guest's scheduler is told what it may do, and the word for: whoever is woken waits until the other sleeps.
SCHEDULER, TURNS_HELD = "/sys/kernel/debug/sched/features", "NO_WAKEUP_PREEMPTION"
# A name for the guest's file system.
SERVER, LOAD = "bin/server", "bin/ringsock-load"


@dataclass(frozen=True)
class Figures:
    """What one server did in one cell of one boot, in instructions per message."""

    # The server's, kernel and user.
    server: float
    # Of the server's ticks, the share that found it in user mode, and how many there were: a sample, no count.
    user_share: float | None
    ticks: int
    # The generator's, and all that the machine did, over the window of the long run alone: good to a window's edges.
    load: float
    machine: float
    # Messages that the server's figure rests on.
    messages: int


# ---- the script that a guest runs


def script(contender, cells, short, long, load_flags, hold_turns=False):
    """What drives `contender` in a guest: for each cell a folder in /out. `hold_turns` as measure() has it.

    >>> given = Contender("x", ("bin/server", "--listen", "{address}")), [Cell(64, 64, 1)], "50ms", "500ms", []
    >>> text, held = script(*given), script(*given, hold_turns=True)
    >>> "bin/server --listen 127.0.0.1:9001 " in text, text.count("ringsock-load ws://127.0.0.1:9001/ ")
    (True, 3)
    >>> TURNS_HELD in text, held.endswith(text), held.index(f"echo {TURNS_HELD} >") < held.index("bin/server")
    (False, True, True)
    """
    lines = list(held_turns(cells)) if hold_turns else []
    lines += [
        # All threads of the server: ns run, waited, slices; and its ticks in user and kernel mode.
        'look() { cat /proc/$pid/task/*/schedstat > $cell/$1.schedstat; cat /proc/$pid/stat > $cell/$1.stat; }',
        'fail() { echo "$1" > $cell/failed; kill $pid 2> /dev/null; exit 0; }',
    ]
    for index, cell in enumerate(cells):
        lines += drive(contender, cell, PORT + index, short, long, load_flags)
    return "\n".join(lines) + "\n"


def held_turns(cells):
    """The lines that have nobody preempted for one that is woken; a kernel that cannot fails the first of `cells`."""
    first = f"/out/{cells[0].name}"
    yield "mount -t debugfs debugfs /sys/kernel/debug"
    yield f"echo {TURNS_HELD} > {SCHEDULER} || {{ mkdir -p {first}; echo 'the kernel has no {SCHEDULER} (CONFIG_SCHED_DEBUG," \
          f" from 5.13 on): take another' > {first}/failed; exit 0; }}"


def drive(contender, cell, port, short, long, load_flags):
    """The lines that start a server, drive it in one cell, and end it."""
    address = f"127.0.0.1:{port}"
    places = {
        "{address}": address, "{port}": str(port), "{cpu}": "0",
        "{certificate}": features.CERTIFICATE, "{key}": features.KEY,
    }
    server = shlex.join(fill(part, places) for part in contender.command_for(cell.feature))
    load = [
        LOAD, f"{contender.scheme_for(cell.feature)}://{address}/", "--quiet", "--clock", "instructions", "--closed-loop",
        "--pipeline", cell.pipeline, "--connections", cell.connections, "--payload", cell.payload_bytes,
        "--warmup", "0s", "--drain-timeout", "5s", *load_flags, *(cell.feature.load if cell.feature else ()),
    ]
    load = shlex.join(str(word) for word in load)
    long_s = f"{seconds(short) + seconds(long):.6f}s"
    # In hexadecimal, as the kernel lists sockets; 0A is LISTEN.
    listening = f":{port:04X} [0-9A-F:]* 0A"
    yield from (
        f"cell=/out/{cell.name}",
        "mkdir -p $cell",
        f"{server} > $cell/server.log 2>&1 &",
        "pid=$!",
        f"for try in $(seq {LISTEN_TRIES}); do grep -q '{listening}' /proc/net/tcp && break; sleep 0.01; done",
        f"grep -q '{listening}' /proc/net/tcp || fail 'the server does not listen'",
    )
    for name, duration in (("warm", short), ("short", short), ("long", long_s)):
        yield f"{load} --duration {duration} --results $cell/{name} --server-pid $pid > $cell/{name}.log 2>&1" \
              f" || fail \"$(tail -n 3 $cell/{name}.log)\""
        # Goodbyes are the run's as well.
        yield "sleep 0.1"
        yield f"look {name}"
    yield from ("kill $pid", "wait $pid 2> /dev/null")


# ---- what a guest leaves behind


def read_cell(folder, feature=None):
    """The figures in a cell's folder; RunFailed with the guest's words if there are none, or `feature` was not in use."""
    failed = folder / "failed"
    if failed.exists() or not folder.is_dir():
        said = [path.read_text(errors="replace").strip() for path in (failed, folder / "server.log") if path.exists()]
        raise RunFailed("; the server said: ".join(word for word in said if word) or "the guest left nothing")
    looks = {name: (run_ns((folder / f"{name}.schedstat").read_text()), ticks((folder / f"{name}.stat").read_text()))
             for name in ("warm", "short", "long")}
    results = {name: result_in(folder / name) for name in ("short", "long")}
    refusal = feature and feature.refusal(results["long"])
    if refusal:
        raise RunFailed(f"{feature.title}: {refusal}")
    return figures(looks, results)


def result_in(folder):
    found = list(folder.glob("*/*.json"))
    if len(found) != 1:
        raise RunFailed(f"ringsock-load left {len(found)} results")
    return json.loads(found[0].read_text())


def run_ns(schedstat):
    """What all threads of a process have run, from their schedstat.

    >>> run_ns("100 20 5\\n7 0 1\\n")
    107
    """
    return sum(int(line.split()[0]) for line in schedstat.splitlines())


def ticks(stat):
    """Ticks in user and in kernel mode, from /proc/PID/stat: utime and stime, the 12th and 13th field after the name.

    >>> ticks("17 (a) b) S 1 17 17 0 -1 4194560 90 0 0 0 5 6 0 0 20 0")
    (5, 6)
    """
    fields = stat.rpartition(")")[2].split()
    return int(fields[11]), int(fields[12])


def figures(looks, results):
    """From looks at the server after each run, and from the results of the last two.

    >>> result = lambda sent, window_s, load_s: {
    ...     "accounting": {"sent": sent, "answered": sent, "answered_late": 10, "warmup_messages": 0, "errors": {}},
    ...     "summary": {"measured_s": window_s}, "cpu": {"load_cpu_s": load_s}}
    >>> looks = {"warm": (500, (1, 1)), "short": (1_500, (1, 2)), "long": (11_500, (3, 10))}
    >>> figures(looks, {"short": result(100, 1e-6, 1e-7), "long": result(1_100, 1.09e-5, 5.5e-6)})
    Figures(server=9.0, user_share=0.2, ticks=10, load=5.0, machine=10.0, messages=1000)
    """
    messages = {name: exchanged(result) for name, result in results.items()}
    more = messages["long"] - messages["short"]
    if more <= 0:
        raise RunFailed(f"the long run had {messages['long']} messages, the short one {messages['short']}")
    spent = {name: looks[name][0] - looks[before][0] for before, name in (("warm", "short"), ("short", "long"))}
    user, kernel = (looks["long"][1][side] - looks["short"][1][side] for side in (0, 1))
    long = results["long"]
    answered = long["accounting"]["answered"]
    return Figures(
        server=(spent["long"] - spent["short"]) / more,
        user_share=user / (user + kernel) if user + kernel else None,
        ticks=user + kernel,
        load=long["cpu"]["load_cpu_s"] * 1e9 / answered,
        machine=long["summary"]["measured_s"] * 1e9 / max(answered - long["accounting"]["answered_late"], 1),
        messages=more,
    )


def exchanged(result):
    """Messages sent and answered in a run, those of its warm-up as well; RunFailed if any was not, or wrongly."""
    books = result["accounting"]
    if books["errors"] or books["sent"] != books["answered"]:
        raise RunFailed(f"not every message was answered rightly: {json.dumps(books)}")
    return books["answered"] + books["warmup_messages"]


# ---- measuring


def measure(
    kernel, contender, cells, *, seed=1, short=SHORT, long=LONG, load_flags=(), load=None, modules=(), hold_turns=False,
):
    """Boots a guest and measures one contender in each cell that it has the feature for: ({cell: Figures}, {cell: why
    there are none}).

    The contender's command names its program by a Path here, which is put into the guest; `load` is ringsock-load's.
    Server and generator share the one CPU, and a scheduler may or may not preempt whoever wakes the other: by what each
    has had of the CPU, so a server's figure moves with the generator's cost, by up to a hundredth in large batches. With
    `hold_turns` nobody is preempted for one that is woken: each works until it has to sleep.
    """
    cells = [cell for cell in cells if contender.has(cell.feature)]
    program, *words = contender.command
    in_guest = replace(contender, command=(SERVER, *map(str, words)))
    files = {SERVER: Path(program), LOAD: Path(load)}
    timeout_s = BOOT_SECONDS_MAX + len(cells) * REAL_PER_VIRTUAL * (3 * seconds(short) + seconds(long))
    with tempfile.TemporaryDirectory(prefix="ringsock-instructions-") as scratch:
        out, console = Path(scratch) / "out", Path(scratch) / "console"
        if any(cell.feature is features.TLS for cell in cells):
            why = features.make_identity(scratch)
            if why:
                raise CannotMeasure(why)
            files |= {name: Path(scratch) / name for name in (features.CERTIFICATE, features.KEY)}
        boot = guests.boot(
            kernel, files, script(in_guest, cells, short, long, load_flags, hold_turns), out=out, console=console, seed=seed,
            timeout_s=timeout_s, modules=modules,
        )
        if boot.outcome != "done":
            return {}, {cell: boot.why(timeout_s) for cell in cells}
        found, failed = {}, {}
        for cell in cells:
            try:
                found[cell] = read_cell(out / cell.name, cell.feature)
            except (RunFailed, OSError, ValueError, KeyError) as error:
                failed[cell] = " ".join(str(error).split()) or type(error).__name__
        return found, failed


def tables(given, contenders, references, left_out):
    """Measures `contenders` in `given.cells`, prints a table for each cell, and saves all of it where --json says.

    `references` names the contenders that the others are told in multiples of. `left_out` says of others why.
    """
    load = programs()["ringsock-load"]
    kernel = guests.resolve(given.kernel)
    seeds = range(given.seed, given.seed + given.boots)
    document = {
        "command": sys.argv, "unit": "instructions per message", "complete": False, "environment": environment(),
        "kernel": {"release": kernel.release, "source": kernel.source, "sha256": kernel.sha256},
        "qemu": guests.qemu_version(), "cpu": guests.INSTRUCTIONS_CPU, "load_engine": given.load_engine,
        "left_out": left_out, "runs": [],
    }
    print(heading(kernel, seeds, given.load_engine), flush=True)
    try:
        found, failed = compare(kernel, contenders, given.cells, seeds, given.load_engine, load, document["runs"])
        for cell in given.cells:
            print(f"{cell.title} ({cell.name})", *table(found[cell], failed[cell], references), "", sep="\n", flush=True)
        document["failed"] = {cell.name: failed[cell] for cell in given.cells}
        document["complete"] = True
    finally:
        if given.json and document["runs"]:
            save_new(given.json, document)
    for name, why in left_out.items():
        print(f"left out: {name}: {why}")


def compare(kernel, contenders, cells, seeds, load_engine, load, runs):
    """{cell: {name: [Figures]}} of every contender in boots under each seed, and {cell: {name: why}} of those that failed.

    One that fails in any boot has no figures in that cell. What is found is added to `runs` as it comes, for a file.
    """
    found, failed = {cell: {} for cell in cells}, {cell: {} for cell in cells}
    progress = Progress()
    progress.expect(len(contenders) * len(seeds))
    for contender in contenders:
        for seed in seeds:
            progress.show(f"{contender.name}, seed {seed}")
            measured, missing = measure(
                kernel, contender, cells, seed=seed, load=load, load_flags=["--engine", load_engine]
            )
            progress.done()
            for cell, it in measured.items():
                found[cell].setdefault(contender.name, []).append(it)
                runs.append({"cell": cell.name, "contender": contender.name, "seed": seed, **asdict(it)})
            for cell, why in missing.items():
                failed[cell][contender.name] = f"seed {seed}: {why}"
    progress.clear()
    for cell in cells:
        for name in failed[cell]:
            found[cell].pop(name, None)
    return found, failed


def heading(kernel, seeds, load_engine):
    """What was measured where; and what the figures are."""
    named = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}, medians"
    return (
        f"Instruction time: {kernel.source} ({kernel.release}) in QEMU {guests.qemu_version()},"
        f" CPU {guests.INSTRUCTIONS_CPU}, one vCPU; {named}\n"
        f"closed loop, generator on {load_engine}, on the same vCPU\n"
        "instructions per message, kernel and user together; no caches, no cycles, not to be compared with time.\n"
        "user: share of the server's ticks that found it in user mode, a sample with its standard error.\n"
    )


def table(figures_by_name, failed, references):
    """The lines of one cell's table.

    >>> both = lambda server: [Figures(server, 0.25, 75, 9_000, 21_000, 10_000), Figures(server + 2, 0.25, 75, 9_000, 21_000, 10_000)]
    >>> print(*table({"uring": both(1_200), "bare": both(1_000)}, {"x": "seed 1: no"}, ["bare"]), sep="\\n")
            server  of bare  spread         user  generator  machine
    uring    1,201  1.200     0.2 %   25 ± 3.5 %      9,000   21,000
    bare     1,001  1         0.2 %   25 ± 3.5 %      9,000   21,000
    x      FAILED: seed 1: no
    """
    of = {name: statistics.median(it.server for it in runs) for name, runs in figures_by_name.items()}
    width = max(map(len, [*figures_by_name, *failed]), default=0)
    heads = "".join(f"  {'of ' + name:<{ratio_width(name)}}" for name in references)
    yield f"{'server':>{width + 9}}{heads}  spread  {'user':>11}  generator  machine"
    for name, runs in figures_by_name.items():
        ratios = "".join(f"  {ratio_text(of, name, reference):<{ratio_width(reference)}}" for reference in references)
        middle = {key: statistics.median(getattr(it, key) for it in runs) for key in ("load", "machine")}
        yield (f"{name:<{width}}  {of[name]:>7,.0f}{ratios}  {spread_text(runs):>6}  {user_text(runs):>11}"
               f"  {middle['load']:>9,.0f}  {middle['machine']:>7,.0f}")
    for name, why in failed.items():
        yield f"{name:<{width}}  FAILED: {why}"


def ratio_width(reference):
    return max(len(f"of {reference}"), 5)


def ratio_text(of, name, reference):
    if reference not in of:
        return "-"
    return "1" if name == reference else number(of[name] / of[reference])


def spread_text(runs):
    """How far boots lie apart; of one boot, nothing."""
    if len(runs) < 2:
        return "-"
    servers = [it.server for it in runs]
    return f"{100 * (max(servers) / min(servers) - 1):.1f} %"


def user_text(runs):
    """The share of ticks in user mode over all boots, with the standard error of so many ticks.

    As of two ticks more, one of each kind: else none of twenty would be a share of nothing for certain.

    >>> user_text([Figures(1, 0.5, 98, 0, 0, 1)]), user_text([Figures(1, 0, 18, 0, 0, 1)]), user_text([Figures(1, None, 0, 0, 0, 1)])
    ('50 ± 5.0 %', '0 ± 4.9 %', '-')
    """
    count = sum(it.ticks for it in runs)
    if not count:
        return "-"
    share = sum((it.user_share or 0) * it.ticks for it in runs) / count
    smoothed = (share * count + 1) / (count + 2)
    return f"{100 * share:.0f} ± {100 * (smoothed * (1 - smoothed) / (count + 2)) ** 0.5:.1f} %"


# ---- flags


def add_flags(flags):
    """The flags of every script that can measure so."""
    flags.add_argument(
        "--instructions", action="store_true",
        help="instead of time, count instructions per message in guests, where everything repeats bit for bit; --rounds,"
             " --duration, --warmup and the CPUs then do not apply",
    )
    flags.add_argument(
        "--kernel", metavar="NAME",
        help=f"with --instructions: the guests' kernel; a path, or a name as bench-scripts/kernels takes it (default {KERNEL})",
    )
    flags.add_argument(
        "--boots", type=int, metavar="COUNT",
        help="with --instructions: boots for each server, under seeds from --seed on (default 1)",
    )


def refuse_flags(flags, given):
    """That a flag is not given which means nothing without --instructions."""
    for name in ("kernel", "boots"):
        if getattr(given, name) is not None:
            flags.error(f"--{name} is of guests: add --instructions, or leave it out")


def settle_flags(flags, given, cells=CELLS):
    """Checks the flags that apply with --instructions, and chooses of the cells."""
    given.kernel = KERNEL if given.kernel is None else given.kernel
    given.boots = 1 if given.boots is None else given.boots
    if given.boots < 1:
        flags.error("--boots: 1 or more")
    settle_json(flags, given)
    given.cells = chosen(cells, given.cell)
    if not given.cells:
        flags.error(f"--cell: none of that name with --instructions; there are {', '.join(cell.name for cell in cells)}")


def programs():
    """ringsock-server and ringsock-load, built to run in any guest."""
    return guests.static_binaries(["ringsock-server", "ringsock-load"])


def check_static(contender):
    """That a program from elsewhere can run in a guest; CannotMeasure says what would mend it."""
    program = Path(contender.command[0])
    if not program.is_file():
        raise CannotMeasure(f"{contender.name}: there is no file {program}: name the program by its path")
    if guests.is_dynamic(program.read_bytes()):
        raise CannotMeasure(f"{contender.name}: {program} needs shared libraries, which no guest has: link it statically")


def floor(binaries):
    """What no WebSocket server on that engine can do without: the bytes sent back as they came."""
    return [
        ringsock("bare", binaries, "--engine", "uring", "--bare", scheme="tcp"),
        ringsock("bare epoll", binaries, "--engine", "epoll", "--bare", scheme="tcp"),
    ]
