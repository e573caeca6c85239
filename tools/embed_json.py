#!/usr/bin/env python3
"""Embed a JSON file as one string of C.

usage: embed_json.py FILE.json NAME OUT.h OUT.c      NAME: a name such as core_settings
"""
import json
import sys


def main():
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    path, name, out_h, out_c = sys.argv[1:]
    with open(path, encoding="utf-8") as f:
        text = json.dumps(json.load(f), separators=(",", ":"), ensure_ascii=True)
    source = path.rsplit("/", 1)[-1]
    head = f"/* Generated from {source} by tools/embed_json.py. Do not edit. */\n"
    with open(out_h, "w", encoding="utf-8") as f:
        f.write(head + '#pragma once\n\n#include "base/str.h"\n\n'
                f"/* The text of {source}. */\nextern const struct base_str {name};\n")
    lines = "\n".join('\t"' + text[i:i + 96].replace("\\", "\\\\").replace('"', '\\"') + '"' for i in range(0, len(text), 96))
    with open(out_c, "w", encoding="utf-8") as f:
        f.write(head + f'#include "{"/".join(out_h.split("/")[-2:])}"\n\nstatic const char text[] =\n{lines};\n\n'
                f"const struct base_str {name} = {{text, sizeof(text) - 1}};\n")


main()
