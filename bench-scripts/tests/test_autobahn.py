"""The Autobahn|Testsuite's outcomes, with a wstest that is played: what passes, what does not, and how the table says it."""

import contextlib
import io
import json
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from commands import command, program
import wstest

autobahn = command("autobahn")

OK = {"behavior": "OK", "behaviorClose": "OK", "reportfile": "case.json"}
UNCLEAN = {**OK, "behaviorClose": "UNCLEAN"}
LENIENT = {**OK, "behavior": "NON-STRICT"}
TOLD = {**OK, "behavior": "INFORMATIONAL", "behaviorClose": "INFORMATIONAL"}

# Says which cases it runs and writes the index that stands beside it, as both modes do in the end; the fuzzing server listens.
WSTEST = f"""\
#!{sys.executable}
import json, pathlib, socket, sys, time
here = pathlib.Path(__file__).parent
spec = json.loads(pathlib.Path(sys.argv[sys.argv.index("-s") + 1]).read_text())
print("Cases =", json.loads((here / "cases").read_text()), flush=True)
index = here / "index"
if index.exists():
    (pathlib.Path(spec["outdir"]) / "index.json").write_text(index.read_text())
if "fuzzingserver" in sys.argv:
    listener = socket.create_server(("127.0.0.1", int(spec["url"].rsplit(":", 1)[1])))
    time.sleep(60)
"""


def options(*flags):
    with mock.patch.object(sys, "argv", ["autobahn", *flags]):
        return autobahn.parse_options()


class WhatIsRun(unittest.TestCase):
    def test_a_plain_run_has_both_roles_and_every_engine_and_no_compression(self):
        jobs = autobahn.jobs_of(options())
        self.assertEqual({(job.role, job.engine) for job in jobs}, {(r, e) for r in autobahn.ROLES for e in autobahn.ENGINES})
        self.assertEqual({job.count() for job in jobs}, {301})
        self.assertFalse(any(job.deflates for job in jobs))

    def test_the_whole_suite_has_compression_by_itself(self):
        jobs = autobahn.jobs_of(options("--all", "--engine", "epoll", "--role", "client"))
        self.assertEqual([(job.count(), job.deflates) for job in jobs], [(301, False), (90, True), (126, True)])

    def test_every_second_case_of_compression_keeps_every_size_and_subsection(self):
        jobs = autobahn.jobs_of(options("--all", "--every", "2", "--engine", "epoll", "--role", "client"))
        plain, few, more = (job.cases for job in jobs)
        self.assertEqual((plain[0], len(few), len(more)), ("1.*", 45, 63))
        for cases, subsections in ((few, 5), (more, 7)):
            self.assertEqual({case.split(".")[2] for case in cases}, {str(size) for size in range(1, 19)})
            self.assertEqual(len({case.split(".")[1] for case in cases}), subsections)

    def test_flags_that_do_not_go_together_are_refused(self):
        wrong = (["--url", "ws://x/", "--engine", "epoll"], ["--url", "wss://x/", "--tls"], ["--cases", "8.*"], ["--every", "0"])
        for flags in (*wrong, ["-o", __file__]):
            with self.assertRaises(SystemExit), contextlib.redirect_stderr(io.StringIO()):
                options(*flags)


class WhatCameOfIt(unittest.TestCase):
    def setUp(self):
        held = tempfile.TemporaryDirectory()
        self.addCleanup(held.cleanup)
        self.folder = Path(held.name)

    def judged(self, patterns, asked, index, problems=()):
        outcome = wstest.Outcome(asked, index, self.folder, list(problems))
        return autobahn.judge(autobahn.Job("server", "epoll", tuple(patterns)), outcome)

    def test_what_is_not_judged_passes_by_its_name_and_nothing_else_that_is_not_ok(self):
        self.assertEqual(self.judged(["2.1", "7.1.6"], ["2.1", "7.1.6"], {"2.1": OK, "7.1.6": TOLD}), [])
        for case, result in (("2.1", LENIENT), ("2.1", TOLD), ("7.1.6", LENIENT), ("7.13.1", {**TOLD, "behavior": "FAILED"})):
            (problem,) = self.judged([case], [case], {case: result})
            self.assertIn(f"case {case}: {result['behavior']}, close {result['behaviorClose']}", problem)

    def test_every_exception_is_a_case_of_the_suite_and_has_a_reason(self):
        for case, (word, why) in autobahn.NOT_JUDGED.items():
            self.assertIn(autobahn.section_of(case), autobahn.SECTION_CASES)
            self.assertTrue(word in ("NON-STRICT", "INFORMATIONAL") and len(why) > 5, case)

    def test_each_case_that_failed_is_named_with_the_suites_own_words(self):
        (self.folder / "case.json").write_text(json.dumps({"result": "Echoed.", "resultClose": "No Close frame."}))
        (problem,) = self.judged(["2.*"], [f"2.{n}" for n in range(1, 12)], {f"2.{n}": OK for n in range(1, 11)} | {"2.11": UNCLEAN})
        self.assertEqual(problem, "server epoll plain: case 2.11: OK, close UNCLEAN: Echoed. No Close frame.")

    def test_cases_that_did_not_run_or_are_not_there_are_failures(self):
        missing, = self.judged(["2.1", "2.2"], ["2.1", "2.2"], {"2.1": OK})
        self.assertIn("1 of 2 cases did not run: 2.2", missing)
        fewer, = self.judged(["2.*"], ["2.1"], {"2.1": OK})
        self.assertIn("wstest has 1 cases, 11 expected", fewer)
        unknown, = self.judged(["2.1", "2.99"], ["2.1"], {"2.1": OK})
        self.assertIn("does not know 2.99", unknown)
        unasked, = self.judged(["2.1"], ["2.1"], {"2.1": OK, "2.2": OK})
        self.assertIn("case 2.2 was not asked for", unasked)
        self.assertEqual(self.judged(["2.1"], ["2.1"], {"2.1": OK}, ["it hung"]), ["server epoll plain: it hung"])

    def test_the_table_counts_by_section_and_names_what_is_not_ok(self):
        rows = {
            ("server", "uring"): {"2.1": "OK", "6.4.1": "NON-STRICT", "7.1.6": "INFORMATIONAL", "12.1.1": "OK"},
            ("client", "uring"): {"2.1": "UNCLEAN", "6.4.1": "NON-STRICT", "7.1.6": "INFORMATIONAL", "12.1.1": "missing"},
        }
        head, server, client, _, *exceptions = autobahn.table(rows)
        self.assertEqual(
            head.split(), "role engine 2 6 7 12 cases OK NON-STRICT INFORMATIONAL UNCLEAN missing".split()
        )
        self.assertEqual(server.split(), "server uring 1 0/1 1 1 4 2 1 1 0 0".split())
        self.assertEqual(client.split(), "client uring 0/1 0/1 1 0/1 4 0 1 1 1 1".split())
        *named, reason = exceptions
        self.assertEqual(
            named,
            [
                "INFORMATIONAL (all): 7.1.6", "NON-STRICT (all): 6.4.1", "UNCLEAN (client uring): 2.1",
                "missing (client uring): 12.1.1",
            ],
        )
        self.assertTrue(reason.startswith("7.1.6 passes as INFORMATIONAL: "), reason)

    def test_rows_are_of_a_role_and_an_engine_with_tls_or_without(self):
        outcome = wstest.Outcome(["2.1"], {"2.1": OK}, self.folder)
        jobs = [autobahn.Job(role, engine, ("2.1",), tls=True) for engine in ("epoll", "uring") for role in ("client", "server")]
        rows = autobahn.rows_of([(job, outcome) for job in jobs])
        expected = [(role, f"{engine}, TLS") for role in ("server", "client") for engine in ("uring", "epoll")]
        self.assertEqual(list(rows), expected)
        self.assertEqual(autobahn.judge(jobs[0], wstest.Outcome(["2.1"], {}, self.folder))[0][:24], "client epoll, TLS plain:")

    def test_a_file_of_results_is_never_written_over(self):
        path = self.folder / "table.txt"
        autobahn.save(path, ["one"])
        with self.assertRaises(FileExistsError):
            autobahn.save(path, ["two"])
        self.assertEqual(path.read_text(), "one\n")


class WithASuiteThatIsPlayed(unittest.TestCase):
    def setUp(self):
        held = tempfile.TemporaryDirectory()
        self.addCleanup(held.cleanup)
        self.folder = Path(held.name)
        self.program = program(self.folder, "wstest", WSTEST)
        (self.folder / "cases").write_text('["2.1", "2.2"]')
        self.report = self.folder / "report"

    def test_the_outcomes_are_those_of_this_run_and_of_this_agent(self):
        (self.folder / "index").write_text(json.dumps({"us": {"2.1": OK}, "other": {"2.2": OK}}))
        of_server = wstest.fuzz_server(self.program, self.report, "us", "ws://127.0.0.1:1/", ["2.*"], 20)
        of_client = wstest.fuzz_client(self.program, self.report, "us", ["true"], ["2.*"], 20)
        for outcome in (of_server, of_client):
            self.assertEqual((outcome.asked, outcome.index, outcome.problems), (["2.1", "2.2"], {"2.1": OK}, []))
        (self.folder / "index").unlink()
        again = wstest.fuzz_server(self.program, self.report, "us", "ws://127.0.0.1:1/", ["2.*"], 20)
        self.assertEqual(again.index, {})
        self.assertIn("no index of outcomes", again.problems[0])

    def test_a_client_that_fails_or_does_not_end_is_a_problem_and_is_ended(self):
        (self.folder / "index").write_text(json.dumps({"us": {"2.1": OK}}))
        failed = wstest.fuzz_client(self.program, self.report, "us", ["sh", "-c", "echo no; exit 3"], ["2.*"], 20)
        self.assertEqual(failed.problems, ["the client ended with 3: no"])
        hung = wstest.fuzz_client(self.program, self.report, "us", ["sh", "-c", "exec sleep 60"], ["2.*"], 0.5)
        self.assertIn("did not come to an end within", hung.problems[0])

    def test_a_secured_client_is_told_which_certificate_the_suite_shows(self):
        (self.folder / "index").write_text(json.dumps({"us": {"2.1": OK, "2.2": OK}}))
        client = ["sh", "-c", 'openssl x509 -noout -ext subjectAltName,basicConstraints -in "$2" && echo "$1" "$3"', "client"]
        outcome = wstest.fuzz_client(self.program, self.report, "us", client, ["2.*"], 20, tls=True)
        self.assertEqual(outcome.problems, [])
        spec = json.loads((self.report / "spec.json").read_text())
        self.assertTrue(spec["url"].startswith("wss://127.0.0.1:") and "PRIVATE KEY" in Path(spec["key"]).read_text())
        said = (self.report / "client.log").read_text()
        for expected in ("IP Address:127.0.0.1", "CA:FALSE", f"--ca {spec['url']}/"):
            self.assertIn(expected, said)

    def test_without_a_case_the_suite_is_not_waited_for(self):
        (self.folder / "cases").write_text("[]")
        with self.assertRaisesRegex(wstest.CannotRun, "no cases for 99"):
            wstest.fuzz_server(self.program, self.report, "us", "ws://127.0.0.1:1/", ["99"], 20)

    def test_a_server_is_told_to_end_and_its_own_end_is_a_problem(self):
        lives = "trap 'exit 0' TERM; while :; do sleep 0.1; done"
        for url, then, expected in (
            ("ws://127.0.0.1:9/", lives, ""), ("wss://127.0.0.1:9/", lives, ""), ("ws://[::1]:9/", "exit 5", "ended by itself with 5"),
        ):
            with wstest.Server(["sh", "-c", f"echo 'listening on {url}'; {then}"]) as server:
                self.assertEqual(server.url, url)
                if expected:
                    server.wait(20)
                self.assertIn(expected, " ".join(server.end()) or "")
        with self.assertRaisesRegex(wstest.CannotRun, "no `listening on"):
            wstest.Server(["sh", "-c", "echo something else"])


if __name__ == "__main__":
    unittest.main()
