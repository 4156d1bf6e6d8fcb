"""Boots kernels in QEMU to run a script in each: from a kernel, some files and a script to the files it left behind.

    kernel = guests.resolve("6.12")
    binaries = guests.static_binaries(["ringsock-load"])
    boot = guests.boot(kernel, {"bin/ringsock-load": binaries["ringsock-load"]}, "ringsock-load --results /out",
                       out=folder / "out", console=folder / "console.log", seed=1)
    boot.outcome == "done" and boot.status == 0

Kept: with the clock `instructions` a guest sees nothing of the host, neither its time nor its names nor its load, so
what a boot leaves behind is the same bit for bit whenever kernel, files, script, seed and QEMU are. Its clock counts
its instructions, a nanosecond each, so its figures are lengths of paths and no times. With the clock `real` its time is
the host's, in KVM where a kernel was seen to boot in it and emulated otherwise. A guest that hangs or panics is told as
such, never raised, and so is a QEMU that crashes. Nothing is written but the files named, and every QEMU started here
is ended here. The parts that need no QEMU are tested by their examples: python3 -m doctest bench-scripts/guests.py
"""

import gzip
import hashlib
import io
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import tarfile
import tempfile
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

import initramfs
from interleaved import LIBC, PR_SET_PDEATHSIG, CannotMeasure, cargo_build
from kernel_sources import CannotFind, Kernel, resolve, spec_and_options, target_folder, write_atomically

__all__ = [
    "Boot", "CannotFind", "CannotMeasure", "Kernel", "accelerator", "boot", "qemu_version", "resolve",
    "spec_and_options", "static_binaries", "surroundings", "target_folder",
]

QEMU = "qemu-system-x86_64"
TRIPLE = "x86_64-unknown-linux-gnu"
CLOCKS = ("instructions", "real")
# Repeated string instructions count once for each byte that they move: without these two the kernel copies in others,
# and a copy costs about what it does on a processor.
INSTRUCTIONS_CPU = "max,-erms,-fsrm"
# Where the clock of every guest in instruction time begins.
INSTRUCTIONS_EPOCH = "2026-01-01"
MEMORY_MIB = 512
TIMEOUT_S = 300
# A kernel that KVM runs is up in a second or two; one that it does not run hangs.
KVM_PROBE_SECONDS_MAX = 20
STOP_SECONDS_MAX = 10
TAIL_LINES = 25
PT_INTERP = 3
# What a guest writes to its second serial port: this, the script's exit status, its uptime in s; then a tar, packed.
HEADING = re.compile(rb"RINGSOCK-OUT/1 (\d+) ([0-9.]+)\n")
INIT = """\
#!/bin/busybox sh
# Every guest's first process: sets up what programs expect, runs /script, hands /out over, and switches off.
/bin/busybox --install -s /bin
export PATH=/bin HOME=/ TERM=dumb
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm /out
mount -t tmpfs tmp /tmp
hostname guest
ulimit -n 1048576
ip link set lo up
status=
for module in /modules/*; do
  [ -e "$module" ] || continue
  insmod "$module" > /out/setup.said 2>&1 || { status=70; cat /out/setup.said; break; }
done
# Kernels were seen to keep the CPU busy until 2.7 s, beyond the start of this; which work it is was not looked into.
# Whatever is run meanwhile is slow by that. So wait until half a second was idle, for 20 s at most.
idle_cs() { awk '{ printf "%d", $2 * 100 }' /proc/uptime; }
for turn in $(seq 40); do
  before=$(idle_cs)
  sleep 0.5
  [ "$(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)" = tsc-early ] && continue
  [ $(($(idle_cs) - before)) -ge 45 ] && break
done
cd /
[ "$status" ] || { sh /script; status=$?; }
read -r uptime idle < /proc/uptime
stty -F /dev/ttyS1 raw -echo
{ echo "RINGSOCK-OUT/1 $status $uptime"; tar -C /out -cf - . | gzip -1; } > /dev/ttyS1
poweroff -f
"""


@dataclass(frozen=True)
class Boot:
    """What came of a boot."""

    # done: the script ended, whatever its status, and its files are here. panicked, hung, crashed (QEMU itself), ended
    # (without a word).
    outcome: str
    # The script's exit status, 70 if a module could not be inserted (see /out/setup.said); None unless done.
    status: int | None
    # The guest's time at the end, since it was switched on; None unless done.
    guest_s: float | None
    # The host's.
    took_s: float
    # tcg or kvm.
    accelerator: str
    cpu: str
    # What the kernel was booted with.
    command_line: str
    # The last lines of the console, and QEMU's own after them if it crashed.
    tail: str

    def why(self, timeout_s):
        """What went wrong, in a sentence."""
        last = self.tail.splitlines()[-1] if self.tail else "nothing"
        return {
            "done": f"the script ended with status {self.status}",
            "panicked": "the kernel panicked",
            "crashed": f"QEMU crashed; its last words: {last}",
            "hung": f"the guest did not end within {timeout_s:.0f} s",
            "ended": f"the guest ended before its script did; its last words: {last}",
        }[self.outcome]


def boot(
    kernel, files, script, *, out, console, seed=1, clock="instructions", vcpus=1, memory_mib=MEMORY_MIB, append="",
    modules=(), timeout_s=TIMEOUT_S, accelerator="tcg",
):
    """Boots a kernel, runs a shell script in it, and brings back what that left in /out.

    `files` is by path in the guest: bytes, text, or the Path of a file here; programs have to be static. `out` is a
    folder to be made, `console` a file; both must not exist. `append` goes on the kernel's command line, `modules` are
    inserted before the script runs. `accelerator` is for the clock `real` alone, see the function of that name.
    """
    if clock not in CLOCKS:
        raise ValueError(f"clock {clock}: one of {', '.join(CLOCKS)}")
    accelerator = "tcg" if clock == "instructions" else accelerator
    cpu = INSTRUCTIONS_CPU if clock == "instructions" else {"kvm": "host"}.get(accelerator, "max")
    command_line = f"console=ttyS0 panic=-1 {append}".strip()
    with tempfile.TemporaryDirectory(prefix="ringsock-guest-") as scratch:
        scratch = Path(scratch)
        (scratch / "initrd").write_bytes(contents(kernel, files, script, modules))
        command = [
            qemu(), "-no-user-config", "-nodefaults", "-display", "none", "-no-reboot", "-nic", "none",
            "-machine", "pc", "-m", str(memory_mib), "-smp", str(vcpus), "-cpu", cpu,
            *clock_flags(clock, accelerator, seed),
            "-kernel", str(kernel.vmlinuz), "-initrd", str(scratch / "initrd"), "-append", command_line,
            "-serial", f"file:{scratch / 'console'}", "-serial", f"file:{scratch / 'out'}",
        ]
        began = time.monotonic()
        ended, crash = run(command, timeout_s)
        took_s = time.monotonic() - began
        said = read_if_there(scratch / "console")
        left = handed_over(read_if_there(scratch / "out"))
        with open(console, "xb") as file:
            file.write(said)
    text = said.decode(errors="replace").replace("\r", "")
    tail = "\n".join([*text.splitlines(), *crash.splitlines()][-TAIL_LINES:])
    if left is None:
        panicked = "Kernel panic - not syncing" in text
        outcome = "panicked" if panicked else "crashed" if crash else "ended" if ended else "hung"
        return Boot(outcome, None, None, took_s, accelerator, cpu, command_line, tail)
    status, guest_s, archive = left
    out.mkdir()
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(out, filter="data")
    return Boot("done", status, guest_s, took_s, accelerator, cpu, command_line, tail)


def clock_flags(clock, accelerator, seed):
    """QEMU's flags that make a guest's clock; in instruction time, all that may differ from boot to boot is in `seed`.

    >>> "sleep=off" in " ".join(clock_flags("instructions", "tcg", 7)), clock_flags("real", "kvm", 7)
    (True, ['-accel', 'kvm', '-rtc', 'base=utc'])
    """
    if clock == "instructions":
        return [
            "-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off", "-seed", str(seed),
            "-rtc", f"base={INSTRUCTIONS_EPOCH},clock=vm",
        ]
    return ["-accel", "tcg,thread=single" if accelerator == "tcg" else accelerator, "-rtc", "base=utc"]


def contents(kernel, files, script, modules):
    """The bytes of a guest's initramfs."""
    entries = {"init": INIT, "script": script, "bin/busybox": busybox().read_bytes(), "bin/sh": "-> busybox"}
    # Mount points, which exist once something is in them.
    entries |= {f"{folder}/.keep": b"" for folder in ("proc", "sys", "dev", "tmp")}
    for name, content in files.items():
        data = content.read_bytes() if isinstance(content, Path) else content
        if isinstance(data, bytes) and is_dynamic(data):
            raise CannotMeasure(f"{content} needs shared libraries, which no guest has: name a static program")
        entries[name.lstrip("/")] = data
    for place, (name, data) in enumerate(initramfs.modules(modules, kernel.modules_root) if modules else ()):
        entries[f"modules/{place:02}-{name}.ko"] = data
    return initramfs.archive(entries)


def surroundings(kernel):
    """A digest of what is in every guest beside what a caller puts there: its init and busybox, which shift its layout."""
    return hashlib.sha256(contents(kernel, {}, "", ())).hexdigest()[:16]


def run(command, timeout_s):
    """Runs QEMU for so long at most: whether it ended by itself, and its last words if it then did so with an error."""
    with tempfile.TemporaryFile() as words:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=words, stderr=subprocess.STDOUT, start_new_session=True,
            preexec_fn=lambda: LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
        )
        try:
            process.wait(timeout_s)
            ended = True
        except subprocess.TimeoutExpired:
            ended = False
        finally:
            stop(process)
        words.seek(0)
        said = words.read().decode(errors="replace").strip()
    crashed = ended and process.returncode != 0
    return ended, (said or f"status {process.returncode}, without a word") if crashed else ""


def stop(process):
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def read_if_there(path):
    return path.read_bytes() if path.exists() else b""


def handed_over(data):
    """What a guest wrote to its second serial port: (exit status, uptime in s, tar), or None unless it is whole.

    >>> whole = b"RINGSOCK-OUT/1 0 3.25\\n" + gzip.compress(b"the tar")
    >>> handed_over(whole), handed_over(whole[:-1]), handed_over(b"")
    ((0, 3.25, b'the tar'), None, None)
    """
    heading = HEADING.match(data)
    if not heading:
        return None
    packed = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        archive = packed.decompress(data[heading.end() :])
    except zlib.error:
        return None
    return (int(heading[1]), float(heading[2]), archive) if packed.eof else None


# ---- what is needed of the machine


def qemu():
    found = shutil.which(QEMU)
    if not found:
        raise CannotMeasure(f"there is no {QEMU} on this machine; as root: apt-get install qemu-system-x86")
    return found


def qemu_version():
    """Such as `7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)`: part of what decides a boot's every bit."""
    said = subprocess.run([qemu(), "--version"], stdout=subprocess.PIPE, text=True).stdout
    return said.splitlines()[0].removeprefix("QEMU emulator version ").strip()


def busybox():
    """A busybox that needs nothing else."""
    for place in (shutil.which("busybox"), "/bin/busybox", "/usr/lib/busybox/busybox-static"):
        if place and Path(place).is_file() and not is_dynamic(Path(place).read_bytes()):
            return Path(place).resolve()
    raise CannotMeasure("guests need a static busybox; as root: apt-get install busybox-static")


def is_dynamic(data):
    """Whether this is a 64-bit ELF program that names a dynamic loader.

    >>> head = b"\\x7fELF\\2" + bytes(27) + (64).to_bytes(8, "little") + bytes(14) + b"\\x38\\0\\1\\0" + bytes(6)
    >>> is_dynamic(head + b"\\3" + bytes(55)), is_dynamic(head + b"\\1" + bytes(55)), is_dynamic(b"#!/bin/sh")
    (True, False, False)
    """
    if data[:5] != b"\x7fELF\2":
        return False
    table = struct.unpack_from("<Q", data, 32)[0]
    size, count = struct.unpack_from("<HH", data, 54)
    return any(struct.unpack_from("<I", data, table + k * size)[0] == PT_INTERP for k in range(count))


def static_binaries(names, tests=()):
    """Builds programs of this repository, and tests as programs, so that they run in any guest: paths by name.

    In a target folder of its own, for other flags would have everything else built anew.
    """
    built = cargo_build(
        "--target", TRIPLE, "--config", 'profile.release.strip="symbols"', *(f"--bin={name}" for name in names),
        *(f"--test={name}" for name in tests),
        env={"RUSTFLAGS": "-C target-feature=+crt-static", "CARGO_TARGET_DIR": str(target_folder() / "static")},
    )
    return {name: Path(built[name]) for name in [*names, *tests]}


def accelerator(kernel, cache=None):
    """kvm if this machine's KVM was seen to run `kernel`, else tcg; tried once, and kept in the cache.

    That /dev/kvm is there says little: nested, it may not run what a kernel starts with.
    """
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    cache = Path(cache or target_folder() / "kernels")
    known = cache / "kvm.json"
    answers = json.loads(known.read_text()) if known.exists() else {}
    key = f"{kernel.sha256} on {os.uname().release} in QEMU {qemu_version()}"
    if key not in answers:
        with tempfile.TemporaryDirectory() as scratch:
            places = {"out": Path(scratch) / "out", "console": Path(scratch) / "console"}
            tried = boot(
                kernel, {}, "true\n", **places, clock="real", accelerator="kvm", timeout_s=KVM_PROBE_SECONDS_MAX
            )
            answers[key] = tried.outcome == "done"
        cache.mkdir(parents=True, exist_ok=True)
        write_atomically(known, json.dumps(answers, indent=1) + "\n")
    return "kvm" if answers[key] else "tcg"
