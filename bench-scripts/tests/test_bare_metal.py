"""A series on bare metal, with a machine that is played: its boots, its kernels and its boot loader."""

import contextlib
import io
import json
import shutil
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from commands import LOAD, PLAN, Found, command, image, program

bare_metal = command("bare-metal")
GRUB = """\
submenu 'Advanced' $menuentry_id_option 'advanced' {
    menuentry 'Linux 6.1.7' $menuentry_id_option 'six-one' {
        linux /boot/vmlinuz-6.1.7 root=/dev/x ro
    }
    menuentry 'Linux 6.12.9' $menuentry_id_option 'six-twelve' {
        linux /boot/vmlinuz-6.12.9 root=/dev/x ro
    }
}
"""


class Machine(unittest.TestCase):
    def setUp(self):
        held = tempfile.TemporaryDirectory()
        self.addCleanup(held.cleanup)
        self.folder = Path(held.name)
        self.root, self.series, self.boot_number = self.folder / "root", self.folder / "series", 0
        (self.root / "boot/grub").mkdir(parents=True)
        (self.root / "proc/sys/kernel/random").mkdir(parents=True)
        (self.root / "boot/grub/grub.cfg").write_text(GRUB)
        for release in ("6.1.7", "6.12.9"):
            (self.root / f"boot/vmlinuz-{release}").write_bytes(image(release))
        (self.folder / "plan.toml").write_text(PLAN)
        self.load = program(self.folder / "bin", "load", LOAD)
        for tool in ("grub-reboot", "systemctl"):
            program(self.folder / "bin", tool, f'#!/bin/sh\necho {tool} "$@" >> {self.folder}/did\n')
        found = Found(self.folder / "bin")
        found.__enter__()
        self.addCleanup(found.__exit__)

    def boot(self, release):
        """The machine comes up anew."""
        self.boot_number += 1
        (self.root / "proc/sys/kernel/osrelease").write_text(f"{release}\n")
        (self.root / "proc/sys/kernel/random/boot_id").write_text(f"boot-{self.boot_number}\n")

    def call(self, verb, *words):
        said, argv = io.StringIO(), ["bare-metal", "--root", str(self.root), verb, *words, str(self.series)]
        # What it did, its waiting among it, in order.
        # Popen.wait sleeps as well, for moments.
        sleep = bare_metal.time.sleep
        waited = lambda s: self.note(f"sleep {s}") if s >= 1 else sleep(s)
        with mock.patch.object(sys, "argv", argv), contextlib.redirect_stdout(said), \
                mock.patch.object(bare_metal.time, "sleep", waited):
            bare_metal.main()
        return said.getvalue()

    def note(self, line):
        with open(self.folder / "did", "a") as did:
            print(line, file=did)

    def did(self):
        return (self.folder / "did").read_text().splitlines()

    def init(self, boots=2):
        # The folder stands last, and --kernels would take it for one.
        flags = ["--boots", str(boots), "--plan", str(self.folder / "plan.toml"), "--load", str(self.load)]
        return self.call("init", "--kernels", "6.1.7", "6.12.9", *flags)

    def records(self):
        return [json.loads(path.read_text()) for path in sorted(self.series.glob("*/boot-*/boot.json"))]

    def test_whoever_boots_what_it_says_ends_up_with_every_boot_measured_once(self):
        self.init(boots=3)
        self.boot("6.1.7")
        for boots_made in range(1, 7):
            said = self.call("step")
            self.assertIn("measured boot", said)
            self.assertEqual(len(self.records()), boots_made)
            if boots_made < 6:
                self.boot(said.rsplit("boot next: ", 1)[1].strip())
        self.assertIn("all is measured", said)
        self.assertTrue((self.series / "done").exists())
        places = sorted((record["kernel"]["release"], record["seed"]) for record in self.records())
        self.assertEqual(places, [(release, seed) for release in ("6.1.7", "6.12.9") for seed in (1, 2, 3)])
        self.assertEqual(sorted(record["ordinal"] for record in self.records()), list(range(6)))
        self.assertEqual({record["clock"] for record in self.records()}, {"real"})
        self.assertTrue(all(record["kernel"]["sha256"] for record in self.records()))

    def test_a_boot_is_measured_once_however_often_it_is_asked(self):
        self.init()
        self.boot("6.1.7")
        self.call("step")
        self.assertIn("this boot of 6.1.7 was measured already", self.call("step"))
        self.assertEqual(len(self.records()), 1)

    def test_a_kernel_that_has_its_boots_or_is_no_part_of_it_is_left_alone(self):
        self.init(boots=1)
        self.boot("6.12.9")
        self.call("step")
        self.boot("6.12.9")
        self.assertIn("all boots of 6.12.9 are measured", self.call("step"))
        self.boot("5.0.0")
        said = self.call("step")
        self.assertIn("5.0.0 is not among the kernels", said)
        self.assertIn("boot next: 6.1.7", said)
        self.assertEqual(len(self.records()), 1)

    def test_grub_is_told_what_to_boot_next_and_the_machine_reboots_until_all_is_measured(self):
        self.init(boots=1)
        self.boot("6.1.7")
        self.call("step", "--reboot")
        self.boot("6.12.9")
        self.call("step", "--reboot")
        self.assertEqual(self.did(), ["sleep 60", "grub-reboot advanced>six-twelve", "systemctl reboot", "sleep 60"])

    def unattended(self, boots_max, come_up):
        """Boots as a unit does, of the kernel that `come_up` makes of the one asked for, until it reboots no more."""
        release, said = "6.1.7", ""
        for _ in range(boots_max):
            self.boot(come_up(release))
            before = len(self.did()) if (self.folder / "did").exists() else 0
            said += self.call("step", "--reboot")
            after = self.did()[before:]
            self.assertEqual(after[0], "sleep 60")
            if "systemctl reboot" not in after:
                return said
            release = {"six-one": "6.1.7", "six-twelve": "6.12.9"}[after[1].rsplit(">", 1)[1]]
        self.fail(f"it reboots on and on: {said}")

    def outcomes(self):
        return {path.parent.relative_to(self.series).as_posix(): json.loads(path.read_text())["outcome"]
                for path in self.series.glob("*/boot-*/boot.json")}

    def test_a_kernel_that_never_comes_up_is_given_up_boot_by_boot_and_the_others_are_measured(self):
        self.init(boots=2)
        said = self.unattended(20, lambda _: "6.1.7")
        self.assertIn("all is measured", said)
        self.assertEqual(self.outcomes(), {
            "6.1.7/boot-00": "done", "6.1.7/boot-01": "done", "6.12.9/boot-00": "hung", "6.12.9/boot-01": "hung",
        })
        [hung] = [record for record in self.records() if record["ordinal"] == self.ordinal("6.12.9", 0)]
        self.assertEqual((hung["attempts"], hung["command_line"], hung["host"]["boot_id"]), (2, None, None))
        self.assertEqual({row["status"] for row in hung["runs"]}, {"failed"})

    def ordinal(self, release, boot):
        return bare_metal.Series(self.series).order.index((release, boot))

    def test_a_machine_that_measures_nothing_any_more_is_left_alone_and_goes_on_once_something_was(self):
        self.init(boots=9)
        with self.assertRaisesRegex(bare_metal.CannotMeasure, "in 4 boots in a row.*boot 6.1"):
            self.unattended(9, lambda _: "5.0.0")
        self.assertEqual(self.did().count("systemctl reboot"), 3)
        self.boot("6.12.9")
        self.call("step", "--reboot")
        self.assertEqual(self.did()[-1], "systemctl reboot")

    def test_a_machine_that_goes_down_while_it_measures_does_so_twice_for_each_boot(self):
        self.init(boots=1)
        with mock.patch.object(bare_metal.boots, "measure_here", side_effect=KeyboardInterrupt):
            for _ in range(2):
                self.boot("6.1.7")
                with self.assertRaises(KeyboardInterrupt):
                    self.call("step", "--reboot")
            self.boot("6.1.7")
            self.assertIn("given up: boot 0 of 6.1.7", self.call("step", "--reboot"))
        self.assertEqual(self.outcomes(), {"6.1.7/boot-00": "hung"})
        self.assertEqual([path.name for path in self.series.rglob(".boot*")], [])

    def test_what_was_given_up_is_tried_anew_once_its_record_is_removed(self):
        self.init(boots=1)
        self.unattended(9, lambda _: "6.1.7")
        shutil.rmtree(self.series / "6.12.9")
        self.unattended(9, lambda release: release)
        self.assertEqual(self.outcomes(), {"6.1.7/boot-00": "done", "6.12.9/boot-00": "done"})

    def test_without_reboot_no_boot_is_given_up_however_often_another_comes_up(self):
        self.init(boots=1)
        for _ in range(6):
            self.boot("5.0.0")
            self.call("step", "--set-next")
        self.assertEqual(self.outcomes(), {})

    def test_runs_that_take_too_long_are_recorded_and_the_series_goes_on(self):
        self.init(boots=1)
        self.load.write_text("#!/bin/sh\nsleep 60\n")
        (self.series / "ringsock-load").write_bytes(self.load.read_bytes())
        state = json.loads((self.series / "bare-metal.json").read_text())
        state["ringsock_load_sha256"] = bare_metal.sha256(self.load)
        (self.series / "bare-metal.json").write_text(json.dumps(state))
        self.boot("6.1.7")
        self.assertIn("did not end within 1 s", self.call("step", "--reboot", "--timeout", "1"))
        self.assertEqual((self.outcomes(), self.did()[-1]), ({"6.1.7/boot-00": "hung"}, "systemctl reboot"))

    def test_another_ringsock_load_would_spoil_the_series(self):
        self.init()
        self.boot("6.1.7")
        (self.series / "ringsock-load").write_text(LOAD + "# another\n")
        with self.assertRaisesRegex(bare_metal.CannotMeasure, "is not the one that the series was begun with"):
            self.call("step")
        self.assertEqual(self.records(), [])

    def test_what_cannot_go_well_is_refused_at_the_beginning(self):
        (self.root / "boot/vmlinuz-6.12.9").unlink()
        with self.assertRaisesRegex(bare_metal.CannotMeasure, "no /boot/vmlinuz-6.12.9"):
            self.init()
        with self.assertRaisesRegex(bare_metal.CannotMeasure, "begin a series"):
            self.call("step")

    def test_the_unit_makes_steps_until_there_is_nothing_left(self):
        self.init()
        text = self.call("unit", "--reboot")
        self.assertIn(f"step {self.series} --settle=60 --timeout=3600 --reboot", text)
        self.assertIn(f"ConditionPathExists=!{self.series}/done", text)

    def test_the_unit_names_folders_with_spaces_and_percents_as_systemd_reads_them(self):
        self.series = self.folder / "my 100% series"
        self.init()
        text = self.call("unit")
        place = str(self.series).replace("%", "%%")
        self.assertIn(f' step "{place}" --settle=60', text)
        self.assertIn(f"ConditionPathExists=!{place}/done\n", text)


if __name__ == "__main__":
    unittest.main()
