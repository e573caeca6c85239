#pragma once

#include <stddef.h>

#include "base/str.h"

/* The head of a frame, WIRE_HEAD bytes: the body's length (4), the type (2), zeros (2); little-endian. */
void wire_head_put(char *head, unsigned type, size_t body);
void wire_head_size(char *head, size_t body); /* of a head that is there */
size_t wire_head_body(const char *head);
unsigned wire_head_type(const char *head);
/* The first frame of `in`: 1, with a view of its body; 0 when it is not whole yet; -EBADMSG when it cannot be one. */
int wire_head_next(struct base_str in, unsigned *ret_type, struct base_str *ret_body)
	__attribute__((warn_unused_result));
