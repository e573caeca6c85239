#!/usr/bin/env python3
"""The rules for the documentation can fail: each is tried on pages that break it."""
import os
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import docs  # noqa: E402

AIOS = """#!/bin/sh
case "$*" in
"--help") printf '  init DIR      x\\n  memory get KEY   x\\n  log tail      x\\n  log verify    x\\n  up            x\\n  run FLOW   x\\n' ;;
*--help) echo '  --name NAME   x' ;;
up*) echo up > up.txt; echo "$*" > args.txt ;;
init*) mkdir "$2" ;;
*) exit 1 ;;
esac
"""


class Rules(unittest.TestCase):
    def setUp(self):
        self.tree = tempfile.TemporaryDirectory()
        self.addCleanup(self.tree.cleanup)
        self.root = self.tree.name
        self.write("build/aios", AIOS, 0o755)
        self.write("dev", "#!/bin/sh\necho '  test     x'\n", 0o755)
        self.write("src/a/README.md", "# a\n")

    def write(self, path, text, mode=0o644):
        path = pathlib.Path(self.root, path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)

    def found(self, rule, page):
        self.write("README.md", page)
        return [(n, what) for _, n, what in getattr(docs, rule)(self.root, os.path.join(self.root, "build"))]

    def count(self, rule, page):
        return len(self.found(rule, page))

    def test_links(self):
        self.assertEqual(self.count("links", "[a](src/a/README.md#a) `src/a` `src/X/none.c` [w](https://example.org)\n"), 0)
        for page in ("[a](src/b/README.md)\n", "[a](src/a/README.md#b)\n", "[a](#b)\n", "`src/a/none.c`\n", "```sh\n"):
            self.assertEqual(self.count("links", page), 1, page)

    def test_commands(self):
        good = "`aios init DIR --name X` `aios memory` `aios log tail|verify` `./dev test` `aios run f --any thing`\n"
        self.assertEqual(self.found("commands", good), [])
        for page in ("`aios nothing`\n", "`aios init --none`\n", "`aios memory put`\n", "`./dev none`\n",
                     "```sh\naios up && aios nothing\n```\n", "```console\nsudo -u x aios none\n```\n", "    aios none\n",
                     "`./dev fuzz none`\n"):
            self.assertEqual(self.count("commands", page), 1, page)

    def test_blocks(self):
        good = "```sh\naios init w\ncd w\n```\n\n```js a/b.js\nx = '7717'\n```\n\n```sh\n! grep 7717 a/b.js\naios up\ntest -f up.txt\n```\n"
        self.assertEqual(self.found("blocks", good), [])
        self.assertEqual(self.found("blocks", "a\n\n```console\nfalse\n```\n")[0][0], 1)
        self.assertEqual([n for n, _ in self.found("blocks", "a\n```sh\ntrue\n\nfalse\ntrue\n```\n")], [5])
        self.assertEqual([n for n, _ in self.found("blocks", "```sh\nfalse | cat\n```\n")], [2])
        self.assertEqual([n for n, _ in self.found("blocks", "```sh\nx=$(aios none)\n```\n")], [2])

    def test_unit(self):
        text = "[Service]\nUser=ada\nExecStart=/x\n"
        self.write("packaging/aios@.service", text)
        self.write("docs/operations.md", f"```ini\n{text}```\n")
        self.assertEqual(self.found("unit", ""), [])
        self.write("docs/operations.md", "```ini\n[Service]\n```\n")
        self.assertEqual(self.count("unit", ""), 1)


if __name__ == "__main__":
    unittest.main()
