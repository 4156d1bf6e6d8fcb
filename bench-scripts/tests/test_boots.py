"""A plan's runs as they are made: by the script that guests run, with a ringsock-load that is played."""

import itertools
import json
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from commands import LOAD, PLAN, Found, program
import boots
import guests


class Runs(unittest.TestCase):
    def setUp(self):
        held = tempfile.TemporaryDirectory()
        self.addCleanup(held.cleanup)
        self.folder = Path(held.name)
        self.load = program(self.folder / "bin", "ringsock-load", LOAD)
        self.boot = self.folder / "boot"
        self.boot.mkdir()

    def test_what_a_kernel_lacks_is_unavailable_and_what_breaks_has_failed_each_with_its_reason(self):
        outcome, why, rows = boots.measure_here(boots.parse_plan(PLAN), self.load, self.boot, 7, 60)
        self.assertEqual((outcome, why), ("done", ""))
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

    def test_runs_that_take_too_long_are_ended_and_have_failed(self):
        plan = boots.parse_plan('setup = "sleep 60"\n' + PLAN)
        outcome, why, rows = boots.measure_here(plan, self.load, self.boot, 7, 0.2)
        self.assertEqual((outcome, why), ("hung", "the plan's runs did not end within 0.2 s"))
        self.assertEqual({(row["status"], row["reason"]) for row in rows}, {("failed", why)})
        self.assertEqual(list(self.boot.iterdir()), [])

    def test_a_setup_that_fails_ends_the_script_before_any_run_in_every_shell_that_runs_it(self):
        shells = [["sh"], ["busybox", "sh"]] if shutil.which("busybox") else [["sh"]]
        wrong = ["echo no such qdisc >&2; false\ntrue", "echo no such qdisc; exit 0", "echo no such qdisc; (exit 3)"]
        for shell, setup in itertools.product(shells, wrong):
            with self.subTest(shell=shell, setup=setup):
                status, out = self.run_script(shell, setup)
                self.assertEqual(status, boots.SETUP_FAILED)
                self.assertEqual([path.name for path in out.iterdir()], [boots.SETUP_SAID])
                outcome, why, rows = boots.ended(boots.parse_plan(PLAN), status, out, self.boot)
                self.assertEqual((outcome, why), ("failed", "what the plan sets up failed: no such qdisc"))
                self.assertEqual({(row["status"], row["reason"]) for row in rows}, {("failed", why)})

    def test_what_a_setup_exports_is_there_for_the_runs_and_their_failures_end_nothing(self):
        shells = [["sh"], ["busybox", "sh"]] if shutil.which("busybox") else [["sh"]]
        for shell in shells:
            with self.subTest(shell=shell):
                status, out = self.run_script(shell, "echo set; export SCRATCH=$SCRATCH/further")
                self.assertEqual((status, (out / boots.SETUP_SAID).read_text()), (0, "set\n"))
                self.assertEqual(len(list(out.glob("*.status"))), 3)
                self.assertTrue((out.parent / "scratch/further").is_dir())

    def run_script(self, shell, setup):
        """(exit status, what is left) of the script of a plan with this setup."""
        place = Path(tempfile.mkdtemp(dir=self.folder))
        (place / "out").mkdir()
        plan = boots.parse_plan(f"setup = '''{setup}'''\n{PLAN}")
        places = {"OUT": str(place / "out"), "LOAD": str(self.load), "SCRATCH": str(place / "scratch")}
        command = [*shell, "-c", boots.script(plan, 1, "real")]
        done = subprocess.run(command, env={**os.environ, **places}, stdout=subprocess.DEVNULL, timeout=60)
        return done.returncode, place / "out"

    def test_a_module_that_cannot_be_inserted_fails_the_boot_here_as_in_a_guest(self):
        modprobe = program(self.folder / "bin", "modprobe", '#!/bin/sh\necho "no module $1" >&2\nexit 1\n')
        plan = boots.parse_plan('modules = ["sch_absent"]\n' + PLAN)
        with Found(modprobe.parent):
            outcome, why, rows = boots.measure_here(plan, self.load, self.boot, 7, 60)
        self.assertEqual((outcome, why), ("failed", "what the plan sets up failed: no module sch_absent"))
        self.assertEqual({row["status"] for row in rows}, {"failed"})
        self.assertIn(f"status={boots.SETUP_FAILED};", guests.INIT)
        self.assertIn(f"/out/{boots.SETUP_SAID} ", guests.INIT)

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

    def test_the_plans_that_come_with_it_vary_the_server_and_not_the_generator(self):
        names = ("kernels.toml", "kernels-features.toml", "bisect.toml")
        plans = {name: boots.read_plan(Path(boots.__file__).with_name(name)) for name in names}
        for name, plan in plans.items():
            generators = {flag for run in plan.runs for flag in run.flags if flag.startswith("--engine=")}
            self.assertEqual(generators, {"--engine=epoll"}, name)
        servers = {flag for run in plans["kernels.toml"].runs for flag in run.flags if flag.startswith("--server-engine=")}
        self.assertEqual(servers, {f"--server-engine={name}" for name in ("uring", "epoll", "tokio-uring")})


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
