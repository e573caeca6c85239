#!/usr/bin/env python3
"""The documentation as a test: what it says exists, and what it tells to type works.

usage: docs.py RULE SOURCE_ROOT BUILD_ROOT

In README.md, docs/, examples/ and the folders' READMEs:

  ```sh         is run: the blocks of one file in order, in one shell, in a scratch folder that looks like a checkout
                (build/, examples/ and packaging/ are there), so each page makes what it uses
  ```js PATH    (any language) is written to that path when the blocks before it have run
  ```console    is not run (it needs another machine, a real account or minutes), but its commands must exist
  ```text       output and pictures

Prints each breach as file:line: what; exit code 1 if there is one.
"""
import os
import pathlib
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile

PORT = "7717"
END = "END_OF_THIS_FILE"
PATHS = ("src", "tests", "tools", "docs", "examples", "packaging", "bench")
PLACEHOLDER = re.compile(r"(?<![a-zA-Z.])(?!README|ARCHITECTURE|BUILD|STYLE)[A-Z]+(?![a-z])|NAME")
CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def pages(root):
    root = pathlib.Path(root)
    found = [root / "README.md", *root.glob("docs/**/*.md"), *root.glob("examples/*.md"), *root.glob("src/*/README.md")]
    return sorted(str(p.relative_to(root)) for p in found if p.is_file())


class Page:
    """The lines of a page, each with the language of the fenced block that it stands in (None: outside of one)."""

    def __init__(self, root, path):
        self.path = path
        self.lines = []
        self.files = []  # (line of the fence, line of its end, path) of the blocks that are files
        language = None
        text = pathlib.Path(root, path).read_text(encoding="utf-8").split("\n")
        self.count = len(text)
        for n, line in enumerate(text, 1):
            fence = re.match(r"```(\S*) ?(\S*)", line)
            if not fence:
                self.lines.append((n, language, line))
            elif language is None:
                language, began, file = fence.group(1) or "text", n, fence.group(2)
            else:
                language = None
                if file:
                    self.files.append((began, n, file))
        self.open = language is not None

    def prose(self):
        return [(n, line) for n, language, line in self.lines if language is None]

    def commands(self):
        """(line, words) of each command: in blocks for a shell, indented blocks, and code within a line."""
        for n, language, line in self.lines:
            if language in ("sh", "console") or (language is None and line.startswith("    ")):
                yield from ((n, words) for words in split(line))
            elif language is None:
                for code in CODE.findall(line):
                    yield from ((n, words) for words in split(code))


def split(line):
    """The words of each command of a line of shell."""
    line = re.sub(r"\bsudo -u \S+ ", "", line)
    lexer = shlex.shlex(line.rstrip("\\"), posix=True, punctuation_chars="|&;()")
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:
        words = line.split()
    command = []
    for word in words + [";"]:
        if word and set(word) <= set("|&;()"):
            if command:
                yield command
            command = []
        elif command or not re.match(r"^\w+=.*$", word):
            command.append(word)


def anchors(root, path):
    text = pathlib.Path(root, path).read_text(encoding="utf-8")
    names = re.findall(r"^#+ +(.+)$", text, re.M)
    return {re.sub(r"[^\w -]", "", name.lower()).strip().replace(" ", "-") for name in names}


def links(root, _build):
    """Links within the project resolve, and so do the paths that are named."""
    for path in pages(root):
        page = Page(root, path)
        if page.open:
            yield path, len(page.lines), "a fenced block is not closed"
        folder = os.path.dirname(path)
        for n, line in page.prose():
            for target in LINK.findall(CODE.sub("", line)):
                if re.match(r"\w+:", target):
                    continue
                file, _, anchor = target.partition("#")
                to = os.path.normpath(os.path.join(folder, file)) if file else path
                if not os.path.exists(os.path.join(root, to)):
                    yield path, n, f"{target} is not there"
                elif anchor and to.endswith(".md") and anchor not in anchors(root, to):
                    yield path, n, f"{to} has no heading #{anchor}"
            for code in CODE.findall(line):
                named = re.fullmatch(r"(%s)/[\w./@-]+" % "|".join(PATHS), code) and not PLACEHOLDER.search(code)
                if named and not exists(root, folder, code):
                    yield path, n, f"{code} is not there"


def exists(root, folder, name):
    """A path from the root or from the page's own folder."""
    return any(os.path.exists(os.path.join(root, at, name)) for at in ("", folder))


def output(*command):
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False).stdout


class Cli:
    """What the command line says of itself."""

    def __init__(self, build, root):
        self.aios = os.path.join(build, "aios")
        self.names = re.findall(r"^  ([a-z]+(?: [a-z]+)?)(?= [A-Z\[]|  )", output(self.aios, "--help"), re.M)
        self.dev = set(re.findall(r"^  ([a-z]+)", output(os.path.join(root, "dev"), "--help"), re.M))
        self.helps = {}

    def options(self, name):
        if name not in self.helps:
            text = output(self.aios, *name.split(), "--help")
            self.helps[name] = set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", text)) | {"--help", "-h", "-f"}
        return self.helps[name]

    def fault(self, words):
        """What is wrong with `aios WORDS`, or None."""
        while words and words[0].startswith("-"):
            words = words[2:] if words[0] in ("-C", "--workspace") else words[1:]
        plain = [w for w in words if re.fullmatch(r"[a-z]+", w)]
        if not words or not re.fullmatch(r"[a-z|]+", words[0]):
            return None  # `aios` alone, or `aios COMMAND`
        name = next((n for n in (" ".join(plain[:2]), words[0]) if n in self.names), None)
        if name is None:
            several = words[-1].split("|") if len(words) == 2 and "|" in words[1] else []
            if several and all(f"{words[0]} {s}" in self.names for s in several):
                return None
            group = len(words) == 1 and any(n.startswith(words[0] + " ") for n in self.names)
            return None if group else f"there is no command aios {' '.join(words[:2])}"
        if name == "run":
            return None  # takes any option as a member of the input
        wrong = [o for w in words for o in [w.split("=")[0]]
                 if re.fullmatch(r"--?[a-zA-Z][\w-]*", o) and o not in self.options(name)]
        return f"aios {name} has no option {wrong[0]}" if wrong else None


def commands(root, build):
    """Commands and options that are named exist: of aios, of ./dev, and tests by their names."""
    cli = Cli(build, root)
    tests = set()
    if os.path.exists(os.path.join(build, "meson-info/intro-tests.json")):
        tests = set(re.findall(r'"name": "([^"]+)"', pathlib.Path(build, "meson-info/intro-tests.json").read_text()))
    if not cli.names or not cli.dev:
        yield "aios", 1, "aios --help and ./dev --help name no commands"
    for path in pages(root):
        for n, words in Page(root, path).commands():
            if words[0] in ("aios", "build/aios", "./build/aios"):
                wrong = cli.fault(words[1:])
                if wrong:
                    yield path, n, wrong
            elif words[0] == "./dev" and len(words) > 1 and re.match("[a-z]", words[1]) and words[1] not in cli.dev:
                yield path, n, f"there is no ./dev {words[1]}"
            elif words[:2] == ["./dev", "fuzz"]:
                for name in words[2:]:
                    if re.fullmatch(r"[a-z]+", name) and not os.path.exists(os.path.join(root, f"tests/fuzz/fuzz_{name}.c")):
                        yield path, n, f"there is no fuzz target {name}"
            elif words[:2] == ["meson", "test"] and tests:
                for name in words[2:]:
                    if "/" in name and "*" not in name and name not in tests:
                        yield path, n, f"there is no test {name}"


def unit(root, _build):
    """The systemd unit of docs/operations.md is the one that is shipped, and systemd takes it."""
    page = Page(root, "docs/operations.md")
    shown = [line for _, language, line in page.lines if language == "ini"]
    path = os.path.join(root, "packaging/aios@.service")
    shipped = pathlib.Path(path).read_text(encoding="utf-8").rstrip("\n").split("\n")
    if shown != shipped:
        yield page.path, 1, "its unit is not packaging/aios@.service"
    if not shutil.which("systemd-analyze"):
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, "aios@test.service")
        text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", "\n".join(shipped), flags=re.M)
        pathlib.Path(copy).write_text(re.sub(r"^User=.*", "User=daemon", text, flags=re.M) + "\n")
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", copy], capture_output=True, text=True, check=False)
        for line in done.stderr.split("\n"):
            if "aios@" in line:
                yield "packaging/aios@.service", 1, line.strip()


def checkout(root, build, folder, port):
    """A folder that looks like a checkout; its aios starts aiosd on a port that nothing else uses."""
    for name in ("examples", "packaging", "docs"):
        if os.path.exists(os.path.join(root, name)):
            os.symlink(os.path.join(root, name), os.path.join(folder, name))
    os.mkdir(os.path.join(folder, "build"))
    os.mkdir(os.path.join(folder, "home"))
    wrapper = os.path.join(folder, "build/aios")
    with open(wrapper, "w", encoding="utf-8") as f:
        f.write(f'#!/bin/sh\n[ "$1" = up ] && shift && set -- up --port {port} "$@"\n'
                f'exec {shlex.quote(os.path.join(build, "aios"))} "$@"\n')
    os.chmod(wrapper, 0o755)


def script(page, port):
    """The page's blocks with every line where it stands in the page, so that bash names the page's lines."""
    lines = [""] * page.count
    for n, language, line in page.lines:
        inside = any(began < n < end for began, end, _ in page.files)
        lines[n - 1] = line.replace(PORT, port) if language == "sh" or inside else ""
    for began, end, path in page.files:
        lines[began - 1] = f"mkdir -p $(dirname {path}); cat >{path} <<'{END}'"
        lines[end - 1] = END
    lines[0] = "set -eE -o pipefail; trap 'echo \"line $LINENO: $BASH_COMMAND\" >&2' ERR; " + lines[0]
    return "\n".join(lines)


def stop(aios, folder):
    for home in pathlib.Path(folder).glob("**/.aios"):
        if (home / "run/door.sock").exists():
            subprocess.run([aios, "-C", home.parent, "down"], capture_output=True, check=False)


def blocks(root, build):
    """Every ```sh block runs."""
    ran = 0
    for path in pages(root):
        page = Page(root, path)
        if not any(language == "sh" for _, language, _ in page.lines):
            continue
        ran += 1
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = str(s.getsockname()[1])
        with tempfile.TemporaryDirectory(prefix="aios-docs-") as folder:
            checkout(root, build, folder, port)
            env = {"PATH": f"{folder}/build:{os.environ['PATH']}", "HOME": f"{folder}/home", "LANG": "C.UTF-8", "TERM": "dumb"}
            try:
                done = subprocess.run(["bash", "-c", script(page, port)], cwd=folder, env=env, stdin=subprocess.DEVNULL,
                                      capture_output=True, text=True, timeout=240, check=False)
                failed, said = done.returncode != 0, done.stdout[-1500:] + done.stderr[-1500:]
            except subprocess.TimeoutExpired as e:
                failed, said = True, f"did not end: {(e.stdout or b'')[-1500:]} {(e.stderr or b'')[-1500:]}"
            finally:
                stop(os.path.join(build, "aios"), folder)
            if failed:
                line = re.findall(r"^line (\d+): ", said, re.M)
                yield path, int(line[0]) if line else 1, f"a command fails:\n{said}"
    if not ran:
        yield "README.md", 1, "no page has a block that is run"


RULES = {"links": links, "commands": commands, "unit": unit, "blocks": blocks}


def main():
    if len(sys.argv) != 4 or sys.argv[1] not in RULES:
        sys.stderr.write(__doc__)
        return 2
    bad = 0
    for path, n, what in RULES[sys.argv[1]](os.path.abspath(sys.argv[2]), os.path.abspath(sys.argv[3])):
        print(f"{path}:{n}: {what}")
        bad = 1
    return bad


if __name__ == "__main__":
    sys.exit(main())
