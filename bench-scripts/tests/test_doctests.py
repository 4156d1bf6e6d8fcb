"""The examples in the scripts' own texts hold."""

import doctest
import unittest

from commands import command

MODULES = (
    "baselines", "boots", "features", "guests", "idle", "initramfs", "instructions", "interleaved", "kernel_sources", "scenes",
)
COMMANDS = ("kernels", "bare-metal", "bisect", "instructions-gate", "../fuzz/run")


def load_tests(_loader, tests, _pattern):
    for name in MODULES:
        tests.addTests(doctest.DocTestSuite(__import__(name)))
    for name in COMMANDS:
        tests.addTests(doctest.DocTestSuite(command(name)))
    return tests


if __name__ == "__main__":
    unittest.main()
