#!/usr/bin/env python3
"""Three hundred episodes of evilmodel (tests/evilmodel): fault_47_injection_steals_secret, fault_48_injection_changes_payee and
fault_53_memory_poisoning against the real processes. `./dev evil` plays ten thousand."""
import os
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
os.execv(sys.executable, [sys.executable, str(HERE.parent / "evilmodel/evil.py"), "--episodes", "300", "--jobs", "4"])
