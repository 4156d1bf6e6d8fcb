"""The servers that people would pick instead, for the scripts that measure ours against them: what each is, and how to get it.

Their sources are in peers.d, a Cargo and npm package of its own with exact versions and lock files; their programs go to
peers.d/target and peers.d/node_modules. A peer that cannot be had here is reported with the reason, and hinders no other.
Deliberately absent: what is measured of them, and what their figures ought to be.
"""

import shutil
import subprocess
import sys
from dataclasses import dataclass

import guests
from interleaved import ROOT, CannotMeasure, Contender, cargo_build

PACKAGE = ROOT / "bench-scripts" / "peers.d"


@dataclass(frozen=True)
class Peer:
    """A peer of the package: what it is, for the table and the summary."""

    kind: str
    io: str
    batched: bool
    # Names of the features that it has, with everything that a cell asks of them.
    able: tuple = ()

    @property
    def note(self):
        return f"{self.io}, {'batched' if self.batched else 'one write a message'}"

    def contender(self, name, program):
        return Contender(name, (*program, "{address}"), able=tuple((it, FLAGS[it]) for it in self.able))


FLAGS = {"broadcast": (), "deflate": ("--deflate",), "tls": ("--tls", "{certificate}", "{key}")}


# soketto compresses each message by itself alone. compio and monoio have TLS in crates of their own; without it they are
# far from the best, and are not set up with it here.
PEERS = {
    "fastwebsockets": Peer("rust", "epoll", False, ("broadcast", "tls")),
    "tokio-tungstenite": Peer("rust", "epoll", True, ("broadcast", "tls")),
    "tokio-websockets": Peer("rust", "epoll", True, ("broadcast", "tls")),
    "sockudo-ws": Peer("rust", "epoll", True, ("broadcast", "deflate", "tls")),
    "yawc": Peer("rust", "epoll", True, ("broadcast", "deflate", "tls")),
    "soketto": Peer("rust", "epoll", True, ("broadcast", "tls")),
    "compio-ws": Peer("rust", "io_uring", True, ("broadcast",)),
    "monoio-tungstenite": Peer("rust", "io_uring", False, ("broadcast",)),
    "node-ws": Peer("node", "epoll", False, ("broadcast", "deflate", "tls")),
    "bun": Peer("bun", "epoll", True, ("broadcast", "deflate", "tls")),
}


# ---- building and installing


def peers(wanted):
    """Peers that could be built or installed, and of the others why not."""
    ready, missing = [], {}
    for kind, prepare in {"rust": build_rust, "node": install_node, "bun": install_bun}.items():
        names = [name for name in wanted if PEERS[name].kind == kind]
        try:
            programs = prepare(names) if names else {}
        except CannotMeasure as error:
            missing |= {name: str(error) for name in names}
            continue
        ready += [PEERS[name].contender(name, programs[name]) for name in names]
    return sorted(ready, key=lambda peer: wanted.index(peer.name)), missing


def build_rust(names, static=False):
    """The peers' programs; `static` ones in a target folder of their own, for other flags build everything anew."""
    print("building the peers in Rust", file=sys.stderr)
    flags = ["--locked", "--target-dir", PACKAGE / "target" / ("static" if static else "")]
    for name in names:
        flags += ["--bin", name]
    env = {}
    if static:
        flags += ["--target", guests.TRIPLE]
        env = {"RUSTFLAGS": "-C target-feature=+crt-static"}
    return {name: (program,) for name, program in cargo_build(*flags, folder=PACKAGE, env=env).items()}


def install_node(names):
    node = shutil.which("node")
    if not node:
        raise CannotMeasure("there is no node here (Debian: apt-get install nodejs npm)")
    npm_install()
    return {"node-ws": (node, str(PACKAGE / "ws.cjs"))}


def install_bun(names):
    """Bun's program comes in a package for each platform, of which npm installs those that fit."""
    npm_install()
    for program in sorted((PACKAGE / "node_modules" / "@oven").glob("*/bin/bun")):
        if subprocess.run([program, "--version"], capture_output=True).returncode == 0:
            return {"bun": (str(program), str(PACKAGE / "bun.js"))}
    raise CannotMeasure("npm installed no bun that runs on this machine")


def npm_install():
    """What package-lock.json says, unless it is there; no install scripts are run, for none is needed."""
    installed, lock = PACKAGE / "node_modules" / ".package-lock.json", PACKAGE / "package-lock.json"
    if installed.exists() and installed.stat().st_mtime >= lock.stat().st_mtime:
        return
    npm = shutil.which("npm")
    if not npm:
        raise CannotMeasure("there is no npm here (Debian: apt-get install npm)")
    print("installing the peers in JavaScript", file=sys.stderr)
    if subprocess.run([npm, "ci", "--silent", "--ignore-scripts"], cwd=PACKAGE, stdout=sys.stderr).returncode != 0:
        raise CannotMeasure("npm could not install package-lock.json: is a registry reachable?")
    installed.touch()
