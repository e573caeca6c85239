#!/usr/bin/env python3
"""Turn a declaration of records (frames.def, events.def) into C: structs, an enum, a codec, a JSON writer.

usage: gen.py DEF PREFIX OUT.h OUT.c [--permit] [--json]

A .def file is lines of
    record NAME NUMBER [FROM>TO]      # one record; the comment above it documents it
      TYPE FIELD                      # its fields, in wire order; a comment behind documents the field
    retired NUMBER                    # a number that must never be used again
TYPE: u8 u16 u32 u64 (varint), i64 (zigzag varint), str bytes json (varint length, bytes), hash (32 bytes),
blob (inline bytes, or the hash and length of a body that is stored once).

Decoding never copies: str, bytes, json and inline blobs point into the input. A record that was written by an
older binary may lack fields at its end: they decode as zero. Unknown trailing bytes are refused.
"""
import re
import sys

CT = {"u8": "uint8_t", "u16": "uint16_t", "u32": "uint32_t", "u64": "uint64_t", "i64": "int64_t",
      "str": "struct base_str", "bytes": "struct base_str", "json": "struct base_str",
      "hash": "struct base_hash", "blob": "struct base_blob"}
PUT = {"u8": "u64", "u16": "u64", "u32": "u64", "u64": "u64", "i64": "i64", "str": "str", "bytes": "str",
       "json": "str", "hash": "hash", "blob": "blob"}


def parse(path):
    records, numbers, doc = [], set(), []
    for n, raw in enumerate(open(path), 1):
        line = raw.rstrip()
        if not line.strip():
            doc = []
            continue
        if line.lstrip().startswith("#"):
            doc.append(line.lstrip()[1:].strip())
            continue
        body, _, note = line.partition("#")
        w = body.split()
        if w[0] == "retired":
            numbers.add(int(w[1]))
        elif w[0] == "record":
            num = int(w[2])
            if num in numbers:
                sys.exit(f"{path}:{n}: number {num} is taken")
            numbers.add(num)
            way = w[3] if len(w) > 3 else ""
            if way and not re.fullmatch(r"[a-z]*>[a-z]*", way):
                sys.exit(f"{path}:{n}: a way is FROM>TO, not {way}")
            records.append({"name": w[1], "num": num, "way": way, "doc": doc, "fields": []})
            doc = []
        elif w[0] in CT and records:
            records[-1]["fields"].append((w[0], w[1], note.strip()))
        else:
            sys.exit(f"{path}:{n}: cannot read: {line}")
    return records


def header(recs, p, permit, json):
    E = {"wire": "WIRE", "core": "CORE_EV"}[p]
    tag = {"wire": "frame", "core": "event"}[p]
    o = ["/* Generated from the .def file of this folder by tools/gen.py. Do not edit. */", "#pragma once", "",
         "#include <stdbool.h>", "#include <stdint.h>", "", '#include "base/buf.h"', '#include "base/codec.h"',
         '#include "base/hash.h"', '#include "base/str.h"', ""]
    o.append(f"enum {p}_{tag}_type {{")
    for r in recs:
        o.append(f"\t{E}_{r['name'].upper()} = {r['num']},")
    o.append(f"\t{E}_{tag.upper()}_TYPE_MAX = {max(r['num'] for r in recs) + 1},")
    o += ["};", ""]
    for r in recs:
        if r["doc"]:
            o.append("/* " + "\n * ".join(r["doc"]) + " */")
        o.append(f"struct {p}_{r['name']} {{")
        for t, f, note in r["fields"]:
            o.append(f"\t{CT[t]} {f};" + (f" /* {note} */" if note else ""))
        if not r["fields"]:
            o.append("\tuint8_t none_; /* no fields */")
        o += ["};", ""]
    for r in recs:
        n = r["name"]
        o.append(f"/* Appends the encoded record to `buf`; a full buffer is remembered in it (base_buf_failed). */")
        o.append(f"void {p}_{n}_put(struct base_buf *buf, const struct {p}_{n} *in);")
        o.append(f"/* Decodes; views into `in`. Returns 0 or -EBADMSG, and then leaves *ret untouched. */")
        o.append(f"int {p}_{n}_get(struct base_str in, struct {p}_{n} *ret) __attribute__((warn_unused_result));")
        if json:
            o.append(f"/* Appends the record as one event of a block (core/block.h). */")
            o.append(f"void {p}_{n}_emit(struct base_buf *block, int64_t time_ms, const struct {p}_{n} *in);")
        o.append("")
    o.append(f"/* The name of a type, or NULL for a number that is not declared. */")
    o.append(f"const char *{p}_{tag}_name(unsigned type);")
    if permit:
        o.append("/* True where process kind `from` may send this type to kind `to` (\"aiosd\" is the engine). */")
        o.append(f"bool {p}_{tag}_permitted(unsigned type, const char *from, const char *to);")
        o.append("/* A number that changes with every change of the declarations: both ends must agree on it. */")
        o.append(f"uint32_t {p}_{tag}_version(void);")
    if json:
        o.append(f"/* Every record in one place: what decoding a body of unknown type gives. */")
        o.append(f"union {p}_{tag}_any {{")
        for r in recs:
            o.append(f"\tstruct {p}_{r['name']} {r['name']};")
        o += ["};", "", "/* Decodes a body of the given type. Returns 0, or -EBADMSG (also for an unknown type). */",
              f"int {p}_{tag}_get(unsigned type, struct base_str in, union {p}_{tag}_any *ret)",
              "\t__attribute__((warn_unused_result));",
              f"/* Appends the body of a record as a JSON object's members, for people. -EBADMSG if it does not decode. */",
              f"int {p}_{tag}_json(unsigned type, struct base_str in, struct base_buf *buf);"]
    return "\n".join(o) + "\n"


def source(recs, p, permit, json, inc, version):
    E = {"wire": "WIRE", "core": "CORE_EV"}[p]
    tag = {"wire": "frame", "core": "event"}[p]
    o = ["/* Generated from the .def file of this folder by tools/gen.py. Do not edit. */", f'#include "{inc}"', "",
         "#include <errno.h>", "#include <string.h>", ""]
    if json:
        o += [f'#include "{p}/block.h"', ""]
    for r in recs:
        n = r["name"]
        o.append(f"void {p}_{n}_put(struct base_buf *buf, const struct {p}_{n} *in)")
        o.append("{")
        for t, f, _ in r["fields"]:
            arg = f"&in->{f}" if t in ("hash", "blob") else f"in->{f}"
            o.append(f"\tbase_put_{PUT[t]}(buf, {arg});")
        if not r["fields"]:
            o += ["\t(void)buf;", "\t(void)in;"]
        o += ["}", ""]
        o.append(f"int {p}_{n}_get(struct base_str in, struct {p}_{n} *ret)")
        o += ["{", f"\tstruct {p}_{n} v;", "\tstruct base_reader r = base_reader_of(in);", "",
              "\tmemset(&v, 0, sizeof(v));"]
        for t, f, _ in r["fields"]:
            if t in ("u8", "u16", "u32"):
                o.append(f"\tv.{f} = ({CT[t]})base_get_uint(&r, UINT{t[1:]}_MAX);")
            elif t in ("hash", "blob"):
                o.append(f"\tbase_get_{t}(&r, &v.{f});")
            else:
                o.append(f"\tv.{f} = base_get_{PUT[t]}(&r);")
        o += ["\tif (base_reader_end(&r) < 0)", "\t\treturn -EBADMSG;", "\t*ret = v;", "\treturn 0;", "}", ""]
        if json:
            o += [f"void {p}_{n}_emit(struct base_buf *block, int64_t time_ms, const struct {p}_{n} *in)", "{",
                  f"\tsize_t mark = {p}_block_begin(block, {E}_{n.upper()}, time_ms);", "",
                  f"\t{p}_{n}_put(block, in);", f"\t{p}_block_end(block, mark);", "}", ""]
    o.append(f"const char *{p}_{tag}_name(unsigned type)")
    o += ["{", "\tswitch (type) {"]
    for r in recs:
        o += [f"\tcase {E}_{r['name'].upper()}:", f"\t\treturn \"{r['name'] if p == 'wire' else r['name'].replace('_', '.', 1)}\";"]
    o += ["\tdefault:", "\t\treturn NULL;", "\t}", "}", ""]
    if permit:
        o.append(f"bool {p}_{tag}_permitted(unsigned type, const char *from, const char *to)")
        o += ["{", "\tswitch (type) {"]
        for r in recs:
            a, b = r["way"].split(">")
            a, b = a or "aiosd", b or "aiosd"
            cond = []
            if a != "any":
                cond.append(f'strcmp(from, "{a}") == 0')
            if b != "any":
                cond.append(f'strcmp(to, "{b}") == 0')
            o += [f"\tcase {E}_{r['name'].upper()}:", f"\t\treturn {' && '.join(cond) or 'true'};"]
        o += ["\tdefault:", "\t\treturn false;", "\t}", "}", ""]
        o += [f"uint32_t {p}_{tag}_version(void)", "{", f"\treturn {version}u;", "}", ""]
    if json:
        o += [f"int {p}_{tag}_get(unsigned type, struct base_str in, union {p}_{tag}_any *ret)", "{", "\tswitch (type) {"]
        for r in recs:
            o += [f"\tcase {E}_{r['name'].upper()}:", f"\t\treturn {p}_{r['name']}_get(in, &ret->{r['name']});"]
        o += ["\tdefault:", "\t\treturn -EBADMSG;", "\t}", "}", ""]
        for r in recs:
            n = r["name"]
            o.append(f"static int {n}_json(struct base_str in, struct base_buf *buf)")
            o += ["{", f"\tstruct {p}_{n} v;", "", f"\tif ({p}_{n}_get(in, &v) < 0)", "\t\treturn -EBADMSG;"]
            for t, f, _ in r["fields"]:
                fn = {"u8": "u64", "u16": "u64", "u32": "u64"}.get(t, t)
                arg = f"&v.{f}" if t in ("hash", "blob") else f"v.{f}"
                # An event's own position is shown as "seq".
                o.append(f'\tbase_member_{fn}(buf, "{"of_seq" if f == "seq" else f}", {arg});')
            if not r["fields"]:
                o.append("\t(void)buf;")
            o += ["\treturn 0;", "}", ""]
        o += [f"int {p}_{tag}_json(unsigned type, struct base_str in, struct base_buf *buf)", "{", "\tswitch (type) {"]
        for r in recs:
            o += [f"\tcase {E}_{r['name'].upper()}:", f"\t\treturn {r['name']}_json(in, buf);"]
        o += ["\tdefault:", "\t\treturn -EBADMSG;", "\t}", "}"]
    return "\n".join(o).rstrip() + "\n"


def main():
    args = [a for a in sys.argv[1:] if not a.startswith("--")]
    if len(args) != 4:
        sys.exit(__doc__)
    path, p, oh, oc = args
    recs = parse(path)
    permit, json = "--permit" in sys.argv, "--json" in sys.argv
    shape = repr([(r["name"], r["num"], r["way"], [f[:2] for f in r["fields"]]) for r in recs])
    version = 2166136261
    for ch in shape.encode():
        version = ((version ^ ch) * 16777619) & 0xFFFFFFFF
    open(oh, "w").write(header(recs, p, permit, json))
    open(oc, "w").write(source(recs, p, permit, json, f"{p}/" + oh.rsplit("/", 1)[-1], version))


main()
