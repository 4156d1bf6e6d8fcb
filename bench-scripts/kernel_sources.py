"""Finds a kernel by what a person calls it, fetching it where it is not on this machine.

Kept: the machine's own packages and apt sources stay as they are (packages are unpacked into a cache, with an apt
state of the cache's own), and what was fetched once is taken from the cache from then on, so a name means the same
kernel until somebody asks for a fresh look. Only x86-64 kernels, and only mirrors that the machine's apt knows or a
flag names. Tested by its examples: python3 -m doctest bench-scripts/kernel_sources.py
"""

import hashlib
import json
import os
import re
import shutil
import struct
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from interleaved import ROOT, CannotMeasure

META = "linux-image-cloud-amd64"
# Debian's suites, oldest first, and whether they have a suite of security updates beside them.
SUITES = {"bullseye": True, "bookworm": True, "trixie": True, "sid": False}
# Where the kernels are that people ask for most; others are looked for in all suites.
SHORT = {"5.10": "bullseye", "6.1": "bookworm", "6.12": "trixie", "newest": "sid"}
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# Of a kernel package's dependencies, the ones that hold parts of the kernel itself (split up since Linux 7).
PARTS = re.compile(r"linux-(image|binary|modules)-")
FETCH_SECONDS_MAX = 600
MEND = "name a vmlinuz, a .deb or an installed release instead"


class CannotFind(CannotMeasure):
    """There is no such kernel to be had; says what mends it."""


@dataclass(frozen=True)
class Kernel:
    """A kernel that can be booted."""

    # What folders and tables call it: its release.
    label: str
    # What its `uname -r` says.
    release: str
    vmlinuz: Path
    # Where it is from: a path, or package, version and suite.
    source: str
    # Of vmlinuz.
    sha256: str
    # lib/modules/RELEASE, where it is known.
    modules_root: Path | None = None


def spec_and_options(words):
    """What `resolve` takes and the boot options after it, of 'KERNEL OPTIONS'; as much as is a path is the kernel.

    >>> spec_and_options("6.12  mitigations=off nosmt"), spec_and_options("6.12"), spec_and_options(" ")
    (('6.12', 'mitigations=off nosmt'), ('6.12', ''), ('', ''))
    """
    words = words.strip()
    for end in [len(words), *(space.start() for space in reversed(list(re.finditer(r"\s+", words))))]:
        if words and os.path.exists(words[:end]):
            return words[:end], words[end:].strip()
    spec, options = (words.split(maxsplit=1) + ["", ""])[:2]
    return spec, options


def resolve(spec, cache=None, *, mirror=None, refresh=False):
    """The kernel that `spec` names.

    A path of a kernel image, of a .deb or of a built kernel tree; the release of an installed kernel; a Debian package,
    as `linux-image-6.1-cloud-amd64@bookworm` or without a suite from the machine's own sources; or in short 5.10, 6.1,
    6.12 ... or newest, for Debian's cloud kernels. `cache` is the folder for what is fetched (by default
    `kernels` in cargo's target folder), `mirror` the URL of a Debian mirror, for machines whose apt has
    none; `refresh` looks again for a newer version of what the cache has. CannotFind names what mends it.
    """
    cache = Path(cache or target_folder() / "kernels").absolute()
    path = Path(spec)
    if path.is_dir():
        image = path / "arch/x86/boot/bzImage"
        if not image.is_file():
            raise CannotFind(f"{spec} is a folder, and has no {image.relative_to(path)}: build a kernel there first")
        return of_image(image, str(image), None)
    if path.is_file():
        if path.suffix == ".deb":
            return of_deb(path, cache)
        return of_image(path, str(path.absolute()), modules_beside(path))
    if "/" in spec:
        raise CannotFind(f"there is no file {spec}")
    for image in (Path(f"/boot/vmlinuz-{spec}"), Path(f"/lib/modules/{spec}/vmlinuz")):
        if image.is_file():
            return of_image(image, str(image), modules_beside(image))
    return of_package(spec, cache, mirror, refresh)


def of_image(image, source, modules_root):
    """A kernel image's own word on what it is."""
    data = image.read_bytes()
    release = release_of(data)
    if release is None:
        raise CannotFind(f"{image} is no x86 kernel image (bzImage): name a vmlinuz")
    return Kernel(release, release, image.absolute(), source, hashlib.sha256(data).hexdigest(), modules_root)


def release_of(image):
    """The release in the head of a bzImage, None of anything else (Documentation/arch/x86/boot.rst: kernel_version).

    >>> release_of(bytes(0x202) + b"HdrS" + bytes(8) + (0x100).to_bytes(2, "little") + bytes(0xf0) + b"6.1.7 (x) #1\\0")
    '6.1.7'
    >>> release_of(b"MZ") is None
    True
    """
    if image[0x202:0x206] != b"HdrS":
        return None
    at = 0x200 + struct.unpack_from("<H", image, 0x20E)[0]
    words = image[at : at + 200].split(b"\0")[0].split()
    return words[0].decode(errors="replace") if words else None


def modules_beside(image):
    """The folder of modules that goes with an installed or unpacked image."""
    data = image.read_bytes()
    release = release_of(data) or "?"
    places = [image.parent, image.parent.parent / "lib/modules" / release, Path("/lib/modules") / release]
    return next((place for place in places if (place / "kernel").is_dir()), None)


def of_deb(path, cache):
    """The kernel in a package file; its modules, if it is of one that has them beside it."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    folder = unpack([path], cache / "packages" / f"{path.stem}_{digest}")
    return replace(of_tree(folder, str(path.absolute())), source=str(path.absolute()))


def of_tree(folder, source):
    """The kernel in an unpacked package."""
    places = ("boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz", "lib/modules/*/vmlinuz")
    images = [image for place in places for image in folder.glob(place)]
    if not images:
        raise CannotFind(f"{source} holds no kernel image; since Linux 7 it is in Debian's linux-binary-* packages")
    kernel = of_image(images[0], source, None)
    roots = [folder / "lib/modules" / kernel.release, folder / "usr/lib/modules" / kernel.release]
    return replace(kernel, modules_root=next((root for root in roots if (root / "kernel").is_dir()), None))


def unpack(debs, folder):
    """Unpacks packages into one folder, whole or not at all."""
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpacking-") as scratch:
        tree = Path(scratch) / "tree"
        for deb in debs:
            command(["dpkg-deb", "-x", deb, tree], f"{deb} cannot be unpacked: is it a whole package?")
        try:
            os.rename(tree, folder)
        except OSError:
            # Another process was quicker.
            if not folder.is_dir():
                raise
    return folder


# ---- Debian's packages


def of_package(spec, cache, mirror, refresh):
    """A kernel by the name of a package, from the cache if it was fetched before."""
    known = cache / "names" / f"{re.sub('[^A-Za-z0-9.+@-]', '_', spec)}.json"
    if known.is_file() and not refresh:
        found = json.loads(known.read_text())
        folder = cache / "packages" / found["folder"]
        if folder.is_dir():
            return of_tree(folder, found["source"])
    for tool in ("apt-get", "apt-cache", "dpkg-deb"):
        if not shutil.which(tool):
            raise CannotFind(f"{spec} is not on this machine, and without {tool} it cannot be fetched: {MEND}")
    package, suite = package_of(spec, cache, mirror)
    apt = Apt(cache, suite, mirror)
    found = fetch(apt, package, suite, cache)
    known.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(known, json.dumps(found) + "\n")
    return of_tree(cache / "packages" / found["folder"], found["source"])


def split(spec):
    """Package (or None, if only a version is named), suite and version that a spec names.

    >>> split("6.1"), split("newest"), split("6.7"), split("6.12@bookworm")
    ((None, 'bookworm', '6.1'), (None, 'sid', None), (None, None, '6.7'), (None, 'bookworm', '6.12'))
    >>> split("linux-image-amd64@sid"), split("linux-image-amd64")
    (('linux-image-amd64', 'sid', None), ('linux-image-amd64', None, None))
    """
    package, _, suite = spec.partition("@")
    if package == "newest" or re.fullmatch(r"\d+\.\d+", package):
        return None, suite or SHORT.get(package), package if package != "newest" else None
    return package, suite or None, None


def package_of(spec, cache, mirror):
    """The package and the suite (None: the machine's own sources) to fetch for a spec."""
    package, suite, version = split(spec)
    if package:
        return package, suite
    seen = []
    for place in [suite] if suite else reversed(SUITES):
        apt = Apt(cache, place, mirror)
        apt.update()
        has = apt.version(META)
        if has and (version is None or has.startswith(f"{version}.")):
            return META, place
        named = f"linux-image-{version}-cloud-amd64"
        if version and apt.version(named):
            return named, place
        seen.append(f"{place} has {has}")
    raise CannotFind(f"no cloud kernel {spec} in Debian ({'; '.join(seen)}): {MEND}")


class Apt:
    """apt for one suite with its security updates, or for the machine's own sources (None); in a state of its own."""

    def __init__(self, cache, suite, mirror):
        self.suite = suite
        self.state = cache / "apt" / (suite or "own")
        for name in ("lists/partial", "archives/partial"):
            (self.state / name).mkdir(parents=True, exist_ok=True)
        (self.state / "status").touch()
        places = {
            "Dir::State": self.state, "Dir::State::lists": self.state / "lists",
            "Dir::State::status": self.state / "status", "Dir::Cache": self.state, "APT::Architecture": "amd64",
            "Acquire::Languages": "none", "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
            # As root apt would fetch as a user of its own, who may not write here.
            "APT::Sandbox::User": "root",
        }
        if suite:
            listed = self.state / "sources.list"
            write_atomically(listed, sources(suite, mirror or machines_mirrors()))
            places |= {"Dir::Etc::sourcelist": listed, "Dir::Etc::sourceparts": "-"}
        self.options = [part for key, value in places.items() for part in ("-o", f"{key}={value}")]

    def update(self):
        where = f"suite {self.suite}" if self.suite else "the machine's own sources"
        command(
            ["apt-get", *self.options, "-qq", "-o", "APT::Update::Error-Mode=any", "update"] if self.suite else
            ["apt-get", *self.options, "-qq", "update"],
            f"the package lists of {where} cannot be fetched: is there a network, and does the mirror still carry it? "
            f"Name another with --mirror, or {MEND}",
        )

    def show(self, package):
        """The fields of the newest version of a package; empty if there is none."""
        text = self.query("show", "--no-all-versions", package)
        return dict(re.findall(r"^([A-Za-z-]+): (.*)$", text.split("\n\n")[0], re.MULTILINE))

    def version(self, package):
        return self.show(package).get("Version")

    def query(self, *words):
        return subprocess.run(["apt-cache", *self.options, *words], capture_output=True, text=True).stdout


def fetch(apt, package, suite, cache):
    """Fetches a kernel package and the parts of the kernel it depends on; {"folder", "source"} in the cache."""
    apt.update()
    where = f"suite {suite}" if suite else "the machine's own sources"
    wanted, left = {}, [package]
    while left:
        name = left.pop()
        if name in wanted:
            continue
        fields = apt.show(name)
        if not fields:
            raise CannotFind(f"there is no package {name} in {where}: name another suite as {package}@SUITE, or {MEND}")
        wanted[name] = fields["Version"]
        depends = re.split(r"\s*[,|]\s*", fields.get("Depends", ""))
        left += [part.split()[0] for part in depends if PARTS.match(part)]
    # What only points at others has nothing to unpack.
    parts = {name: version for name, version in wanted.items() if re.search(r"-\d", name)} or wanted
    main = next((name for name in parts if name.startswith("linux-image-")), package)
    folder = cache / "packages" / f"{main}_{parts.get(main, wanted[package])}"
    if not folder.is_dir():
        with tempfile.TemporaryDirectory(dir=apt.state) as scratch:
            names = [f"{name}={version}" for name, version in parts.items()]
            failed = f"{', '.join(names)} of {where} cannot be fetched: is there a network? Otherwise {MEND}"
            command(["apt-get", *apt.options, "-qq", "download", *names], failed, folder=scratch)
            unpack(sorted(Path(scratch).glob("*.deb")), folder)
    return {"folder": folder.name, "source": f"{main} {wanted[main]} {suite or ''}".strip()}


def machines_mirrors():
    """(mirror, security mirror or None) of Debian in the machine's apt sources."""
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"], capture_output=True, text=True
    )
    return chosen_mirrors(listed.stdout.split())


def chosen_mirrors(uris):
    """
    >>> chosen_mirrors(["http://x/tools/", "http://m/debian/", "http://m/debian-security/"])
    ('http://m/debian', 'http://m/debian-security')
    >>> chosen_mirrors(["http://x/ubuntu/"])
    Traceback (most recent call last):
    kernel_sources.CannotFind: apt on this machine knows no Debian mirror: name one with --mirror URL
    """
    uris = [uri.rstrip("/") for uri in uris]
    own = next((uri for uri in uris if uri.endswith("/debian")), None)
    if own is None:
        raise CannotFind("apt on this machine knows no Debian mirror: name one with --mirror URL")
    return own, next((uri for uri in uris if uri.endswith("/debian-security")), None)


def sources(suite, mirrors):
    """The lines of a sources.list for a suite and its security updates.

    >>> print(sources("trixie", ("http://m/debian", "http://m/debian-security")).replace(f"[signed-by={KEYRING}] ", ""))
    deb http://m/debian trixie main
    deb http://m/debian-security trixie-security main
    <BLANKLINE>
    """
    own, security = mirrors if isinstance(mirrors, tuple) else (mirrors.rstrip("/"), None)
    signed = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
    lines = [f"deb {signed}{own} {suite} main"]
    if security and SUITES.get(suite):
        lines.append(f"deb {signed}{security} {suite}-security main")
    return "\n".join(lines) + "\n"


# ---- small things


def target_folder():
    """Cargo's, where all is kept that can be made again."""
    return Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target").absolute()


def command(words, failed, folder=None):
    """Runs a tool; CannotFind with `failed` and its last words if it fails."""
    try:
        done = subprocess.run(
            [str(word) for word in words], cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", timeout=FETCH_SECONDS_MAX,
        )
    except subprocess.TimeoutExpired:
        raise CannotFind(f"{failed} ({words[0]} did not end within {FETCH_SECONDS_MAX} s)") from None
    if done.returncode != 0:
        said = [line for line in done.stdout.splitlines() if line.startswith("E:")] or done.stdout.splitlines()[-1:]
        raise CannotFind(f"{failed} ({' '.join(said[:2])})")


def write_atomically(path, text):
    """Writes a file whole or not at all, over an older one."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as part:
        part.write(text)
        part.flush()
        os.fsync(part.fileno())
    os.replace(part.name, path)
