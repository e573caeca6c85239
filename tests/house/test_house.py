#!/usr/bin/env python3
"""The house rules can fail: each is tried on a tree that breaks it."""
import os
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import house  # noqa: E402


class Rules(unittest.TestCase):
    def setUp(self):
        self.tree = tempfile.TemporaryDirectory()
        self.root = self.tree.name

    def tearDown(self):
        self.tree.cleanup()

    def write(self, path, text):
        path = os.path.join(self.root, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)

    def found(self, rule, *arguments):
        return [what for _, _, what in getattr(house, rule)(self.root, *arguments)]

    def test_includes(self):
        self.write("src/core/a.c", '#include "core/core_int.h"\n#include "base/str.h"\n#include <stdint.h>\n')
        self.assertEqual(self.found("includes"), [])
        self.write("src/core/a.c", '#include "log/log.h"\n#include <time.h>\n')
        self.write("src/flow/b.c", '#include "core/core.h"\n#include "connect/connect.h"\n')
        self.write("src/engine/c.c", '#include "log/log_int.h"\n')
        self.write("src/log/d.c", '#include "core/block.h"\n')
        self.assertEqual(len(self.found("includes")), 5)

    def test_headers(self):
        self.write("src/base/good.h", "#pragma once\n#include <stddef.h>\nsize_t f(void);\n")
        self.assertEqual(self.found("headers", self.root, "cc"), [])
        self.write("src/base/bad.h", "size_t f(void);\n")
        self.assertEqual(len(self.found("headers", self.root, "cc")), 2)

    def test_purity(self):
        library = os.path.join(self.root, "lib.o")
        for text, wrong in (("int base_x(void);int f(void){return base_x();}", 0),
                            ("int getpid(void);int f(void){return getpid();}", 1)):
            self.write("src/f.c", text)
            os.system(f"cc -c -o {library} {self.root}/src/f.c")
            self.assertEqual(len(self.found("purity", self.root, library)), wrong)

    def test_sizes(self):
        self.write("tests/t.c", "")
        self.write("src/base/a.c", "int f(void)\n{\n" + "\tg();\n" * 70 + "}\n")
        self.assertEqual(self.found("sizes"), [])
        self.write("src/base/a.c", "int f(void)\n{\n" + "\tg();\n" * 71 + "}\n" + "\n" * 1000)
        self.assertEqual(len(self.found("sizes")), 2)

    def test_texts(self):
        self.write("src/base/README.md", "x\n")
        self.assertEqual(self.found("texts"), [])
        self.write("src/cel/a.c", "/* TO" + "DO */\n")
        self.assertEqual(len(self.found("texts")), 2)


if __name__ == "__main__":
    unittest.main()
