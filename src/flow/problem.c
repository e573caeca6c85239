#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "flow/flow_int.h"

enum { STACK_MAX = 4096, MESSAGE_MAX = 2000 };

/* Where something happened: the file may be none. */
struct place {
	char file[320];
	int line, column;
};

static struct base_str cut(const char *s, size_t max)
{
	struct base_str v = base_str_of(s);
	if (v.len > max) {
		v.len = max;
		while (v.len > 0 && ((unsigned char)v.ptr[v.len] & 0xc0) == 0x80)
			v.len--;
	}
	return v;
}

/* A text from foreign code as valid UTF-8, or nothing. */
static struct base_str valid(struct base_str s)
{
	return base_utf8_valid(s) ? s : BASE_STR("(text that is not valid)");
}

static void put_place(struct base_jw *w, const char *file, int line, int column)
{
	if (!file || !*file)
		return;
	base_jw_mcstr(w, "file", file);
	if (line > 0)
		base_jw_mint(w, "line", line);
	if (line > 0 && column > 0)
		base_jw_mint(w, "column", column);
}

void flow_problem_say(
	struct base_buf *b, const char *kind, const char *file, int line, int column, const char *fmt, ...)
{
	char text[MESSAGE_MAX];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	struct base_jw w = base_jw_of(b);
	base_jw_obj(&w);
	base_jw_mcstr(&w, "code", strcmp(kind, "exception") == 0 ? "failed" : kind);
	base_jw_mcstr(&w, "kind", kind);
	base_jw_mstr(&w, "message", valid(base_str_of(text)));
	put_place(&w, file, line, column);
	base_jw_end_obj(&w);
}

/* "    at name (flows/x.js:3:5)" or "    at flows/x.js:3:5": the first line that names a file of the flow. */
static void find_place(const char *stack, struct place *ret)
{
	for (const char *p = stack; p && *p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL) {
		size_t len = strcspn(p, "\n");
		const char *paren = memchr(p, '(', len);
		const char *at = paren ? paren + 1 : len > 7 ? p + 7 : p;
		size_t rest = len - (size_t)(at - p);
		char text[320];
		snprintf(text, sizeof(text), "%.*s", (int)rest, at);
		char *column = strrchr(text, ':');
		if (!column || strncmp(text, "aios:", 5) == 0)
			continue;
		*column = '\0';
		char *line = strrchr(text, ':');
		if (!line)
			continue;
		*line = '\0';
		snprintf(ret->file, sizeof(ret->file), "%s", text);
		ret->line = atoi(line + 1);
		ret->column = atoi(column + 1);
		return;
	}
}

/* A property as text, or NULL; the caller frees it with JS_FreeCString. Getters may be the flow's: errors are
 * dropped. */
static const char *text_of(JSContext *ctx, JSValueConst obj, const char *name)
{
	JSValue v = JS_GetPropertyStr(ctx, obj, name);
	const char *s = JS_IsString(v) ? JS_ToCString(ctx, v) : NULL;
	if (JS_IsException(v) || (!s && JS_HasException(ctx)))
		JS_FreeValue(ctx, JS_GetException(ctx));
	JS_FreeValue(ctx, v);
	return s;
}

static int int_of(JSContext *ctx, JSValueConst obj, const char *name)
{
	int32_t n = 0;
	JSValue v = JS_GetPropertyStr(ctx, obj, name);
	if (JS_VALUE_GET_TAG(v) == JS_TAG_INT)
		n = JS_VALUE_GET_INT(v);
	if (JS_IsException(v))
		JS_FreeValue(ctx, JS_GetException(ctx));
	JS_FreeValue(ctx, v);
	return n;
}

static const char *kind_of(const char *message)
{
	if (message && strstr(message, "Maximum call stack size exceeded"))
		return "stack";
	return message && strcmp(message, "out of memory") == 0 ? "memory" : "exception";
}

/* What a failed step left in the error: its code, its number, its action. */
static void put_step(JSContext *ctx, JSValueConst e, struct base_jw *w)
{
	const char *action = text_of(ctx, e, "action");
	if (action) {
		base_jw_mstr(w, "action", valid(cut(action, 128)));
		base_jw_mint(w, "step", int_of(ctx, e, "step"));
	}
	JS_FreeCString(ctx, action);
}

static void problem_of_error(JSContext *ctx, JSValueConst e, const char *kind, struct base_buf *b)
{
	struct place at = {.line = 0};
	const char *name = text_of(ctx, e, "name"), *message = text_of(ctx, e, "message");
	const char *code = text_of(ctx, e, "code"), *stack = text_of(ctx, e, "stack");
	const char *file = text_of(ctx, e, "fileName");
	if (!kind)
		kind = kind_of(message);
	find_place(stack, &at);
	if (file) {
		snprintf(at.file, sizeof(at.file), "%s", file);
		at.line = int_of(ctx, e, "lineNumber");
		at.column = int_of(ctx, e, "columnNumber");
	}
	struct base_buf text;
	base_buf_init(&text, 4 * MESSAGE_MAX);
	if (name && strcmp(name, "Error") != 0 && strcmp(name, "StepError") != 0)
		base_buf_printf(&text, "%.100s: ", name);
	base_buf_str(&text, cut(message ? message : "an error without a message", MESSAGE_MAX));
	struct base_jw w = base_jw_of(b);
	base_jw_obj(&w);
	base_jw_mstr(&w, "code",
		code && *code ? valid(cut(code, 64))
			      : base_str_of(strcmp(kind, "exception") ? kind : "failed"));
	base_jw_mcstr(&w, "kind", kind);
	base_jw_mstr(&w, "message", valid(base_buf_view(&text)));
	if (base_utf8_valid(base_str_of(at.file)))
		put_place(&w, at.file, at.line, at.column);
	put_step(ctx, e, &w);
	if (stack && at.file[0]) /* else it shows the library alone */
		base_jw_mstr(&w, "stack", valid(cut(stack, STACK_MAX)));
	base_jw_end_obj(&w);
	base_buf_done(&text);
	JS_FreeCString(ctx, name);
	JS_FreeCString(ctx, message);
	JS_FreeCString(ctx, code);
	JS_FreeCString(ctx, stack);
	JS_FreeCString(ctx, file);
}

void flow_problem_of(JSContext *ctx, JSValue thrown, const char *kind, struct base_buf *b)
{
	if (JS_IsObject(thrown)) {
		problem_of_error(ctx, thrown, kind, b);
	} else {
		const char *s = JS_IsSymbol(thrown) ? NULL : JS_ToCString(ctx, thrown);
		struct base_str text = valid(cut(s ? s : "?", MESSAGE_MAX));
		flow_problem_say(b, kind ? kind : "exception", NULL, 0, 0, "threw %.*s", BASE_STR_ARG(text));
		JS_FreeCString(ctx, s);
	}
	JS_FreeValue(ctx, thrown);
}
