"""Flags and keys of what counts instructions; nothing is built and nothing booted."""

import contextlib
import io
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from commands import Found, command, program
import guests

gate = command("instructions-gate")


class Flags(unittest.TestCase):
    def error_of(self, name, *words):
        """What a script says of flags that it refuses."""
        said = io.StringIO()
        with mock.patch.object(sys, "argv", [name, *words]), contextlib.redirect_stderr(said):
            with self.assertRaises(SystemExit) as ended:
                command(name).parse_flags()
        self.assertEqual(ended.exception.code, 2)
        return said.getvalue()

    def test_flags_of_guests_are_refused_where_there_are_none(self):
        for name in ("engines", "peers"):
            for flag in ("--kernel=6.12", "--boots=1"):
                with self.subTest(name=name, flag=flag):
                    said = self.error_of(name, flag)
                    self.assertIn(f"{flag.partition('=')[0]} is of guests: add --instructions", said)

    def test_with_instructions_they_are_taken_and_have_their_defaults(self):
        for words, expected in (([], ("6.12", 1)), (["--kernel", "6.1", "--boots", "3"], ("6.1", 3))):
            with mock.patch.object(sys, "argv", ["engines", "--instructions", *words]):
                given = command("engines").parse_flags()
            self.assertEqual((given.kernel, given.boots), expected)


@mock.patch.object(guests, "qemu_version", lambda: "99.1")
@mock.patch.object(gate, "version", lambda program: f"{program} 1")
class Key(unittest.TestCase):
    def test_another_busybox_or_init_is_another_key_and_the_servers_are_no_part_of_it(self):
        kernel = guests.Kernel("6.1.7", "6.1.7", Path("k"), "here", "77")
        with tempfile.TemporaryDirectory() as held, Found(held):
            busybox = program(Path(held), "busybox", "#!/bin/sh\n")
            keys = [gate.key_of(kernel)["guest"], gate.key_of(kernel)["guest"]]
            busybox.write_text("#!/bin/sh\n# another\n")
            keys.append(gate.key_of(kernel)["guest"])
            with mock.patch.object(guests, "INIT", guests.INIT + "# longer\n"):
                keys.append(gate.key_of(kernel)["guest"])
        self.assertEqual(keys[0], keys[1])
        self.assertEqual(len(set(keys)), 3)


if __name__ == "__main__":
    unittest.main()
