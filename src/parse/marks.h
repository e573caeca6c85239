#pragma once

#include <yaml.h>

#include "base/buf.h"
#include "base/json.h"

/*
 * Where the values of a YAML document stand: {"/rules/0/when":[line,column,exact],…}, by JSON Pointer, both from 1. exact
 * 1: the text of a scalar begins there and stands as it is, so that a place in it can be told (a block: each line of it
 * from that column on); 0: the value begins there.
 */
struct parse_marks {
	struct base_str in;
	struct base_buf out, path;
	struct base_jw w;
};

void parse_marks_init(struct parse_marks *m, struct base_str in);
void parse_marks_done(struct parse_marks *m);
/* The path of a child, below the `parent` first bytes of the path. */
void parse_marks_key(struct parse_marks *m, size_t parent, struct base_str key);
void parse_marks_index(struct parse_marks *m, size_t parent, size_t index);
/* The value at the path begins with this event. */
void parse_marks_put(struct parse_marks *m, const yaml_event_t *e);
