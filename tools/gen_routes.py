#!/usr/bin/env python3
"""Turn the route table (routes.def) into C: the operations as an enum, and the table the door matches against.

usage: gen_routes.py routes.def OUT.h OUT.c

A line is  METHOD PATH  operation  auth  body  "summary".  PATH segments are literal, {name} (one segment) or, only at
the end, {name+} (the rest, slashes included).
"""
import re
import sys

AUTH = {"none": "WIRE_AUTH_NONE", "any": "WIRE_AUTH_ANY", "operator": "WIRE_AUTH_OPERATOR"}
BODY = {"-": "WIRE_BODY_NONE", "json": "WIRE_BODY_JSON", "form": "WIRE_BODY_FORM"}
LIMIT = {"-": "0", "json": "256K", "form": "1M"}
UNIT = {"": 1, "K": 1 << 10, "M": 1 << 20}
SEGMENTS_MAX = 6


def number(text):
    m = re.fullmatch(r"(\d+)([KM]?)", text)
    return int(m[1]) * UNIT[m[2]] if m else None


def segments(path):
    out = []
    for s in [s for s in path.split("/") if s]:
        m = re.fullmatch(r"\{([a-z_]+)(\+?)\}", s)
        if m:
            out.append((m[1], "WIRE_SEGMENT_REST" if m[2] else "WIRE_SEGMENT_PARAM"))
        elif re.fullmatch(r"[a-z0-9._-]+", s):
            out.append((s, "WIRE_SEGMENT_LITERAL"))
        else:
            return None
    if len(out) > SEGMENTS_MAX or any(k == "WIRE_SEGMENT_REST" for _, k in out[:-1]):
        return None
    return out


def parse(path):
    routes, seen, ops = [], set(), set()
    for n, raw in enumerate(open(path), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        m = re.fullmatch(r'(GET|POST|PUT|DELETE)\s+(/\S*)\s+([a-z_]+)\s+(\S+)\s+(\S+)\s+("(?:[^"\\]|\\.)*")', line)
        if not m:
            sys.exit(f"{path}:{n}: cannot read: {line}")
        method, where, op, auth, body, summary = m.groups()
        kind, _, limit = body.partition(":")
        segs, size = segments(where), number(limit or LIMIT.get(kind, "0"))
        shape = (method, tuple(t if k == "WIRE_SEGMENT_LITERAL" else k for t, k in segs or []))
        if segs is None or auth not in AUTH or kind not in BODY or size is None:
            sys.exit(f"{path}:{n}: unknown path, auth or body: {line}")
        if shape in seen or op in ops:
            sys.exit(f"{path}:{n}: {method} {where} or {op} stands there twice")
        seen.add(shape)
        ops.add(op)
        routes.append((method, where, op, AUTH[auth], BODY[kind], size, summary, segs))
    return routes


HEAD = """/* Generated from routes.def by tools/gen_routes.py. Do not edit. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

/* Operations of the HTTP API, in the order of the table. */
enum wire_op {
%s
	WIRE_OP_COUNT
};

enum wire_auth {
	WIRE_AUTH_NONE,     /* public */
	WIRE_AUTH_ANY,      /* any credential; grants decide */
	WIRE_AUTH_OPERATOR, /* the operator, or a key of which a grant names the operation */
};
enum wire_body { WIRE_BODY_NONE, WIRE_BODY_JSON, WIRE_BODY_FORM };
enum wire_segment_kind {
	WIRE_SEGMENT_LITERAL,
	WIRE_SEGMENT_PARAM, /* one segment */
	WIRE_SEGMENT_REST,  /* all that is left, slashes included; never empty */
};
enum { WIRE_SEGMENTS_MAX = %d };

struct wire_segment {
	const char *text; /* the literal, or the parameter's name */
	enum wire_segment_kind kind;
};

struct wire_route {
	const char *method;
	const char *path; /* as declared: /v1/runs/{run} */
	const char *name; /* of the operation */
	const char *summary;
	enum wire_auth auth;
	enum wire_body body;
	uint32_t body_max; /* bytes */
	unsigned count;
	struct wire_segment segments[WIRE_SEGMENTS_MAX];
};

/* The route of an operation (BASE_CHECK: below WIRE_OP_COUNT). Static. */
const struct wire_route *wire_route_of(enum wire_op op);
/* The operation of a name, or WIRE_OP_COUNT. */
enum wire_op wire_op_of(struct base_str name);
"""

SOURCE = """/* Generated from routes.def by tools/gen_routes.py. Do not edit. */
#include "%s"

#include "base/check.h"

static const struct wire_route routes[WIRE_OP_COUNT] = {
%s
};

const struct wire_route *wire_route_of(enum wire_op op)
{
	BASE_CHECK((unsigned)op < WIRE_OP_COUNT);
	return &routes[op];
}

enum wire_op wire_op_of(struct base_str name)
{
	unsigned i;

	for (i = 0; i < WIRE_OP_COUNT; i++)
		if (base_str_is(name, routes[i].name))
			break;
	return (enum wire_op)i;
}
"""


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    path, oh, oc = sys.argv[1:]
    routes = parse(path)
    names = "\n".join(f"\tWIRE_OP_{r[2].upper()}," for r in routes)
    rows = []
    for method, where, op, auth, body, size, summary, segs in routes:
        seg = ", ".join(f'{{"{t}", {k}}}' for t, k in segs)
        rows.append(f'\t{{"{method}", "{where}", "{op}", {summary},\n\t {auth}, {body}, {size}, {len(segs)}, {{{seg or "{0}"}}}}},')
    open(oh, "w").write(HEAD % (names, SEGMENTS_MAX))
    open(oc, "w").write(SOURCE % ("wire/" + oh.rsplit("/", 1)[-1], "\n".join(rows)))


main()
