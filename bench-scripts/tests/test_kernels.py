"""A series of boots, with boots that are played: what is left, what is made again, and what a failure costs."""

import contextlib
import io
import json
import os
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from commands import LOAD, PLAN, command, image, program
import guests

kernels = command("kernels")


class Series(unittest.TestCase):
    def setUp(self):
        held = tempfile.TemporaryDirectory()
        self.addCleanup(held.cleanup)
        self.folder = Path(held.name)
        self.load = program(self.folder / "bin", "ringsock-load", LOAD)
        self.images = []
        for release in ("6.1.7-x", "6.12.9-x"):
            path = self.folder / release
            path.write_bytes(image(release))
            self.images.append(str(path))
        self.plan(PLAN.partition('[[run]]\nlabel = "failing"')[0])
        # (release, seed) of every boot made; and what becomes of the next ones, `done` where nothing is said.
        self.made, self.outcomes = [], []
        for patched in (
            mock.patch.object(guests, "boot", self.boot), mock.patch.object(guests, "qemu_version", lambda: "99.1"),
            mock.patch.object(kernels, "built", lambda _: self.load),
            mock.patch.object(kernels, "compare", mock.Mock()),
            mock.patch.dict(os.environ, {"CARGO_TARGET_DIR": str(self.folder / "target")}),
        ):
            patched.start()
            self.addCleanup(patched.stop)

    def plan(self, text):
        (self.folder / "plan.toml").write_text(text)

    def boot(self, kernel, files, script, *, out, console, seed, append, **_):
        """A guest that is played: the good run has a result, and 6.1 lacks the other."""
        self.made.append((kernel.release, seed, append))
        outcome = self.outcomes.pop(0) if self.outcomes else "done"
        if outcome == "interrupted":
            raise KeyboardInterrupt
        console.write_text(f"a console of {kernel.release}\nits end\n")
        if outcome == "failed":
            out.mkdir()
            (out / "setup.said").write_text("tc: no such qdisc\n")
        if outcome == "done":
            out.mkdir()
            (out / "01-good.json").write_text("{}")
            (out / "02-lacking.status").write_text("4\n")
            (out / "02-lacking.said").write_text("ringsock-load: it needs more\n")
        facts = {"guest_s": 4.5, "took_s": 1.0, "accelerator": "tcg", "cpu": "max", "command_line": append}
        outcome, status = {"done": ("done", 0), "failed": ("done", 70)}.get(outcome, (outcome, None))
        return guests.Boot(outcome, status, tail="a line\nits end", **facts)

    def call(self, *words):
        """The command with these words: (exit status, standard error)."""
        common = [] if "--resume" in words else ["--plan", str(self.folder / "plan.toml"), "--clock", "instructions"]
        argv = ["kernels", *words, *common]
        said = io.StringIO()
        with mock.patch.object(sys, "argv", argv), contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            try:
                code = kernels.main()
            except KeyboardInterrupt:
                code = 130
        return code, said.getvalue()

    def begin(self, *words):
        return self.call(*words, "--results", str(self.folder / "results"))

    @property
    def series(self):
        [found] = (self.folder / "results").iterdir()
        return found

    def record(self, place):
        return json.loads((self.series / place / "boot.json").read_text())

    def test_kernels_are_booted_in_turns_and_boot_k_has_one_seed_on_all(self):
        code, said = self.begin(*self.images, "--boots", "4", "--seed", "20")
        self.assertEqual(code, 0, said)
        releases = [release for release, _, _ in self.made]
        self.assertEqual(releases[0:2], releases[3:1:-1])
        self.assertEqual(sorted(self.made), sorted((r, 20 + k, "") for r in ("6.1.7-x", "6.12.9-x") for k in range(4)))
        record = self.record("6.1.7-x/boot-02")
        self.assertEqual((record["seed"], record["clock"]), (22, "instructions"))
        self.assertEqual([row["status"] for row in record["runs"]], ["done", "unavailable"])
        self.assertTrue((self.series / "6.1.7-x/boot-02/01-good.json").exists())
        everywhere = [record["ordinal"] for record in map(self.record, self.places())]
        self.assertEqual(sorted(everywhere), list(range(8)))

    def places(self):
        return [path.parent.relative_to(self.series) for path in self.series.glob("*/boot-*/boot.json")]

    def test_one_kernel_booted_two_ways_has_two_folders_and_one_that_is_there_twice_other_seeds(self):
        arms = [self.images[0], f"{self.images[0]} nosmt", self.images[0]]
        code, said = self.begin(*arms, "--boots", "1", "--append", "quiet")
        self.assertEqual(code, 0, said)
        self.assertEqual(sorted(self.made), [
            ("6.1.7-x", 1, "quiet"), ("6.1.7-x", 1, "quiet nosmt"), ("6.1.7-x", 1_000_001, "quiet"),
        ])
        names = sorted(path.parts[0] for path in self.places())
        self.assertEqual(names, ["6.1.7-x", "6.1.7-x-again", "6.1.7-x_nosmt"])

    def test_a_path_with_a_space_is_a_path_and_options_may_follow_it(self):
        path = self.folder / "a tree"
        path.write_bytes(image("6.12.9-x"))
        code, said = self.begin(str(path), f"{path}  nosmt quiet", "--boots", "1")
        self.assertEqual(code, 0, said)
        self.assertEqual(sorted(self.made), [("6.12.9-x", 1, ""), ("6.12.9-x", 1, "nosmt quiet")])

    def test_a_boot_that_panics_once_is_made_again_and_no_failure(self):
        self.outcomes = ["panicked"]
        code, said = self.begin(self.images[0], "--boots", "1")
        self.assertEqual((code, len(self.made)), (0, 2), said)
        self.assertEqual((self.record("6.1.7-x/boot-00")["attempts"], self.made[0]), (2, self.made[1]))

    def test_a_boot_that_hangs_twice_is_told_with_its_console_and_the_others_go_on(self):
        self.outcomes = ["hung", "hung"]
        code, said = self.begin(*self.images, "--boots", "2")
        self.assertEqual((code, len(self.made)), (1, 5), said)
        self.assertIn("did not end within 300 s\n    | a line\n    | its end", said)
        failed = [place for place in self.places() if self.record(place)["outcome"] == "hung"]
        self.assertEqual(len(failed), 1)
        self.assertEqual({row["status"] for row in self.record(failed[0])["runs"]}, {"failed"})
        self.assertTrue((self.series / failed[0] / "console.log.gz").exists())
        kernels.compare.assert_called_once()

    def test_a_setup_that_fails_makes_a_failed_boot_with_its_words_and_no_measurement(self):
        self.outcomes = ["failed", "failed"]
        code, said = self.begin(self.images[0], "--boots", "1")
        self.assertEqual(code, 1, said)
        record = self.record("6.1.7-x/boot-00")
        self.assertEqual((record["outcome"], record["attempts"]), ("failed", 2))
        self.assertEqual(record["reason"], "what the plan sets up failed: tc: no such qdisc")
        self.assertEqual({row["status"] for row in record["runs"]}, {"failed"})

    def test_a_qemu_that_crashes_costs_one_boot_and_is_tried_again(self):
        self.outcomes = ["crashed", "crashed"]
        code, said = self.begin(*self.images, "--boots", "1")
        self.assertEqual((code, len(self.made), len(self.places())), (1, 3, 2), said)
        self.assertIn("1 boots did not end well", said)
        [crashed] = [record for record in map(self.record, self.places()) if record["outcome"] != "done"]
        self.assertEqual((crashed["outcome"], crashed["reason"]), ("crashed", "QEMU crashed; its last words: its end"))

    def test_a_run_that_failed_fails_the_series_and_one_that_is_unavailable_does_not(self):
        self.assertEqual(self.begin(self.images[0], "--boots", "1")[0], 0)
        self.plan(PLAN)
        code, said = self.call(self.images[0], "--boots", "1", "--results", str(self.folder / "others"))
        self.assertEqual(code, 1)
        self.assertIn("1 runs did not end well: 6.1.7-x/boot-00: failing", said)

    def test_modules_are_looked_for_in_every_kernel_before_the_first_boot(self):
        self.plan('modules = ["sch_netem"]\n' + PLAN)
        with self.assertRaisesRegex(kernels.CannotMeasure, "modules sch_netem are wanted"):
            self.begin(*self.images)
        self.assertEqual((self.made, (self.folder / "results").exists()), ([], False))

    def test_a_series_that_goes_on_refuses_flags_that_it_would_not_heed(self):
        self.begin(self.images[0], "--boots", "1")
        for flag in ("--plan=x", "--seed=1", "--clock=auto", "--vcpus=1", "--memory=512", "--append=", "--timeout=9",
                     "--results=x", "--refresh"):
            with self.subTest(flag=flag), self.assertRaises(SystemExit) as ended:
                self.call("--resume", str(self.series), flag)
            self.assertEqual(ended.exception.code, 2)

    def test_a_series_is_extended_by_boots_that_it_would_have_had_next(self):
        self.begin(*self.images, "--boots", "2")
        code, said = self.call("--resume", str(self.series), "--boots", "3", "--dry-run")
        self.assertEqual((code, len(self.made), "3 boots each" in said), (0, 4, True), said)
        code, said = self.call("--resume", str(self.series), "--boots", "3")
        self.assertEqual((code, len(self.places())), (0, 6), said)
        ordinals = sorted(record["ordinal"] for record in map(self.record, self.places()))
        self.assertEqual(ordinals, list(range(6)))
        manifest = json.loads((self.series / "kernels.json").read_text())
        [extended] = manifest["extended"]
        self.assertEqual((manifest["boots"], extended["from"], extended["to"]), (3, 2, 3))
        with self.assertRaisesRegex(kernels.CannotMeasure, "the series has 3 of each kernel"):
            self.call("--resume", str(self.series), "--boots", "2")

    def test_what_was_interrupted_goes_on_where_it_was(self):
        self.outcomes = ["done", "done", "interrupted"]
        code, said = self.begin(*self.images, "--boots", "2")
        self.assertEqual(code, 130)
        self.assertIn(f"--resume {self.series}", said)
        self.assertEqual(len(self.places()), 2)
        code, said = self.call("--resume", str(self.series))
        self.assertEqual((code, len(self.places())), (0, 4), said)
        todo = [(release, seed) for release, seed, _ in self.made]
        self.assertEqual(len(set(todo)), 4)
        self.assertEqual([path.name for path in self.series.rglob(".*")], [])

    def test_a_series_does_not_go_on_with_another_kernel_or_another_program(self):
        self.outcomes = ["interrupted"]
        self.begin(self.images[0], "--boots", "1")
        self.load.write_text(LOAD + "# another\n")
        [kept] = (self.folder / "target").glob("kernels/programs/*")
        kept.unlink()
        with self.assertRaisesRegex(kernels.CannotMeasure, "ringsock-load is no longer"):
            self.call("--resume", str(self.series))
        Path(self.images[0]).write_bytes(image("6.1.8-x"))
        with self.assertRaisesRegex(kernels.CannotMeasure, "no longer the kernel"):
            self.call("--resume", str(self.series))

    def test_a_series_goes_on_with_its_own_program_after_the_sources_have_changed(self):
        self.outcomes = ["interrupted"]
        self.begin(self.images[0], "--boots", "1")
        self.load.write_text(LOAD + "# another\n")
        code, said = self.call("--resume", str(self.series))
        self.assertEqual((code, len(self.places())), (0, 1), said)

    def test_the_running_kernel_is_measured_as_it_is(self):
        argv = ["kernels", "--host", "--boots", "2", "--plan", str(self.folder / "plan.toml"), "--results",
                str(self.folder / "results")]
        with mock.patch.object(sys, "argv", argv), contextlib.redirect_stderr(io.StringIO()):
            with contextlib.redirect_stdout(io.StringIO()):
                self.assertEqual(kernels.main(), 0)
        records = [self.record(place) for place in self.places()]
        facts = [(record["clock"], record["qemu"], record["runs"][0]["status"]) for record in records]
        self.assertEqual(facts, [("real", None, "done")] * 2)

    def test_real_time_and_instructions_are_not_mixed(self):
        with self.assertRaises(SystemExit) as ended:
            self.begin(self.images[0], "--host")
        self.assertEqual(ended.exception.code, 2)


# A ringsock-compare that ends with the status in the file beside it, and leaves a report unless there is a `broken`.
COMPARE = """\
#!/bin/sh
here=$(dirname "$0")
for word in "$@"; do
  [ "$last" = --output ] && [ ! -e "$here/broken" ] && echo "new" > "$word"
  last=$word
done
exit "$(cat "$here/status")"
"""


class Comparison(unittest.TestCase):
    def compare(self, status, *, arms=2, broken=False):
        """(whether it could be made, the report) of a series that has an old report."""
        with tempfile.TemporaryDirectory() as held:
            folder = Path(held) / "series"
            folder.mkdir()
            (folder / "report.html").write_text("old\n")
            played = program(Path(held) / "bin", "ringsock-compare", COMPARE)
            played.with_name("status").write_text(f"{status}\n")
            if broken:
                played.with_name("broken").touch()
            arm = kernels.Arm("a", "a", "", 0, "6.1", "", "")
            both = [arm, kernels.replace(arm, label="b", release="6.12")]
            with mock.patch.object(kernels, "built", lambda _: played):
                made = kernels.compare(mock.Mock(arms=both[:arms], folder=folder))
            self.assertEqual([path.name for path in folder.iterdir()], ["report.html"])
            return made, (folder / "report.html").read_text().strip()

    def test_a_report_replaces_the_old_one_only_once_it_is_made(self):
        self.assertEqual(self.compare(0), (True, "new"))
        self.assertEqual(self.compare(2, broken=True), (False, "old"))

    def test_a_series_that_cannot_be_compared_is_told_and_one_kernel_has_nothing_to_be_compared_with(self):
        self.assertEqual([self.compare(status)[0] for status in (3, 4)], [False, False])
        self.assertEqual([self.compare(status, arms=1)[0] for status in (3, 4)], [True, False])


if __name__ == "__main__":
    unittest.main()
