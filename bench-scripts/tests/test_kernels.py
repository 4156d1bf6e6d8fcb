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
        (self.folder / "plan.toml").write_text(PLAN)
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

    def boot(self, kernel, files, script, *, out, console, seed, append, **_):
        """A guest that is played: the good run has a result, and 6.1 lacks the other."""
        self.made.append((kernel.release, seed, append))
        outcome = self.outcomes.pop(0) if self.outcomes else "done"
        if outcome == "interrupted":
            raise KeyboardInterrupt
        console.write_text(f"a console of {kernel.release}\nits end\n")
        if outcome == "done":
            out.mkdir()
            (out / "01-good.json").write_text("{}")
            (out / "02-lacking.status").write_text("4\n")
            (out / "02-lacking.said").write_text("ringsock-load: it needs more\n")
        facts = {"guest_s": 4.5, "took_s": 1.0, "accelerator": "tcg", "cpu": "max", "command_line": append}
        return guests.Boot(outcome, 0 if outcome == "done" else None, tail="a line\nits end", **facts)

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
        self.assertEqual([row["status"] for row in record["runs"]], ["done", "unavailable", "failed"])
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


if __name__ == "__main__":
    unittest.main()
