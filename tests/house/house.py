#!/usr/bin/env python3
"""The rules of the house (docs/STYLE.md, docs/ARCHITECTURE.md) as tests.

usage: house.py RULE SOURCE_ROOT [BUILD_ROOT] [ARGUMENT...]

Prints each breach as file:line: what; exit code 1 if there is one, 2 if the rule could not be checked.
"""
import os
import re
import subprocess
import sys

# What a folder may include besides itself. Nobody includes another folder's *_int.h.
LAYERS = {
    "base": set(),
    "token": {"base"},
    "cel": {"base"},
    "wire": {"base"},
    "jail": {"base"},
    "core": {"base", "cel"},
    "log": {"base", "core/block.h"},
    "engine": {"base", "token", "cel", "wire", "jail", "core", "log"},
    "flow": {"base", "wire", "jail"},
    "connect": {"base", "wire", "jail"},
    "parse": {"base", "wire", "jail"},
    "pass": {"base", "wire", "jail"},
    "vault": {"base", "wire", "jail"},
    "views": {"base", "wire", "jail", "core"},
    "fold": {"base", "wire", "jail", "core"},
    "door": {"base", "wire", "jail"},
    "cli": {"base", "cel", "token", "wire", "jail", "core", "parse"},
    "sim": {"base", "wire", "core", "log", "engine"},
}
# The simulator stands in the place of some files of the engine: it sees what they see.
PRIVATE = {("sim", "engine/engine_int.h")}
# Headers that let a pure folder see a clock, a file or a thread.
IMPURE = re.compile(r"^(stdio|unistd|time|fcntl|poll|pthread|signal|dirent|threads|spawn|semaphore|sys/.*|linux/.*)\.h$")
PURE = {"cel", "core"}
# What core's library may leave undefined besides base_ and cel_: bytes and strings, and what the compiler calls.
PURE_SYMBOLS = {
    "memcpy", "memmove", "memset", "memcmp", "memchr", "strlen", "strcmp", "strncmp", "strchr", "strrchr", "strnlen",
    "memmem", "qsort", "bsearch", "__memcpy_chk", "__memmove_chk", "__memset_chk", "__stack_chk_fail",
    "_GLOBAL_OFFSET_TABLE_",
}
# core draws from distributions (the choice is then an event); a compiled expression outlives the arenas.
PURE_MORE = {"libcore.a": {"log", "sqrt"}, "libcel.a": {"calloc", "free", "ceil", "floor", "round", "sqrt", "trunc"}}
LINES_MAX, FUNCTION_MAX = 1000, 70


def files(root, *kinds, under="src"):
    for folder, _, names in sorted(os.walk(os.path.join(root, under))):
        for name in sorted(names):
            if name.endswith(kinds):
                yield os.path.relpath(os.path.join(folder, name), root)


def lines(root, path):
    with open(os.path.join(root, path), encoding="utf-8") as f:
        return f.read().split("\n")


def includes(root):
    """Each file of src includes from earlier layers only, and from no sibling process."""
    for path in files(root, ".c", ".h"):
        folder = path.split("/")[1]
        for n, line in enumerate(lines(root, path), 1):
            quoted = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
            system = re.match(r"\s*#\s*include\s+<([^>]+)>", line)
            if system and folder in PURE and IMPURE.match(system.group(1)):
                yield path, n, f"{folder} is pure: it may not include <{system.group(1)}>"
            if not quoted:
                continue
            target = quoted.group(1)
            other = target.split("/")[0] if "/" in target else folder
            if other == folder:
                continue
            if folder not in LAYERS:
                yield path, n, f"no layer is declared for src/{folder}"
            elif other not in LAYERS[folder] and target not in LAYERS[folder]:
                yield path, n, f'{folder} may not include "{target}"'
            elif target.endswith("_int.h") and (folder, target) not in PRIVATE:
                yield path, n, f'"{target}" is private to {other}'


def compile_alone(root, build, path, compiler):
    command = [*compiler, "-std=gnu11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-x", "c",
               "-I" + os.path.join(root, "src"), "-I" + os.path.join(build, "src"), "-"]
    text = f'#include "{path[len("src/"):]}"\n'
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    wrong = [line for line in done.stderr.split("\n") if "error:" in line]
    return "" if done.returncode == 0 else (wrong or [done.stderr])[0]


def headers(root, build, *compiler):
    """Each header starts with #pragma once and compiles alone."""
    for path in files(root, ".h"):
        if not lines(root, path)[0].startswith("#pragma once"):
            yield path, 1, "the first line is not #pragma once"
        wrong = compile_alone(root, build, path, compiler)
        if wrong:
            yield path, 1, "does not compile alone: " + wrong


def symbols(library, option):
    done = subprocess.run(["nm", option, library], capture_output=True, text=True, check=True)
    return {line.split()[-1] for line in done.stdout.split("\n") if len(line.split()) >= 2 and not line.endswith(":")}


def purity(root, build, *libraries):
    """The pure libraries leave nothing undefined but base_, cel_, and functions on bytes."""
    for library in libraries:
        defined = symbols(library, "--defined-only")
        if not defined:
            yield library, 1, "defines nothing"
        for name in sorted(symbols(library, "--undefined-only") - defined):
            known = PURE_SYMBOLS | PURE_MORE.get(os.path.basename(library), set())
            if not re.match(r"(base|cel)_", name) and name not in known:
                yield library, 1, f"needs {name}"


def sizes(root):
    """Files and functions have a limit (columns are clang-format's)."""
    for under in ("src", "tests"):
        for path in files(root, ".c", ".h", ".py", ".js", under=under):
            text = lines(root, path)
            if len(text) - 1 > LINES_MAX:
                yield path, len(text), f"more than {LINES_MAX} lines"
            if not path.endswith((".c", ".h")):
                continue
            start = None
            for n, line in enumerate(text, 1):
                if line == "{":
                    start = n
                elif line == "}" and start is not None:
                    if n - start - 1 > FUNCTION_MAX:
                        yield path, start, f"a function of {n - start - 1} lines; the limit is {FUNCTION_MAX}"
                    start = None


def texts(root):
    """Each source folder has a README; nothing is left for later."""
    for folder in sorted(os.listdir(os.path.join(root, "src"))):
        path = f"src/{folder}/README.md"
        if os.path.isdir(os.path.join(root, "src", folder)) and not os.path.exists(os.path.join(root, path)):
            yield path, 1, "missing"
    later = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
    for under in ("src", "tests", "tools", "examples", "docs"):
        for path in files(root, ".c", ".h", ".py", ".js", ".sh", ".md", ".yaml", ".def", ".build", under=under):
            for n, line in enumerate(lines(root, path), 1):
                if later.search(line):
                    yield path, n, "something is left for later"


def faults(root):
    """docs/security.md has each row of the catalogue, and each test that it names is in the tree."""
    path, rows, known = "docs/security.md", {}, set()
    for test in files(root, ".c", ".py", ".mjs", ".build", under="tests"):
        known |= set(re.findall(r"fault_\d\d_\w+", "\n".join(lines(root, test))))
    for n, line in enumerate(lines(root, path), 1):
        row = re.match(r"\| (\d\d) \|.*\|(.*)\|$", line)
        if not row:
            continue
        number, names = int(row.group(1)), re.findall(r"`(fault_\d\d_\w+)`", row.group(2))
        rows[number] = n
        if not names and not re.match(r" (Does not apply|Not yet|No test of this name)", row.group(2)):
            yield path, n, f"row {number} names no test and says not why"
        for name in names:
            if name not in known:
                yield path, n, f"there is no test {name}"
            elif int(name[6:8]) != number:
                yield path, n, f"{name} is of another row"
    for number in range(38, 73):
        if number not in rows:
            yield path, 1, f"row {number} of the catalogue is missing"


def main():
    rules = {"includes": includes, "headers": headers, "purity": purity, "sizes": sizes, "texts": texts,
             "faults": faults}
    if len(sys.argv) < 3 or sys.argv[1] not in rules:
        sys.exit(__doc__)
    breaches = 0
    for path, n, what in rules[sys.argv[1]](*sys.argv[2:]):
        print(f"{path}:{n}: {what}")
        breaches += 1
    sys.exit(1 if breaches else 0)


if __name__ == "__main__":
    main()
