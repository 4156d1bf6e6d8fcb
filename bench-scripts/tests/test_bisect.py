"""What bench-scripts/bisect tells git, with kernels and a ringsock-compare that are played: no wrong word for a wrong reason."""

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from commands import command, image, program
import guests

bisect = command("bisect")

# A bench-scripts/kernels whose kernels do as their releases say; it notes every series in calls.jsonl.
KERNELS = """\
#!{python}
import hashlib, json, os, sys
from pathlib import Path

home = Path({home!r})
words = sys.argv[1:]
specs = words[: words.index("--boots")]
flag = lambda name: words[words.index(name) + 1]
with open(home / "calls.jsonl", "a") as calls:
    calls.write(json.dumps({{"specs": specs, "seed": int(flag("--seed")), "clock": flag("--clock")}}) + "\\n")
if (home / "cut-short").exists():
    sys.exit(130)
folder = Path(flag("--results")) / "kernels-now"
arms = []
for number, spec in enumerate(specs):
    data = (Path(spec, "arch/x86/boot/bzImage") if Path(spec).is_dir() else Path(spec)).read_bytes()
    release = data[0x280:].split()[0].decode()
    label = f"{{number}}-{{release}}"
    arms.append({{"label": label, "sha256": hashlib.sha256(data).hexdigest()}})
    for boot in range(int(flag("--boots"))):
        place = folder / label / f"boot-{{boot:02}}"
        place.mkdir(parents=True)
        status = "unavailable" if "lacking" in release else "done"
        level = "INVALID" if "invalid" in release else "TRUSTED"
        (place / "boot.json").write_text(json.dumps({{
            "outcome": "hung" if "hanging" in release and boot == 2 else "done",
            "runs": [{{"label": "echo", "file": "echo.json", "status": status, "reason": "it needs more"}}],
        }}))
        (place / "echo.json").write_text(json.dumps({{"outcome": {{"status": "completed"}}, "verdict": {{"level": level}}}}))
digest = hashlib.sha256((home / "bin/ringsock-load").read_bytes()).hexdigest()
(folder / "kernels.json").write_text(json.dumps({{"ringsock_load_sha256": digest, "arms": arms}}))
sys.exit("hanging" in "".join(arm["label"] for arm in arms))
"""
# A ringsock-compare that ends with what says.txt holds, a word for each look, and notes the boots it was shown.
COMPARE = """\
#!{python}
import json, sys
from pathlib import Path

home = Path({home!r})
if "--fail-if=wrong" in sys.argv:
    print("error: invalid value 'wrong'\\n\\nFor more", file=sys.stderr)
    sys.exit(2)
if not Path("good").exists():
    sys.exit(3)
shown = [len(list(Path(side).glob("round-*/boot-*/boot.json"))) for side in ("good", "candidate")]
with open(home / "looks.jsonl", "a") as looks:
    looks.write(json.dumps([shown, sys.argv[1:]]) + "\\n")
now, *later = (home / "says.txt").read_text().split()
(home / "says.txt").write_text(" ".join(later))
sys.exit(int(now))
"""
PLAN = '[[run]]\nlabel = "echo"\n'


class Bisect(unittest.TestCase):
    def setUp(self):
        held = tempfile.TemporaryDirectory()
        self.addCleanup(held.cleanup)
        # Paths have spaces in them, as people's do.
        self.folder = Path(held.name) / "a tree"
        facts = {"python": sys.executable, "home": str(self.folder)}
        played = program(self.folder / "bin", "kernels", KERNELS.format(**facts))
        self.programs = {
            "ringsock-load": program(self.folder / "bin", "ringsock-load", "load"),
            "ringsock-compare": program(self.folder / "bin", "ringsock-compare", COMPARE.format(**facts)),
        }
        self.plan = self.folder / "plan.toml"
        self.plan.write_text(PLAN)
        self.state = self.folder / "state"
        self.good, self.candidate = self.kernel("6.1.7-x"), self.kernel("6.12.9-x")
        # Releases that KVM boots.
        self.in_kvm = []
        for patched in (
            mock.patch.object(bisect, "KERNELS", played),
            mock.patch.object(guests, "static_binaries", lambda names: {name: self.programs[name] for name in names}),
            mock.patch.object(guests, "qemu_version", lambda: "99.1"),
            mock.patch.object(guests, "accelerator", lambda it: "kvm" if it.release in self.in_kvm else "tcg"),
        ):
            patched.start()
            self.addCleanup(patched.stop)

    def kernel(self, release, name=None):
        path = self.folder / (name or release)
        path.write_bytes(image(release))
        return path

    def call(self, *words, says="", candidate=None, good=None, fail_if="p50>+5%"):
        """The command, where ringsock-compare says these statuses: (exit status, standard error)."""
        (self.folder / "says.txt").write_text(says)
        argv = ["bisect", "--good", str(good or self.good), "--fail-if", fail_if, "--plan", str(self.plan),
                "--state", str(self.state), *words]
        if "--build" not in words and "--image" not in words:
            argv += ["--candidate", str(candidate or self.candidate)]
        said = io.StringIO()
        # What ringsock-compare prints goes to a descriptor.
        with mock.patch.object(sys, "argv", argv), contextlib.redirect_stderr(said):
            said.fileno = lambda: os.open(os.devnull, os.O_WRONLY)
            try:
                code = bisect.status()
            except SystemExit as ended:
                code = ended.code
        return code, said.getvalue()

    def noted(self, name):
        path = self.folder / name
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def series(self):
        """[(names of the kernels, seed)] of the series made."""
        return [([Path(spec).name for spec in each["specs"]], each["seed"]) for each in self.noted("calls.jsonl")]

    def answers(self):
        return [json.loads(path.read_text())["answer"] for path in self.state.glob("candidates/*/answer.json")]

    def test_a_commit_that_keeps_all_conditions_is_good_and_one_that_breaks_one_is_bad(self):
        code, said = self.call(says="0")
        self.assertEqual((code, self.answers()), (0, ["good"]), said)
        code, said = self.call(says="1", candidate=self.kernel("6.13.0-x"))
        self.assertEqual((code, sorted(self.answers())), (1, ["bad", "good"]), said)
        [(_, words), _] = self.noted("looks.jsonl")
        asked = ["--by", "directory", "--fail-if=p50>+5%", "--undecided", "fail", "--baseline", "good", "good", "candidate"]
        self.assertEqual(words, asked)

    def test_an_answer_is_kept_and_not_measured_again(self):
        self.call(says="1")
        before = self.series
        code, said = self.call("--boots-max", "40", "--unclear", "bad")
        self.assertEqual((code, self.series), (1, before), said)

    def test_what_stays_unclear_is_skipped_and_goes_on_with_more_boots(self):
        code, said = self.call(says="5 5 5")
        self.assertEqual((code, self.answers()), (125, []), said)
        self.assertEqual([shown for shown, _ in self.noted("looks.jsonl")], [[5, 5], [10, 10], [15, 15]])
        before = len(self.series)
        code, said = self.call("--boots-max", "20", says="5 5 5 0")
        self.assertEqual((code, self.series[before:]), (0, [(["6.1.7-x"], 3001), (["6.12.9-x"], 3001)]), said)

    def test_what_stays_unclear_is_what_the_flag_says_and_no_answer_to_keep(self):
        code, said = self.call("--unclear", "bad", "--boots-max", "5", says="5")
        self.assertEqual((code, self.answers()), (1, []), said)

    def test_in_instruction_time_the_good_kernel_is_booted_once_for_all_candidates(self):
        self.call(says="5 0")
        self.call(says="1", candidate=self.kernel("6.13.0-x"))
        good = [seed for names, seed in self.series if names == ["6.1.7-x"]]
        self.assertEqual((good, len(self.series)), ([1, 1001], 5))
        # Of the good kernel's rounds a look has as many as of the candidate's.
        self.assertEqual([shown for shown, _ in self.noted("looks.jsonl")], [[5, 5], [10, 10], [5, 5]])

    def test_in_real_time_both_are_booted_in_turns_for_every_candidate(self):
        self.in_kvm = ["6.1.7-x", "6.12.9-x", "6.13.0-x"]
        self.call(says="0")
        self.call(says="0", candidate=self.kernel("6.13.0-x"))
        self.assertEqual(self.series, [(["6.1.7-x", "6.12.9-x"], 1), (["6.1.7-x", "6.13.0-x"], 1)])
        self.assertEqual({each["clock"] for each in self.noted("calls.jsonl")}, {"real"})

    def test_in_real_time_a_candidate_that_kvm_does_not_boot_is_not_emulated_beside_one_that_it_does(self):
        self.in_kvm = ["6.1.7-x"]
        code, said = self.call()
        self.assertEqual((code, self.series), (125, []), said)
        self.assertIn("does not boot in KVM", said)

    def test_a_candidate_that_does_not_boot_or_lacks_a_run_is_what_the_flag_says(self):
        for release in ("6.12.9-hanging", "6.12.9-lacking"):
            candidate = self.kernel(release)
            for flag, status in (("skip", 125), ("bad", 1), ("good", 0)):
                code, said = self.call("--unbootable", flag, candidate=candidate)
                self.assertEqual((code, self.answers()), (status, []), said)
                self.assertIn("the candidate falls short: boot-0", said)

    def test_a_good_kernel_that_does_not_boot_or_lacks_a_run_stops_the_bisection(self):
        for release in ("6.1.7-hanging", "6.1.7-lacking"):
            self.state = self.folder / f"state-{release}"
            code, said = self.call("--unbootable", "good", good=self.kernel(release))
            self.assertEqual(code, 128, said)
            self.assertIn("falls short (boot-0", said)

    def test_results_that_do_not_count_skip_a_candidate_and_stop_for_the_good_kernel(self):
        code, said = self.call(says="3", candidate=self.kernel("6.12.9-invalid"))
        self.assertEqual((code, self.answers()), (125, []), said)
        self.state = self.folder / "another state"
        code, said = self.call(says="4", good=self.kernel("6.1.7-invalid"))
        self.assertEqual(code, 128, said)
        self.assertIn("no result of the good kernel counts in the run echo", said)

    def test_what_is_missing_on_both_sides_stops_the_bisection(self):
        code, said = self.call(says="3")
        self.assertEqual(code, 128, said)
        self.assertIn("ended with status 3", said)

    def test_wrong_flags_stop_the_bisection_before_anything_is_booted(self):
        for words in (["--nonsense"], ["--boots", "3"], ["--boots", "6", "--boots-max", "5"], ["--clock", "sundial"]):
            code, said = self.call(*words)
            self.assertEqual(code, 128, said)
        code, said = self.call(fail_if="wrong")
        self.assertEqual((code, self.series, (self.state / "asked.json").exists()), (128, [], False), said)
        self.assertIn("--fail-if: invalid value 'wrong'", said)

    def test_what_nobody_expected_stops_the_bisection_and_is_told_whole(self):
        with mock.patch.object(bisect.Bisection, "measure", side_effect=ZeroDivisionError("by zero")):
            code, said = self.call()
        self.assertEqual(code, 128)
        self.assertIn("Traceback", said)
        self.assertIn("not expected: ZeroDivisionError: by zero", said.splitlines()[-1])

    def test_as_a_program_it_stops_git_over_what_it_cannot_measure_and_over_a_broken_python(self):
        words = [sys.executable, "-B", bisect.__file__, "--good", str(self.folder / "none"), "--fail-if", "p50>+5%",
                 "--state", str(self.state)]
        ended = subprocess.run(words, capture_output=True, text=True)
        self.assertEqual((ended.returncode, len(ended.stderr.splitlines())), (128, 1), ended.stderr)
        with open("/dev/full", "w") as full:
            self.assertEqual(subprocess.run(words, stdout=full, stderr=full).returncode, 128)
        (self.folder / "tomllib.py").write_text("raise ImportError('no tomllib')\n")
        ended = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(self.folder)})
        self.assertEqual((ended.returncode, "no tomllib" in ended.stderr), (128, True), ended.stderr)

    def test_a_round_that_was_cut_short_is_made_anew(self):
        (self.folder / "cut-short").touch()
        code, said = self.call()
        self.assertEqual(code, 128, said)
        self.assertEqual([path for path in self.state.rglob("*round*")], [])
        (self.folder / "cut-short").unlink()
        code, said = self.call(says="0")
        self.assertEqual(code, 0, said)
        self.assertEqual([seed for names, seed in self.series if names == ["6.1.7-x"]], [1, 1])

    def test_a_question_is_written_down_before_anything_is_booted(self):
        (self.folder / "cut-short").touch()
        self.call()
        asked = json.loads((self.state / "asked.json").read_text())
        self.assertEqual((asked["fail_if"], asked["plan"], asked["boots"]), (["p50>+5%"], PLAN, 5))

    def test_rounds_of_one_question_are_not_taken_for_another(self):
        self.call(says="5 5 5")
        before = self.series
        self.plan.write_text(PLAN + "# another\n")
        code, said = self.call("--seed", "2", says="0")
        self.assertEqual((code, self.series), (128, before), said)
        self.assertRegex(said, "asks something else .plan, seed.: name another --state")
        self.plan.write_text(PLAN)
        for changed in (self.good, self.programs["ringsock-load"]):
            whole = changed.read_bytes()
            changed.write_bytes(whole + b"another")
            self.assertEqual(self.call(says="0")[0], 128)
            changed.write_bytes(whole)
        self.assertEqual(self.call(says="0")[0], 0)

    def test_a_folder_of_other_things_is_no_state(self):
        self.state.mkdir()
        (self.state / "good").mkdir()
        code, said = self.call()
        self.assertEqual(code, 128)
        self.assertIn("name a new folder", said)

    def test_a_candidate_that_was_built_anew_is_measured_anew(self):
        self.call(says="0")
        self.candidate.write_bytes(self.candidate.read_bytes() + b"rebuilt")
        code, said = self.call(says="1")
        self.assertEqual((code, sorted(self.answers())), (1, ["bad", "good"]), said)

    def test_a_candidates_name_does_not_reach_out_of_the_state(self):
        (self.folder / "linux/arch/x86/boot").mkdir(parents=True)
        (self.folder / "linux/below").mkdir()
        self.kernel("6.13.0-x", "linux/arch/x86/boot/bzImage")
        with contextlib.chdir(self.folder / "linux/below"):
            code, said = self.call(candidate="..", says="0")
        self.assertEqual(code, 0, said)
        [kept] = (self.state / "candidates").iterdir()
        self.assertEqual(len(kept.name), 64)
        self.assertEqual({path.name for path in self.state.iterdir()}, {"asked.json", "good", "candidates"})

    def test_one_image_booted_with_other_options_is_another_candidate(self):
        self.call(says="0")
        with mock.patch.object(bisect.Bisection, "measure", return_value=("bad", True)):
            code, said = self.call(candidate=f"{self.candidate} mitigations=off ../..")
        self.assertEqual((code, sorted(self.answers())), (1, ["bad", "good"]), said)

    def test_git_is_told_of_the_commit_that_is_checked_out_and_skips_what_does_not_build(self):
        tree = self.folder / "linux"
        run = lambda *words: subprocess.run(words, cwd=tree, check=True, capture_output=True, text=True).stdout.strip()
        tree.mkdir()
        run("git", "init", "-q")
        run("git", "-c", "user.name=x", "-c", "user.email=x@y", "commit", "-q", "--allow-empty", "-m", "one")
        with contextlib.chdir(tree):
            for build in ("false", "true"):
                self.assertEqual(self.call("--build", build)[0], 125)
            code, said = self.call("--image", "bzImage")
            self.assertEqual(code, 128, said)
            code, said = self.call("--build", "cp ../6.12.9-x bzImage", "--image", "bzImage", says="0")
        self.assertEqual(code, 0, said)
        [record] = (self.state / "candidates").glob("*/candidate.json")
        self.assertEqual(json.loads(record.read_text())["name"], run("git", "rev-parse", "HEAD"))


if __name__ == "__main__":
    unittest.main()
