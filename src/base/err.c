#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"

/* Ends the text at a character's border, and lets it hold nothing that a terminal would obey. */
static void tidy(char *text, size_t len)
{
	size_t i, n;

	for (i = 0; i < len; i += n) {
		n = base_utf8_next((struct base_str){text + i, len - i});
		if (n == 0 && len - i < 4 && len == BASE_ERR_TEXT_MAX - 1) {
			text[i] = '\0';
			return;
		}
		if (n == 0 || (n == 1 && ((unsigned char)text[i] < 0x20 || text[i] == 0x7f))) {
			text[i] = '?';
			n = 1;
		}
	}
}

static void __attribute__((format(printf, 3, 0)))
format(char *text, size_t size, const char *fmt, va_list args)
{
	int n = vsnprintf(text, size, fmt, args);

	if (n < 0)
		text[0] = '\0';
}

int base_err_set(struct base_err *err, int code, const char *fmt, ...)
{
	va_list args;

	if (!err)
		return code;
	va_start(args, fmt);
	format(err->text, sizeof(err->text), fmt, args);
	va_end(args);
	tidy(err->text, strlen(err->text));
	err->code = code;
	return code;
}

void base_err_prefix(struct base_err *err, const char *fmt, ...)
{
	char prefix[BASE_ERR_TEXT_MAX], rest[BASE_ERR_TEXT_MAX];
	size_t n, left;
	va_list args;

	if (!err)
		return;
	va_start(args, fmt);
	format(prefix, sizeof(prefix), fmt, args);
	va_end(args);
	memcpy(rest, err->text, sizeof(rest));
	rest[sizeof(rest) - 1] = '\0';
	n = strlen(prefix);
	memcpy(err->text, prefix, n);
	left = sizeof(err->text) - 1 - n;
	if (left >= 2) {
		memcpy(err->text + n, ": ", 2);
		n += 2;
		left -= 2;
		if (strlen(rest) < left)
			left = strlen(rest);
		memcpy(err->text + n, rest, left);
		n += left;
	}
	err->text[n] = '\0';
	tidy(err->text, n);
}
