#!/usr/bin/env python3
"""The documentation works as it is written: every `sh` block of README.md, docs/, examples/ and the folders' READMEs is run,
and what the pages name (links, commands, options, the systemd unit) is there. The rules are in tests/docs/docs.py."""
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = os.environ.get("AIOS_BIN", ROOT / "build")


def main():
    rules = ROOT / "tests/docs/docs.py"
    return max([subprocess.run([sys.executable, rules, rule, ROOT, BIN], check=False).returncode
                for rule in ("links", "commands", "unit", "blocks")])


if __name__ == "__main__":
    sys.exit(main())
