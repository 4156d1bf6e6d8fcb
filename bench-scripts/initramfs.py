"""Makes the initramfs of a guest: a cpio archive whose bytes depend on nothing but what is put in.

Kept: owner, times, order and inode numbers are the same on every machine, so two guests made of the same files start
alike to the last instruction. Kernel modules go in unpacked and with what they depend on, for the guest's insmod can
neither unpack nor search. Not compressed: the guest would have to spend its time on unpacking. Tested by its examples:
python3 -m doctest bench-scripts/initramfs.py
"""

import lzma
import re
import shutil
import subprocess
from pathlib import Path, PurePosixPath

from interleaved import CannotMeasure

TRAILER = "TRAILER!!!"
FOLDER_MODE, FILE_MODE, PROGRAM_MODE, LINK_MODE, CONSOLE_MODE = 0o040755, 0o100644, 0o100755, 0o120777, 0o020600
# Of /dev/console, which the kernel opens for init before anything is mounted.
CONSOLE_DEVICE = (5, 1)


class Missing(CannotMeasure):
    """Something that was asked into a guest is not there; says what mends it."""


def archive(entries):
    """The bytes of a cpio archive ("newc", Documentation/driver-api/early-userspace/buffer-format.rst in Linux).

    `entries` is by path in the guest, without a leading `/`: bytes are a program, a str starting with `->` is a
    symbolic link, another str is text. Folders above them are made.

    >>> made = archive({"bin/sh": b"\\x7fELF", "init": "#!/bin/sh", "sbin": "-> bin"})
    >>> made[:6], len(made) % 512, made == archive({"sbin": "-> bin", "init": "#!/bin/sh", "bin/sh": b"\\x7fELF"})
    (b'070701', 0, True)
    >>> [name for name, _, _ in members(made)]
    ['bin', 'dev', 'dev/console', 'bin/sh', 'init', 'sbin', 'TRAILER!!!']
    >>> [data for _, mode, data in members(made) if mode == PROGRAM_MODE]
    [b'\\x7fELF', b'#!/bin/sh']
    """
    folders = {str(parent) for name in [*entries, "dev/console"] for parent in PurePosixPath(name).parents}
    rows = [(folder, FOLDER_MODE, b"", (0, 0)) for folder in sorted(folders - {"."})]
    rows.append(("dev/console", CONSOLE_MODE, b"", CONSOLE_DEVICE))
    for name, content in sorted(entries.items()):
        if isinstance(content, str) and content.startswith("->"):
            rows.append((name, LINK_MODE, content[2:].strip().encode(), (0, 0)))
        else:
            data = content.encode() if isinstance(content, str) else content
            is_program = data.startswith((b"\x7fELF", b"#!"))
            rows.append((name, PROGRAM_MODE if is_program else FILE_MODE, data, (0, 0)))
    rows.append((TRAILER, 0, b"", (0, 0)))
    made = b"".join(member(inode, *row) for inode, row in enumerate(rows, 1))
    return made + bytes(-len(made) % 512)


def member(inode, name, mode, data, device):
    """One file: a header of hexadecimal numbers, its name and its content, each to a multiple of four bytes."""
    named = name.encode() + b"\0"
    # inode, mode, owner, group, links, time, size, device of the file system, device, length of the name, checksum
    numbers = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(named), 0)
    header = b"070701" + b"".join(b"%08X" % number for number in numbers) + named
    return header + bytes(-len(header) % 4) + data + bytes(-len(data) % 4)


def members(made):
    """(name, mode, content) of each member of an archive made here, the trailer included."""
    at = 0
    while True:
        numbers = [int(made[at + 6 + 8 * k : at + 14 + 8 * k], 16) for k in range(13)]
        mode, size, name_bytes = numbers[1], numbers[6], numbers[11]
        name = made[at + 110 : at + 110 + name_bytes - 1].decode()
        begin = at + (110 + name_bytes + 3) // 4 * 4
        yield name, mode, made[begin : begin + size]
        if name == TRAILER:
            return
        at = begin + (size + 3) // 4 * 4


# ---- kernel modules


def modules(names, root):
    """[(name, bytes)] of these modules of a kernel and all that they depend on, in the order to insert them.

    `root` is the kernel's own folder of modules (lib/modules/RELEASE). A module that the kernel has built in needs
    nothing and is left out. Dependencies are read from the modules themselves: packages bring no modules.dep.
    """
    if root is None:
        raise Missing(
            f"the modules {', '.join(names)} are wanted, and the kernel's folder of modules is not known: "
            "name the kernel by its package or release instead of its image"
        )
    paths = {re.sub(r"\.ko.*$", "", path.name).replace("-", "_"): path for path in root.rglob("*.ko*")}
    listed = root / "modules.builtin"
    built_in = {Path(line).stem.replace("-", "_") for line in listed.read_text().split()} if listed.exists() else set()
    found = {}

    def add(name):
        name = name.replace("-", "_")
        if name in found or name in built_in:
            return
        if name not in paths:
            raise Missing(f"there is no module {name} in {root}; leave it out, or take a kernel that has it")
        data = unpacked(paths[name])
        for needed in dependencies(data):
            add(needed)
        found[name] = data

    for name in names:
        add(name)
    return list(found.items())


def dependencies(module):
    """
    >>> dependencies(b"\\0license=GPL\\0depends=ifb,sch-x\\0name=y\\0"), dependencies(b"\\0depends=\\0")
    (['ifb', 'sch-x'], [])
    """
    depends = re.search(rb"\0depends=([^\0]*)\0", module)
    return [name for name in (depends[1].decode() if depends else "").split(",") if name]


def unpacked(path):
    """A module's bytes, whatever it is packed with."""
    if path.suffix == ".xz":
        return lzma.decompress(path.read_bytes())
    if path.suffix in (".zst", ".gz"):
        tool = "zstd" if path.suffix == ".zst" else "gzip"
        if not shutil.which(tool):
            raise Missing(f"{path.name} cannot be unpacked without {tool}: install it")
        return subprocess.run([tool, "-dcq", path], stdout=subprocess.PIPE, check=True).stdout
    return path.read_bytes()
