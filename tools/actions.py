#!/usr/bin/env python3
"""Turn the catalogue of actions (src/core/actions.json) into C: one JSON text per action, as core_catalogue_add takes it.

usage: actions.py actions.json OUT.h OUT.c
"""
import json
import sys

CLASSES = {"internal", "read", "idempotent", "lookup", "once"}


def unique(pairs):
    keys = [k for k, _ in pairs]
    if len(set(keys)) != len(keys):
        sys.exit(f"actions.json: a key stands twice in {keys}")
    return dict(pairs)


def check(action):
    name = action.get("name", "?")
    for key, kind in (("name", str), ("class", str), ("connector", str), ("timeout_ms", int), ("attempts", int),
                      ("args", dict)):
        if not isinstance(action.get(key), kind):
            sys.exit(f"actions.json: {name}: {key} must be a {kind.__name__}")
    for cls in [action["class"], *action.get("classes", {}).values()]:
        if cls not in CLASSES:
            sys.exit(f"actions.json: {name}: no such class: {cls}")


def literal(text):
    """A C string literal, cut into lines; JSON's escapes are ASCII, so that only quotes and backslashes are special."""
    lines = [text[i:i + 96] for i in range(0, len(text), 96)]
    return "\n".join('\t\t"' + s.replace("\\", "\\\\").replace('"', '\\"') + '"' for s in lines)


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    path, out_h, out_c = sys.argv[1:]
    with open(path, encoding="utf-8") as f:
        actions = json.load(f, object_pairs_hook=unique)["actions"]
    names = [a.get("name") for a in actions]
    if len(set(names)) != len(names):
        sys.exit("actions.json: a name stands twice")
    for action in actions:
        check(action)
    with open(out_h, "w", encoding="utf-8") as f:
        f.write("""/* Generated from actions.json by tools/actions.py. Do not edit. */
#pragma once

#include <stddef.h>

#include "base/str.h"

/* The actions of this build, one JSON object each: what core_catalogue_add takes. */
extern const struct base_str core_actions[];
extern const size_t core_actions_count;
""")
    with open(out_c, "w", encoding="utf-8") as f:
        f.write('/* Generated from actions.json by tools/actions.py. Do not edit. */\n#include "core/actions.h"\n\n')
        f.write("const struct base_str core_actions[] = {\n")
        for action in actions:
            text = json.dumps(action, ensure_ascii=True, separators=(",", ":"))
            f.write(f"\t/* {action['name']} */\n\t{{\n{literal(text)},\n\t\t{len(text)}}},\n")
        f.write(f"}};\nconst size_t core_actions_count = {len(actions)};\n")


if __name__ == "__main__":
    main()
