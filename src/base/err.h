#pragma once

#include <stddef.h>

/*
 * What went wrong, for a person. Functions return a negative errno value and, where the caller passed one,
 * fill a struct base_err with a sentence that says what and where and, if it can, what to do next.
 */
enum { BASE_ERR_TEXT_MAX = 512 };

struct base_err {
	int code; /* the negative errno value that was returned */
	char text[BASE_ERR_TEXT_MAX];
};

/* Formats into err (which may be NULL) and returns code, so that `return base_err_set(err, -EINVAL, …)`
 * works. Text that does not fit is cut at a UTF-8 border. Control characters are replaced by '?'. */
int base_err_set(struct base_err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Puts "prefix: " before the text that is there. */
void base_err_prefix(struct base_err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
