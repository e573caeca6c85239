#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/json.h"
#include "base/regex.h"
#include "base/str.h"

/* Shared by schema*.c. */

enum schema_has {
	HAS_MIN = 1 << 0, /* minimum or exclusiveMinimum */
	HAS_MAX = 1 << 1,
	HAS_MULTIPLE = 1 << 2,
	HAS_LENGTH = 1 << 3,
	HAS_ITEMS = 1 << 4, /* minItems or maxItems */
	HAS_UNIQUE = 1 << 5,
	HAS_CONST = 1 << 6,
};

enum schema_format { FORMAT_NONE, FORMAT_EMAIL, FORMAT_URI, FORMAT_DATE, FORMAT_DATE_TIME };

struct schema_limit {
	struct base_jv number; /* in the schema's own document */
	bool exclusive;
};

struct schema_node;

struct schema_prop {
	struct base_str name;
	const struct schema_node *node; /* NULL: only required */
	bool required;
};

struct schema_list {
	const struct schema_node **nodes;
	size_t count;
};

struct schema_node {
	unsigned types; /* bit per enum base_json_kind; 0: any */
	bool integer;	/* "number" is not among the types: a REAL must be whole */
	unsigned has;	/* enum schema_has */
	enum schema_format format;
	bool never; /* the schema `false` */
	struct schema_prop *props;
	size_t prop_count;
	size_t required_count;
	bool closed;			      /* additionalProperties: false */
	const struct schema_node *additional; /* or a schema */
	const struct schema_node *items;
	struct schema_list prefix, any_of, all_of, one_of;
	const struct schema_node *not_, *ref;
	struct schema_limit min, max;
	int64_t multiple;
	uint64_t length_min, length_max, items_min, items_max;
	struct base_regex *pattern;
	struct base_jv choices, constant; /* enum, const */
	unsigned mark;			  /* while compiling: the search for references in circles */
};

struct base_schema {
	struct base_arena *arena;
	struct base_json *doc; /* the schema itself: names, choices and limits point into it */
	const struct schema_node *root;
	struct base_regex **patterns; /* all of them, to be freed */
	size_t pattern_count, pattern_size;
};

/* Equal as JSON values: numbers by value, objects without regard to order. Each comparison takes one of
 * *steps. */
bool schema_equal(struct base_jv a, struct base_jv b, uint64_t *steps);
/* <0, 0, >0 for two numbers. */
int schema_compare(struct base_jv a, struct base_jv b);
bool schema_format_ok(enum schema_format format, struct base_str s);
/* "string", "integer", … of a bit set of kinds, for messages. */
const char *schema_kind_name(enum base_json_kind kind);
