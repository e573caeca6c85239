#pragma once

#include "base/err.h"
#include "base/json.h"

/*
 * JSON Schema 2020-12, the part that actions and flow inputs use: type (also a list), enum, const,
 * properties, required, additionalProperties (boolean or schema), items, prefixItems, minItems, maxItems,
 * uniqueItems, minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf (integers), minLength,
 * maxLength, pattern (a small linear-time subset: literals, classes, ., *, +, ?, |, groups, anchors), format
 * (email, uri, date, date-time: checked), anyOf, allOf, oneOf, not, $ref to "#/$defs/…", and the annotations
 * title, description, default, examples, which are ignored. Any other keyword is refused when the schema is
 * compiled: nothing is silently not checked.
 */
struct base_schema;

/* -EINVAL with the place in err. Copies what it needs. */
int base_schema_compile(struct base_jv schema, struct base_schema **ret, struct base_err *err)
	__attribute__((warn_unused_result));
void base_schema_free(struct base_schema *s);
/* 0, or -EINVAL with a JSON Pointer (RFC 6901) to the place and what was wanted there. Does not allocate. */
int base_schema_check(const struct base_schema *s, struct base_jv value, struct base_err *err)
	__attribute__((warn_unused_result));
