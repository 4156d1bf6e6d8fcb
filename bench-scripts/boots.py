"""What a series of boots is: its plan, its order, and the record that stands beside each boot's results.

Kept: the order, and every boot's seed, follow from the series' own seed and from nothing else, so a series goes on
where it was left; records are written whole or not at all and never over another. Measured facts are in the files of
ringsock-load alone: what a record says beside them is of the host. Used by bench-scripts/kernels and
bench-scripts/bare-metal, which know how a kernel is come by. Tested by its examples: python3 -m doctest
bench-scripts/boots.py
"""

import gzip
import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import tomllib
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from interleaved import CannotMeasure

BOOT_SCHEMA = "ringsock-boot/1"
PLAN_KEYS = ("modules", "setup", "run")
# Of ringsock-load: where a result goes and what is shown is the series' affair, and a run of a plan is one run.
FORBIDDEN = {
    "results": "the series has a folder of its own", "config": "write the flags into the plan",
    "replay": "write the flags into the plan", "quiet": "it always is", "tui": "nobody would see it",
    "dry-run": "nothing would be measured", "strict": "the comparison honours verdicts", "export": "export afterwards",
    "clock": "give --clock to this script", "url": "a guest has no network: the server is in the same process",
    "server-pid": "the server is in the same process", "runs": "each boot makes the run once: --boots says how often",
    "contender": "write a [[run]] for each", "find-max-rate": "a search is no single run", "calibrate": "it is no run",
    "curve": "write a [[run]] for each rate", "capacity": "write a [[run]] for each rate", "resume": "it is no run",
}
# ringsock-load's exit status where the kernel lacks what was asked for by name.
UNAVAILABLE = 4
# A script's exit status where it ended before its first run; what was said is in this file of $OUT then.
SETUP_FAILED = 70
SETUP_SAID = "setup.said"
WRONG_FLAG = 2
RUN_NAME_CHARACTERS_MAX = 60
REASON_CHARACTERS_MAX = 500


# ---- the plan


@dataclass(frozen=True)
class Run:
    """One run of ringsock-load in each boot."""

    # What tables call it.
    label: str
    # What its files are called.
    name: str
    # As ringsock-load takes them.
    flags: tuple


@dataclass(frozen=True)
class Plan:
    """What each boot does."""

    text: str
    runs: tuple
    # Kernel modules to insert before, and shell commands to run.
    modules: tuple
    setup: str


def read_plan(path):
    """A plan from its file."""
    try:
        return parse_plan(Path(path).read_text())
    except OSError as error:
        raise CannotMeasure(f"the plan {path} cannot be read ({error.strerror}): name another with --plan") from error
    except ValueError as error:
        raise CannotMeasure(f"the plan {path}: {error}") from error


def parse_plan(text):
    """A plan from TOML: flags for all runs, then `[[run]]`s with a label each and flags of their own.

    >>> plan = parse_plan('''
    ... closed-loop = true
    ... modules = ["sch_netem"]
    ... [[run]]
    ... label = "echo, uring"
    ... engine = "uring"
    ... [[run]]
    ... label = "open"
    ... closed-loop = false
    ... rate = 10_000''')
    >>> [(run.name, run.flags) for run in plan.runs]
    [('01-echo-uring', ('--closed-loop', '--engine=uring')), ('02-open', ('--rate=10000',))]
    >>> plan.modules
    ('sch_netem',)
    >>> for wrong in ("", "[[run]]", "[[run]]\\nlabel='a'\\n[[run]]\\nlabel='a'", "curve = true\\n[[run]]\\nlabel='a'"):
    ...     try: parse_plan(wrong)
    ...     except ValueError as error: print(error)
    there is no [[run]] in it: each needs a label, and may have any flag of ringsock-load
    run 1 has no label: add label = "..."
    two runs are called `a`: give each a label of its own
    run `a` has `curve`: write a [[run]] for each rate; leave it out
    """
    document = tomllib.loads(text)
    common = {key: value for key, value in document.items() if key not in PLAN_KEYS}
    given = document.get("run") or []
    if not given or not isinstance(given, list):
        raise ValueError("there is no [[run]] in it: each needs a label, and may have any flag of ringsock-load")
    runs = []
    for place, flags in enumerate(given, 1):
        label = str(flags.get("label", "")).strip()
        if not label:
            raise ValueError(f'run {place} has no label: add label = "..."')
        if any(run.label == label for run in runs):
            raise ValueError(f"two runs are called `{label}`: give each a label of its own")
        own = {key: value for key, value in flags.items() if key != "label"}
        runs.append(Run(label, f"{place:02}-{slug(label)}", typed({**common, **own}, label)))
    modules, setup = document.get("modules", []), document.get("setup", "")
    if not isinstance(modules, list) or not isinstance(setup, str):
        raise ValueError('modules is a list of names, as ["sch_netem"], and setup a text of shell commands')
    return Plan(text, tuple(runs), tuple(modules), setup)


def typed(flags, label):
    """Keys and values as flags on a command line; false is a flag left out."""
    words = []
    for key, value in flags.items():
        if key in FORBIDDEN:
            raise ValueError(f"run `{label}` has `{key}`: {FORBIDDEN[key]}; leave it out")
        if not re.fullmatch("[a-z][a-z-]*", key):
            raise ValueError(f"run `{label}` has `{key}`, which is no long flag of ringsock-load")
        for one in value if isinstance(value, list) else [value]:
            if one is True:
                words.append(f"--{key}")
            elif one is not False:
                words.append(f"--{key}={one}")
    return tuple(words)


def slug(text):
    """
    >>> slug("Echo, 16 x 64 B: uring"), slug("../..")
    ('echo-16-x-64-b-uring', 'run')
    """
    return re.sub("[^a-z0-9.]+", "-", text.lower()).strip("-.")[:RUN_NAME_CHARACTERS_MAX] or "run"


def check_plan(plan, load):
    """Has ringsock-load look at each run's flags; what this machine's kernel lacks is not held against them."""
    for run in plan.runs:
        done = subprocess.run([load, *run.flags, "--dry-run"], capture_output=True, text=True)
        if done.returncode == WRONG_FLAG:
            raise CannotMeasure(f"run `{run.label}` of the plan: {last_words(done.stderr) or 'its flags are refused'}")


def script(plan, seed, clock):
    """The shell script that makes a plan's runs, in an order drawn by the seed.

    It leaves NAME.status and NAME.said of each run in $OUT, and NAME.json if there is a result. The order differs from
    boot to boot, so that no run is always the one after another; for one seed it is the same on every kernel. A setup
    that fails ends it with SETUP_FAILED: no run may pass for one with what the plan says.
    """
    lines = [
        "OUT=${OUT:-/out} LOAD=${LOAD:-/bin/ringsock-load} SCRATCH=${SCRATCH:-/tmp/runs}",
        "run() {",
        "  name=$1; shift",
        '  mkdir -p "$SCRATCH/$name"',
        '  "$LOAD" "$@" --quiet --results "$SCRATCH/$name" > "$OUT/$name.said" 2>&1',
        '  echo $? > "$OUT/$name.status"',
        '  for result in "$SCRATCH/$name"/*/*.json; do [ -e "$result" ] && mv "$result" "$OUT/$name.json"; done',
        "}",
        *setting_up(plan.setup),
    ]
    for run in random.Random(seed).sample(plan.runs, len(plan.runs)):
        flags = list(run.flags)
        if not any(flag.startswith("--seed=") for flag in flags):
            flags.append(f"--seed={seed}")
        if clock == "instructions":
            flags.append("--clock=instructions")
        lines.append(shlex.join(["run", run.name, *flags]))
    return "\n".join(lines) + "\ntrue\n"


def setting_up(commands):
    """The lines that run a plan's setup in the script's own shell, up to the first command of it that fails."""
    if not commands.strip():
        return []
    said = f'"$OUT/{SETUP_SAID}"'
    return [
        f"exec 3>&1 4>&2 > {said} 2>&1",
        # Whatever ends the shell meanwhile, an `exit` too.
        f"trap 'cat {said} >&3; exit {SETUP_FAILED}' EXIT",
        "set -e", commands, "set +e", "trap - EXIT", "exec >&3 2>&4 3>&- 4>&-", f"cat {said}",
    ]


def measure_here(plan, load, folder, seed, timeout_s):
    """Makes a plan's runs on the running kernel: (outcome, what went wrong, what a record says of each run).

    The outcome is done, failed (before the first run) or hung. Results go into `folder`.
    """
    out, scratch = folder / "out", folder / "scratch"
    out.mkdir()
    insert = "".join(
        f'modprobe {shlex.quote(name)} > "$OUT/{SETUP_SAID}" 2>&1 || exit {SETUP_FAILED}\n' for name in plan.modules
    )
    places = {"OUT": str(out), "LOAD": str(load), "SCRATCH": str(scratch)}
    done = subprocess.Popen(
        ["sh", "-c", insert + script(plan, seed, "real")], env={**os.environ, **places}, stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    status = None
    try:
        status = done.wait(timeout_s)
    except subprocess.TimeoutExpired:
        pass
    finally:
        if done.poll() is None:
            os.killpg(done.pid, signal.SIGKILL)
            done.wait()
    if status is None:
        outcome, why = "hung", f"the plan's runs did not end within {timeout_s} s"
        rows = sort_out(plan, out, folder, unmade=why)
    else:
        outcome, why, rows = ended(plan, status, out, folder)
    shutil.rmtree(out)
    shutil.rmtree(scratch, ignore_errors=True)
    return outcome, why, rows


def ended(plan, status, out, boot):
    """What came of a script that ended: (outcome, what went wrong, what a record says of each run)."""
    if status == 0:
        return "done", "", sort_out(plan, out, boot)
    why = f"what the plan sets up failed: {last_words(read_text(out / SETUP_SAID)) or f'status {status}, without a word'}"
    return "failed", why, all_failed(plan, why)


def all_failed(plan, why):
    """What a record says of each run where none was made."""
    return [{"label": run.label, "file": None, "status": "failed", "reason": why} for run in plan.runs]


def sort_out(plan, out, boot, unmade="it was never begun"):
    """Moves the results from what a script left in `out` to the boot's folder; what a record says of each run.

    `unmade` is said of runs that did not end.
    """
    rows = []
    for run in plan.runs:
        result, status = out / f"{run.name}.json", read_text(out / f"{run.name}.status").strip()
        words = last_words(read_text(out / f"{run.name}.said"))
        row = {"label": run.label, "file": None, "status": "failed", "reason": None}
        if result.exists():
            os.rename(result, boot / result.name)
            row |= {"file": result.name, "status": "done"}
        elif status == str(UNAVAILABLE):
            row |= {"status": "unavailable", "reason": words}
        else:
            row["reason"] = (words or f"ringsock-load ended with status {status}") if status else unmade
        rows.append(row)
    return rows


def last_words(text):
    """What a program said last of itself, without its name.

    >>> last_words("warning: x\\nringsock-load: it needs y\\n"), last_words("error: a\\n\\nUsage: b\\n"), last_words("")
    ('it needs y', 'a', '')
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = [line.split(": ", 1)[1] for line in lines if line.startswith(("ringsock-load: ", "error: "))]
    return (told or lines[-1:] or [""])[0][:REASON_CHARACTERS_MAX]


def read_text(path):
    return path.read_text(errors="replace") if path.exists() else ""


# ---- the order


def order(arms, boots, seed):
    """[(arm, boot)] in the order to boot: each round all arms, drawn by the seed, and the next one backwards (A B B A).

    >>> order(2, 3, 1), order(2, 3, 1) == order(2, 4, 1)[:6]
    ([(0, 0), (1, 0), (1, 1), (0, 1), (1, 2), (0, 2)], True)
    >>> sorted(order(3, 4, 7)) == [(arm, boot) for arm in range(3) for boot in range(4)]
    True
    """
    drawn, rounds = random.Random(seed), []
    for boot in range(boots):
        if boot % 2 == 0:
            rounds.append(drawn.sample(range(arms), arms))
        else:
            rounds.append(rounds[-1][::-1])
    return [(arm, boot) for boot, arms_of_round in enumerate(rounds) for arm in arms_of_round]


def boot_seed(seed, boot, copy):
    """The seed of a boot: the same for every kernel, and others for a kernel that is there again under another name.

    >>> boot_seed(1, 0, 0), boot_seed(1, 4, 0), boot_seed(1, 4, 1)
    (1, 5, 1000005)
    """
    return seed + boot + copy * 1_000_000


# ---- records


def no_guest():
    """What a record says of the machine where no QEMU made it."""
    command_line = Path("/proc/cmdline").read_text().split(" -- ")[0].strip()
    absent = dict.fromkeys(("memory_mib", "qemu", "accelerator", "cpu"))
    return {"vcpus": os.cpu_count(), **absent, "command_line": command_line, "guest_s": None}


def name_part(text):
    """
    >>> name_part("6.12.117+deb13-amd64"), name_part("net.ifnames=0"), name_part("../x y")
    ('6.12.117+deb13-amd64', 'net.ifnames=0', '.._x_y')
    """
    return re.sub(r"[^A-Za-z0-9.+=~-]", "_", text)


def unique(names):
    """
    >>> unique(["6.1", "6.12", "6.1", "6.1"])
    ['6.1', '6.12', '6.1-again', '6.1-again-2']
    """
    seen, made = {}, []
    for name in names:
        seen[name] = again = seen.get(name, -1) + 1
        made.append(name if again == 0 else f"{name}-again" if again == 1 else f"{name}-again-{again}")
    return made


def utc(moment=None, compact=False):
    """
    >>> moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    >>> utc(moment), utc(moment, compact=True)
    ('2026-01-02T03:04:05Z', '20260102T030405Z')
    """
    moment = moment or datetime.now(timezone.utc)
    return moment.strftime("%Y%m%dT%H%M%SZ" if compact else "%Y-%m-%dT%H:%M:%SZ")


def save(path, document, *, over=False):
    """Writes JSON whole or not at all; over another file only where that is said."""
    hidden = {"prefix": f".{path.name}.", "suffix": ".part", "delete": False}
    with tempfile.NamedTemporaryFile("w", dir=path.parent, **hidden) as part:
        json.dump(document, part, indent=1)
        part.write("\n")
        part.flush()
        os.fsync(part.fileno())
        os.chmod(part.name, 0o644)
    try:
        if over:
            os.replace(part.name, path)
        else:
            os.link(part.name, path)
            os.unlink(part.name)
    except FileExistsError:
        os.unlink(part.name)
        raise CannotMeasure(f"{path} is there already, and results are not overwritten: move it away") from None


def pack(path):
    """Replaces a file by itself packed: the same bytes for the same content."""
    with open(path, "rb") as plain, open(path.with_name(f"{path.name}.gz"), "xb") as packed:
        packed.write(gzip.compress(plain.read(), 9, mtime=0))
    path.unlink()
