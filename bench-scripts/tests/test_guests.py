"""Boots, with a QEMU that is played: what comes of a guest that ends well, panics, hangs, or never starts."""

import gzip
import io
import lzma
import os
import tarfile
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from commands import Found, image, program
import guests
import initramfs
import kernel_sources

# Writes to the serial ports' files what a guest would: WORDS to the console, and the file HANDED to the other one.
QEMU = """\
#!/bin/sh
[ "$1" = --version ] && { echo "QEMU emulator version 99.1 (played)"; exit; }
echo "$@" > "$(dirname "$0")/asked"
for word in "$@"; do
  case $last$word in
    -serialfile:*/console) cat "$(dirname "$0")/words" > "${word#file:}";;
    -serialfile:*/out) cat "$(dirname "$0")/handed" > "${word#file:}";;
    -initrd*) cp "$word" "$(dirname "$0")/initrd";;
  esac
  last=$word
done
. "$(dirname "$0")/then"
"""


class Played(unittest.TestCase):
    """A machine with a QEMU that says and hands over what a test tells it to."""

    def setUp(self):
        held = tempfile.TemporaryDirectory()
        self.addCleanup(held.cleanup)
        self.folder = Path(held.name)
        self.bin = self.folder / "bin"
        program(self.bin, "qemu-system-x86_64", QEMU)
        program(self.bin, "busybox", "#!/bin/sh\n")
        found = Found(self.bin)
        found.__enter__()
        self.addCleanup(found.__exit__)
        vmlinuz = self.folder / "vmlinuz"
        vmlinuz.write_bytes(image("6.1.7-played"))
        self.kernel = guests.resolve(str(vmlinuz), self.folder / "cache")

    def boot(self, words="[ 0.1] Linux version\n", handed=b"", then="", **flags):
        (self.bin / "words").write_text(words)
        (self.bin / "handed").write_bytes(handed)
        (self.bin / "then").write_text(then)
        places = {"out": self.folder / "out", "console": self.folder / "console.log"}
        return guests.boot(self.kernel, {"bin/load": b"\x7fELF"}, "true\n", **places, **flags)

    def test_a_guest_that_hands_its_files_over_is_done_whatever_its_script_says(self):
        boot = self.boot(handed=handed_over({"a.json": b"{}"}, status=3))
        self.assertEqual((boot.outcome, boot.status, boot.guest_s), ("done", 3, 4.5))
        self.assertEqual((self.folder / "out/a.json").read_bytes(), b"{}")
        self.assertEqual((self.folder / "console.log").read_text(), "[ 0.1] Linux version\n")

    def test_a_panic_is_told_as_one_with_the_end_of_the_console(self):
        boot = self.boot(words="start\n[ 1.0] Kernel panic - not syncing: why\n")
        self.assertEqual((boot.outcome, boot.status), ("panicked", None))
        self.assertIn("not syncing: why", boot.tail)
        self.assertFalse((self.folder / "out").exists())

    def test_a_guest_that_does_not_end_is_ended_and_what_it_handed_over_in_part_is_nothing(self):
        whole = handed_over({"a.json": b"{}" * 100})
        boot = self.boot(handed=whole[:-4], then="exec sleep 60", timeout_s=0.3)
        self.assertEqual(boot.outcome, "hung")
        self.assertIn("did not end within", boot.why(0.3))
        self.assertFalse((self.folder / "out").exists())

    def test_a_guest_that_ends_without_a_word_is_no_success(self):
        self.assertEqual(self.boot().outcome, "ended")

    def test_a_qemu_that_crashes_is_an_outcome_with_its_words_after_the_consoles(self):
        boot = self.boot(then="echo tcg: assertion failed >&2; exit 134")
        self.assertEqual((boot.outcome, boot.status), ("crashed", None))
        self.assertEqual(boot.why(1), "QEMU crashed; its last words: tcg: assertion failed")
        self.assertEqual(boot.tail, "[ 0.1] Linux version\ntcg: assertion failed")
        (self.folder / "console.log").unlink()
        self.assertIn("status -9, without a word", self.boot(then="kill -9 $$").why(1))

    def test_a_qemu_that_is_not_there_can_boot_nothing(self):
        (self.bin / "qemu-system-x86_64").unlink()
        with mock.patch.dict(os.environ, {"PATH": str(self.bin)}):
            with self.assertRaisesRegex(guests.CannotMeasure, "there is no qemu-system-x86_64.*apt-get install"):
                self.boot()

    def test_files_of_a_guest_cannot_land_outside_its_folder(self):
        with self.assertRaises(tarfile.TarError):
            self.boot(handed=handed_over({"../escaped": b""}))
        self.assertFalse((self.folder / "escaped").exists())

    def test_in_instruction_time_nothing_of_the_host_is_asked_for_and_one_seed_is_one_guest(self):
        asked = []
        for _ in range(2):
            self.boot(seed=7)
            asked.append(((self.bin / "asked").read_text().split(), (self.bin / "initrd").read_bytes()))
            (self.folder / "console.log").unlink()
        words = " ".join(asked[0][0])
        for flag in ("-icount shift=0,sleep=off", "-seed 7", "clock=vm", "-nic none", "-cpu max,-erms,-fsrm", "-smp 1"):
            self.assertIn(flag, words)
        self.assertEqual(asked[0][1], asked[1][1])

    def test_a_program_that_needs_shared_libraries_is_refused_before_a_boot(self):
        dynamic = self.folder / "dynamic"
        head = b"\x7fELF\2" + bytes(27) + (64).to_bytes(8, "little") + bytes(14) + b"\x38\0\1\0" + bytes(6)
        dynamic.write_bytes(head + b"\3" + bytes(55))
        with self.assertRaisesRegex(guests.CannotMeasure, "dynamic needs shared libraries"):
            guests.contents(self.kernel, {"bin/x": dynamic}, "", ())

    def test_kvm_counts_only_where_it_booted_the_kernel_and_is_tried_once(self):
        if not Path("/dev/kvm").exists():
            self.skipTest("no /dev/kvm: tcg without a try")
        (self.bin / "words").write_text("")
        (self.bin / "handed").write_bytes(b"")
        (self.bin / "then").write_text("echo KVM: entry failed >&2; exit 1")
        cache = self.folder / "cache"
        self.assertEqual(guests.accelerator(self.kernel, cache), "tcg")
        (self.bin / "handed").write_bytes(handed_over({}))
        (self.bin / "then").write_text("")
        self.assertEqual(guests.accelerator(self.kernel, cache), "tcg")
        (cache / "kvm.json").unlink()
        self.assertEqual(guests.accelerator(self.kernel, cache), "kvm")


def handed_over(files, status=0):
    """What a guest writes to its second serial port."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return f"RINGSOCK-OUT/1 {status} 4.50\n".encode() + gzip.compress(held.getvalue())


class Modules(unittest.TestCase):
    def test_modules_come_unpacked_after_what_they_depend_on_and_built_in_ones_not_at_all(self):
        with tempfile.TemporaryDirectory() as held:
            root = Path(held)
            (root / "kernel").mkdir()
            (root / "kernel/upper-most.ko.xz").write_bytes(lzma.compress(b"\0depends=lower,inside\0top"))
            (root / "kernel/lower.ko").write_bytes(b"\0depends=\0low")
            (root / "modules.builtin").write_text("kernel/inside.ko\n")
            found = initramfs.modules(["upper_most", "lower"], root)
            self.assertEqual([name for name, _ in found], ["lower", "upper_most"])
            self.assertTrue(found[1][1].endswith(b"top"))
            with self.assertRaisesRegex(guests.CannotMeasure, "no module absent"):
                initramfs.modules(["absent"], root)


class Sources(unittest.TestCase):
    """Kernels by name, with a machine whose apt is played."""

    def setUp(self):
        held = tempfile.TemporaryDirectory()
        self.addCleanup(held.cleanup)
        self.folder = Path(held.name)

    def test_a_file_that_is_no_kernel_and_a_name_that_is_no_file_are_told_apart(self):
        (self.folder / "x").write_text("text")
        for spec, said in ((self.folder / "x", "no x86 kernel image"), (self.folder / "y", "there is no file")):
            with self.assertRaisesRegex(guests.CannotFind, said):
                guests.resolve(str(spec), self.folder)

    def test_a_built_tree_and_a_kernel_with_modules_beside_it_are_found(self):
        built = self.folder / "tree/arch/x86/boot"
        built.mkdir(parents=True)
        (built / "bzImage").write_bytes(image("7.9.0-rc1+"))
        self.assertEqual(guests.resolve(str(self.folder / "tree"), self.folder).release, "7.9.0-rc1+")
        (self.folder / "boot").mkdir()
        (self.folder / "boot/vmlinuz-6.1").write_bytes(image("6.1.7"))
        (self.folder / "lib/modules/6.1.7/kernel").mkdir(parents=True)
        kernel = guests.resolve(str(self.folder / "boot/vmlinuz-6.1"), self.folder)
        self.assertEqual(kernel.modules_root, self.folder / "lib/modules/6.1.7")

    def test_what_cannot_be_fetched_is_told_with_package_suite_and_mend(self):
        program(self.folder / "bin", "apt-get", "#!/bin/sh\n"
                'case "$*" in *update*) echo "E: no network"; exit 100;; esac\necho http://mirror/debian/\n')
        program(self.folder / "bin", "apt-cache", "#!/bin/sh\n")
        with Found(self.folder / "bin"):
            with self.assertRaisesRegex(guests.CannotFind, "suite trixie.*network.*--mirror.*vmlinuz.*E: no network"):
                guests.resolve("linux-image-cloud-amd64@trixie", self.folder / "cache")

    def test_a_package_is_fetched_with_its_parts_and_from_then_on_taken_from_the_cache(self):
        played = self.folder / "bin"
        (self.folder / "image").write_bytes(image("7.2.1-cloud"))
        program(played, "apt-get", '#!/bin/sh\ncase "$*" in *indextargets*) echo http://mirror/debian;;\n'
                '*download*) for part in "$@"; do case $part in linux-*=*) : > "${part%%=*}.deb";; esac; done;; esac\n')
        program(played, "apt-cache", """#!/bin/sh
for package; do :; done
case $package in
  linux-image-cloud-amd64) echo "Version: 7.2.1-1"; echo "Depends: linux-image-7.2.1-cloud (= 7.2.1-1)";;
  linux-image-7.2.1-cloud) echo "Version: 7.2.1-1"; echo "Depends: linux-binary-7.2.1-cloud, kmod | other";;
  linux-binary-7.2.1-cloud) echo "Version: 7.2.1-1";;
esac
""")
        program(played, "dpkg-deb", f"""#!/bin/sh
mkdir -p "$3"
case $2 in *linux-binary-*) mkdir -p "$3/boot"; cp {self.folder}/image "$3/boot/vmlinuz-7.2.1-cloud";; esac
""")
        with Found(played):
            fetched = guests.resolve("newest", self.folder / "cache")
        self.assertEqual((fetched.release, fetched.source), ("7.2.1-cloud", "linux-image-7.2.1-cloud 7.2.1-1 sid"))
        program(played, "apt-get", "#!/bin/sh\nexit 100\n")
        with Found(played):
            self.assertEqual(guests.resolve("newest", self.folder / "cache"), fetched)
            with self.assertRaises(kernel_sources.CannotFind):
                guests.resolve("newest", self.folder / "cache", refresh=True)


if __name__ == "__main__":
    unittest.main()
