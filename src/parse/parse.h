#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

/*
 * Foreign formats to JSON. Every function takes hostile bytes, appends one JSON value to `ret` on success,
 * and on failure fills *fault and leaves `ret` as it was. None of them opens a file, asks for the time or
 * reads the environment, so that they work in the tightest sandbox.
 */
enum {
	PARSE_INPUT_MAX = 16 << 20,  /* bytes of any input */
	PARSE_OUTPUT_MAX = 16 << 20, /* bytes of any result */
	PARSE_DEPTH_MAX = 60,	     /* nesting of what comes out; below BASE_JSON_DEPTH_MAX */
	PARSE_YAML_NODES_MAX = 200000,
	PARSE_XML_NODES_MAX = 400000, /* elements and attributes */
	PARSE_FEED_ITEMS_MAX = 1000,  /* the first ones are kept */
	PARSE_TEXT_MAX = 64 << 10,    /* bytes of one summary, cut at a character */
};

/* What is wrong with the input, and where; 0 where a line or column is not known. Both count from 1. */
struct parse_fault {
	struct base_err err;
	uint32_t line;
	uint32_t column;
};

/* Sets all members of `f` and returns code. */
int parse_fault_set(struct parse_fault *f, int code, size_t line, size_t column, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));

/* Prepares the libraries behind; call once, before the sandbox is entered. */
void parse_init(void);

/* By the name of the format: "feed", "yaml", "policy", "agent", "json". -EINVAL, -E2BIG, -EFBIG, -ENOMEM. */
int parse_any(struct base_str format, struct base_str in, struct base_buf *ret, struct parse_fault *fault)
	__attribute__((warn_unused_result));

/* RSS 2.0 (and 0.9x), RSS 1.0, Atom:
 * {"title","link","items":[{"id","title","link","summary","published_ms"}]}; summary is text without markup,
 * published_ms is null where there is no date that can be read. */
int parse_feed(struct base_str in, struct base_buf *ret, struct parse_fault *fault)
	__attribute__((warn_unused_result));

/* One YAML document: maps, lists, scalars of the 1.2 core schema. Tags, anchors, aliases, merge keys,
 * duplicate keys, numbers beyond 64 bits and a second document are refused. */
int parse_yaml(struct base_str in, struct base_buf *ret, struct parse_fault *fault)
	__attribute__((warn_unused_result));

/* A policy file: {"value": what parse_yaml gives, "marks": where each value stands (marks.h)}. */
int parse_policy(struct base_str in, struct base_buf *ret, struct parse_fault *fault)
	__attribute__((warn_unused_result));

/* An agent: YAML between two lines of "---", then instructions in Markdown. The members of the front matter,
 * checked, and "instructions". Members that are not known are refused. */
int parse_agent(struct base_str in, struct base_buf *ret, struct parse_fault *fault)
	__attribute__((warn_unused_result));

/* JSON to canonical JSON. */
int parse_json(struct base_str in, struct base_buf *ret, struct parse_fault *fault)
	__attribute__((warn_unused_result));
