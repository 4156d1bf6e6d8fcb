"""A plan's runs as they are made: by the script that guests run, with a ringsock-load that is played."""

import json
import tempfile
import unittest
from pathlib import Path

from commands import LOAD, PLAN, program
import boots


class Runs(unittest.TestCase):
    def setUp(self):
        held = tempfile.TemporaryDirectory()
        self.addCleanup(held.cleanup)
        self.folder = Path(held.name)
        self.load = program(self.folder / "bin", "ringsock-load", LOAD)
        self.boot = self.folder / "boot"
        self.boot.mkdir()

    def test_what_a_kernel_lacks_is_unavailable_and_what_breaks_has_failed_each_with_its_reason(self):
        rows = boots.measure_here(boots.parse_plan(PLAN), self.load, self.boot, 7, 60)
        self.assertEqual([tuple(row.values()) for row in rows], [
            ("good", "01-good.json", "done", None),
            ("lacking", None, "unavailable", "the engine lacking needs more"),
            ("failing", None, "failed", "it broke"),
        ])
        self.assertEqual([path.name for path in self.boot.iterdir()], ["01-good.json"])
        self.assertIn("--engine=good --seed=7 --quiet", json.loads((self.boot / "01-good.json").read_text())["flags"])

    def test_a_script_that_was_ended_leaves_runs_that_were_never_begun(self):
        out = self.folder / "out"
        out.mkdir()
        rows = boots.sort_out(boots.parse_plan(PLAN), out, self.boot)
        self.assertEqual({(row["status"], row["reason"]) for row in rows}, {("failed", "it was never begun")})

    def test_runs_that_take_too_long_are_ended(self):
        plan = boots.parse_plan('setup = "sleep 60"\n' + PLAN)
        with self.assertRaisesRegex(boots.CannotMeasure, "did not end within 0.2 s"):
            boots.measure_here(plan, self.load, self.boot, 7, 0.2)

    def test_a_plan_that_ringsock_load_refuses_is_refused_by_the_runs_label(self):
        boots.check_plan(boots.parse_plan(PLAN), self.load)
        with self.assertRaisesRegex(boots.CannotMeasure, "run `wrong one`.*no such engine"):
            boots.check_plan(boots.parse_plan('[[run]]\nlabel = "wrong one"\nengine = "wrong"'), self.load)

    def test_the_order_of_runs_is_the_seeds_and_not_always_the_plans(self):
        plan = boots.parse_plan(PLAN)
        scripts = [boots.script(plan, seed, "instructions") for seed in range(20)]
        self.assertEqual(scripts[3], boots.script(plan, 3, "instructions"))
        orders = {tuple(line.split()[1] for line in text.splitlines() if line.startswith("run 0")) for text in scripts}
        self.assertEqual(len(orders), 6)
        self.assertTrue(all(text.count("--clock=instructions") == 3 for text in scripts))

    def test_the_default_plan_is_one(self):
        plan = boots.read_plan(Path(boots.__file__).with_name("kernels.toml"))
        engines = {flag for run in plan.runs for flag in run.flags if flag.startswith("--engine=")}
        self.assertEqual(engines, {"--engine=uring", "--engine=epoll", "--engine=tokio-uring"})


class Records(unittest.TestCase):
    def test_a_record_never_replaces_another_and_leaves_nothing_behind(self):
        with tempfile.TemporaryDirectory() as held:
            path = Path(held) / "boot.json"
            boots.save(path, {"first": True})
            with self.assertRaisesRegex(boots.CannotMeasure, "not overwritten"):
                boots.save(path, {"first": False})
            self.assertEqual(json.loads(path.read_text()), {"first": True})
            boots.save(path, {"first": False}, over=True)
            self.assertEqual([each.name for each in Path(held).iterdir()], ["boot.json"])
            self.assertEqual(json.loads(path.read_text()), {"first": False})

    def test_a_packed_console_is_the_same_bytes_for_the_same_words(self):
        with tempfile.TemporaryDirectory() as held:
            packed = []
            for name in ("a", "b"):
                folder = Path(held) / name
                folder.mkdir()
                (folder / "console.log").write_text("words\n" * 100)
                boots.pack(folder / "console.log")
                packed.append((folder / "console.log.gz").read_bytes())
            self.assertEqual(packed[0], packed[1])


if __name__ == "__main__":
    unittest.main()
