"""The scripts beside this folder as modules, and the machines that its tests play to them. No test boots anything."""

import importlib.machinery
import importlib.util
import os
import sys
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(SCRIPTS))


def command(name):
    """A script without an ending, as a module."""
    loader = importlib.machinery.SourceFileLoader(f"command_{name.replace('-', '_')}", str(SCRIPTS / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    sys.modules[loader.name] = module
    # A test leaves nothing in the repository.
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = before
    return module


def program(folder, name, text):
    """A program that is found first under this name, once its folder is on PATH."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)
    return path


class Found:
    """While it is entered, programs are looked for here first."""

    def __init__(self, folder):
        self.folder = folder

    def __enter__(self):
        self.before = os.environ["PATH"]
        os.environ["PATH"] = f"{self.folder}{os.pathsep}{self.before}"

    def __exit__(self, *_):
        os.environ["PATH"] = self.before


def image(release):
    """The bytes of something with the head of a kernel image."""
    head = bytearray(0x300)
    head[0x202:0x206] = b"HdrS"
    head[0x20E:0x210] = (0x80).to_bytes(2, "little")
    return bytes(head[:0x280]) + f"{release} (somebody) #1\0".encode() + bytes(64)


# A ringsock-load that does as its --engine says: lacking, failing, or a result of its flags.
LOAD = """\
#!/bin/sh
engine=auto
results=
for word in "$@"; do
  case $word in
    --engine=*) engine=${word#--engine=};;
    --dry-run) [ "$engine" = wrong ] && { echo "ringsock-load: no such engine" >&2; exit 2; }; exit 0;;
  esac
  [ "$last" = --results ] && results=$word
  last=$word
done
case $engine in
  lacking) echo "ringsock-load: the engine lacking needs more" >&2; exit 4;;
  failing) echo "ringsock-load: it broke" >&2; exit 1;;
esac
mkdir -p "$results/release"
echo "{\\"flags\\": \\"$*\\"}" > "$results/release/time-echo.json"
"""
PLAN = """\
connections = 4
[[run]]
label = "good"
engine = "good"
[[run]]
label = "lacking"
engine = "lacking"
[[run]]
label = "failing"
engine = "failing"
"""
