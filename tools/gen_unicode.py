#!/usr/bin/env python3
"""Writes src/base/unicode_data.c from the Unicode database that Python has: run by hand when that is newer.

    tools/gen_unicode.py > src/base/unicode_data.c
"""

import unicodedata

CATEGORIES = ("Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf",
              "Po", "Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Cs", "Co", "Cn")


def runs():
    """(first code point, category) of each run of one category."""
    last = None
    for c in range(0x110000):
        category = unicodedata.category(chr(c))
        if category != last:
            yield c, CATEGORIES.index(category)
            last = category


def shifts(change):
    """[first, last, distance, step] of the code points that `change` moves to a single other one."""
    out = []
    for c in range(0x110000):
        to = change(chr(c))
        if len(to) != 1 or ord(to) == c:
            continue
        distance, last = ord(to) - c, out[-1] if out else None
        step = c - last[1] if last else 0
        if last and last[2] == distance and (step == last[3] or (last[0] == last[1] and step <= 2)):
            last[1], last[3] = c, step
        else:
            out.append([c, c, distance, 1])
    return out


def table(kind, name, items):
    print(f"const {kind} base_unicode_{name}[] = {{")
    line = "\t"
    for item in items:
        if len(line) + len(item) > 100:
            print(line.rstrip())
            line = "\t"
        line += item + ", "
    print(line.rstrip())
    print("};")
    print(f"const unsigned base_unicode_{name}_count = sizeof(base_unicode_{name}) / "
          f"sizeof(base_unicode_{name}[0]);")


print('#include "base/unicode_int.h"')
print()
print(f"/* Written by tools/gen_unicode.py: Unicode {unicodedata.unidata_version}. */")
print()
print("/* clang-format off */")
table("uint32_t", "runs", [hex(c << 5 | k) for c, k in runs()])
print()
for name, change in (("to_upper", str.upper), ("to_lower", str.lower)):
    table("struct base_unicode_shift", name, [f"{{{a:#x}, {b:#x}, {d}, {s}}}" for a, b, d, s in shifts(change)])
    print()
print("/* clang-format on */")
