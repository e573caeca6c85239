#!/usr/bin/env python3
"""docs/asvs.md answers every requirement of levels 1 and 2 of OWASP ASVS 5.0.0, and what it names as evidence exists.

usage: asvs.py SOURCE_ROOT
"""
import os
import re
import sys

# Section: how many requirements of levels 1 and 2 it has. They are the first ones of their section.
SECTIONS = {
    "V1.1": 2, "V1.2": 9, "V1.3": 11, "V1.4": 3, "V1.5": 2, "V2.1": 3, "V2.2": 3, "V2.3": 4, "V2.4": 1, "V3.2": 2,
    "V3.3": 4, "V3.4": 6, "V3.5": 5, "V3.7": 2, "V4.1": 3, "V4.2": 1, "V4.3": 2, "V4.4": 4, "V5.1": 1, "V5.2": 3,
    "V5.3": 2, "V5.4": 3, "V6.1": 3, "V6.2": 12, "V6.3": 4, "V6.4": 4, "V6.5": 5, "V6.6": 3, "V6.8": 4, "V7.1": 3,
    "V7.2": 4, "V7.3": 2, "V7.4": 5, "V7.5": 2, "V7.6": 2, "V8.1": 2, "V8.2": 3, "V8.3": 1, "V8.4": 1, "V9.1": 3,
    "V9.2": 4, "V10.1": 2, "V10.2": 2, "V10.3": 4, "V10.4": 11, "V10.5": 5, "V10.6": 2, "V10.7": 3, "V11.1": 2,
    "V11.2": 3, "V11.3": 3, "V11.4": 4, "V11.5": 1, "V11.6": 1, "V12.1": 3, "V12.2": 2, "V12.3": 4, "V13.1": 1,
    "V13.2": 5, "V13.3": 2, "V13.4": 5, "V14.1": 2, "V14.2": 4, "V14.3": 3, "V15.1": 3, "V15.2": 3, "V15.3": 7,
    "V16.1": 1, "V16.2": 5, "V16.3": 4, "V16.4": 3, "V16.5": 3, "V17.1": 1, "V17.2": 4, "V17.3": 2,
}
ANSWERS = ("yes", "partly", "no", "n/a")
PLACES = ("src/", "tests/", "docs/", "tools/", "packaging/", "meson")


def required():
    return [f"{section}.{i}" for section, count in SECTIONS.items() for i in range(1, count + 1)]


def tested_faults(root):
    """The rows of the catalogue of faults that a test is named after."""
    found = set()
    for where, _, names in os.walk(os.path.join(root, "tests")):
        for name in names:
            if name.endswith((".py", ".c", ".js", ".sh")) and name != "asvs.py":
                with open(os.path.join(where, name), encoding="utf-8", errors="replace") as f:
                    found.update(re.findall(r"fault_\d\d", f.read()))
    return found


def faults(root):
    """(line, what is wrong) of docs/asvs.md."""
    seen, tests = [], tested_faults(root)
    with open(os.path.join(root, "docs/asvs.md"), encoding="utf-8") as f:
        for n, line in enumerate(f, 1):
            if not re.match(r"\| V\d", line):
                continue
            cells = [c.strip() for c in line.strip().strip("|").split("|")]
            if len(cells) != 5 or cells[1] not in ("1", "2") or cells[3] not in ANSWERS or not cells[4]:
                yield n, "needs a number, a level, what it is, one of " + ", ".join(ANSWERS) + ", and how"
                continue
            seen.append(cells[0])
            for name in re.findall(r"`([^`]+)`", cells[4]):
                if re.fullmatch(r"fault_\d\d", name) and name not in tests:
                    yield n, f"no test is named {name}"
                elif name.startswith(PLACES) and " " not in name and not os.path.exists(os.path.join(root, name)):
                    yield n, f"there is no {name}"
    for name in required():
        if seen.count(name) != 1:
            yield 0, f"{name} is answered {seen.count(name)} times"
    for name in sorted(set(seen) - set(required())):
        yield 0, f"{name} is no requirement of levels 1 and 2"


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    found = list(faults(sys.argv[1]))
    for line, what in found:
        print(f"docs/asvs.md:{line}: {what}")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
