#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "flow/codec_int.h"

struct get {
	struct flow_codec *c;
	JSContext *ctx;
	const char *start;
	const char *p;
	const char *end;
	unsigned depth;
};

static JSValue get_value(struct get *g);

static JSValue bad(struct get *g, const char *why)
{
	return JS_ThrowSyntaxError(g->ctx, "JSON: %s at byte %zu", why, (size_t)(g->p - g->start));
}

static void skip_space(struct get *g)
{
	while (g->p < g->end && (*g->p == ' ' || *g->p == '\n' || *g->p == '\t' || *g->p == '\r'))
		g->p++;
}

static bool take(struct get *g, char ch)
{
	skip_space(g);
	if (g->p == g->end || *g->p != ch)
		return false;
	g->p++;
	return true;
}

static int hex4(const char *p)
{
	int v = 0;
	for (int i = 0; i < 4; i++) {
		char ch = p[i];
		int d = ch >= '0' && ch <= '9'		       ? ch - '0'
			: (ch | 32) >= 'a' && (ch | 32) <= 'f' ? (ch | 32) - 'a' + 10
							       : -1;
		if (d < 0)
			return -1;
		v = v * 16 + d;
	}
	return v;
}

static char *put_utf8(char *out, uint32_t cp)
{
	if (cp < 0x80) {
		*out++ = (char)cp;
		return out;
	}
	int more = cp < 0x800 ? 1 : cp < 0x10000 ? 2 : 3;
	static const unsigned char lead[] = {0, 0xc0, 0xe0, 0xf0};
	*out++ = (char)(lead[more] | (cp >> (6 * more)));
	while (more-- > 0)
		*out++ = (char)(0x80 | ((cp >> (6 * more)) & 0x3f));
	return out;
}

/* One escape behind the backslash at *p; -1 if it is none, or half of a surrogate pair. */
static long escape(const char **p, const char *end)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	char ch = *(*p)++;
	if (ch != 'u') {
		const char *at = ch ? strchr(from, ch) : NULL;
		return at ? to[at - from] : -1;
	}
	if (end - *p < 4)
		return -1;
	long cp = hex4(*p);
	*p += 4;
	if (cp < 0xd800 || cp > 0xdfff)
		return cp;
	if (cp > 0xdbff || end - *p < 6 || (*p)[0] != '\\' || (*p)[1] != 'u')
		return -1;
	int low = hex4(*p + 2);
	*p += 6;
	return low < 0xdc00 || low > 0xdfff ? -1 : 0x10000 + ((cp - 0xd800) << 10) + (low - 0xdc00);
}

/*
 * Behind the opening quote. *ret is a view into the text, or, when it has escapes, into *ret_held, which the
 * caller frees with js_free. -1 with an exception.
 */
static int get_text(struct get *g, struct base_str *ret, char **ret_held)
{
	const char *from = g->p;
	while (g->p < g->end && *g->p != '"' && *g->p != '\\' && (unsigned char)*g->p >= 0x20)
		g->p++;
	*ret_held = NULL;
	if (g->p < g->end && *g->p == '"') {
		*ret = (struct base_str){from, (size_t)(g->p++ - from)};
		return 0;
	}
	const char *end = g->p;
	while (end < g->end && *end != '"')
		end += *end == '\\' && end + 1 < g->end ? 2 : 1;
	if (end >= g->end) {
		bad(g, "a string does not end");
		return -1;
	}
	char *text = js_malloc(g->ctx, (size_t)(end - from) + 1);
	if (!text)
		return -1;
	char *out = text;
	for (const char *p = from; p < end;) {
		long cp = (unsigned char)*p++;
		if (cp != '\\') {
			if (cp < 0x20)
				goto refuse;
			*out++ = (char)cp;
			continue;
		}
		cp = escape(&p, end);
		if (cp < 0)
			goto refuse;
		out = put_utf8(out, (uint32_t)cp);
	}
	g->p = end + 1;
	*ret = (struct base_str){text, (size_t)(out - text)};
	*ret_held = text;
	return 0;
refuse:
	js_free(g->ctx, text);
	bad(g, "a string holds what it may not");
	return -1;
}

static JSValue get_string(struct get *g)
{
	struct base_str s;
	char *held;
	if (get_text(g, &s, &held) < 0)
		return JS_EXCEPTION;
	JSValue v = JS_NewStringLen(g->ctx, s.ptr, s.len);
	js_free(g->ctx, held);
	return v;
}

/* The atom of a key; the caller frees it. JS_ATOM_NULL with an exception. */
static JSAtom get_key(struct get *g)
{
	struct base_str s;
	char *held;
	if (get_text(g, &s, &held) < 0)
		return JS_ATOM_NULL;
	if (s.len > CODEC_KEY_MAX) {
		JSAtom atom = JS_NewAtomLen(g->ctx, s.ptr, s.len);
		js_free(g->ctx, held);
		return atom;
	}
	uint32_t h = 2166136261u;
	for (size_t i = 0; i < s.len; i++)
		h = (h ^ (unsigned char)s.ptr[i]) * 16777619u;
	struct codec_key *k = &g->c->by_text[h % CODEC_SLOTS];
	if (k->atom == JS_ATOM_NULL || k->len != s.len || memcmp(k->text, s.ptr, s.len) != 0) {
		JSAtom atom = JS_NewAtomLen(g->ctx, s.ptr, s.len);
		if (atom != JS_ATOM_NULL) {
			JS_FreeAtomRT(g->c->rt, k->atom);
			k->atom = atom;
			k->len = (uint8_t)s.len;
			memcpy(k->text, s.ptr, s.len);
			JS_DupAtom(g->ctx, atom);
		}
		js_free(g->ctx, held);
		return atom;
	}
	js_free(g->ctx, held);
	return JS_DupAtom(g->ctx, k->atom);
}

static JSValue get_object(struct get *g)
{
	JSValue obj = JS_NewObject(g->ctx);
	if (JS_IsException(obj) || take(g, '}'))
		return obj;
	for (;;) {
		if (!take(g, '"')) {
			bad(g, "expected a key");
			break;
		}
		JSAtom key = get_key(g);
		if (key == JS_ATOM_NULL)
			break;
		if (!take(g, ':')) {
			JS_FreeAtom(g->ctx, key);
			bad(g, "expected ':'");
			break;
		}
		JSValue v = get_value(g);
		int rc = JS_IsException(v) ? -1 : JS_DefinePropertyValue(g->ctx, obj, key, v, JS_PROP_C_W_E);
		JS_FreeAtom(g->ctx, key);
		if (rc < 0)
			break;
		if (take(g, ','))
			continue;
		if (take(g, '}'))
			return obj;
		bad(g, "expected ',' or '}'");
		break;
	}
	JS_FreeValue(g->ctx, obj);
	return JS_EXCEPTION;
}

static bool grow(struct get *g, JSValue *few, JSValue **v, int *size)
{
	JSValue *more = js_malloc(g->ctx, (size_t)*size * 2 * sizeof(*more));
	if (!more)
		return false;
	memcpy(more, *v, (size_t)*size * sizeof(*more));
	if (*v != few)
		js_free(g->ctx, *v);
	*v = more;
	*size *= 2;
	return true;
}

static JSValue get_array(struct get *g)
{
	if (take(g, ']'))
		return JS_NewArray(g->ctx);
	JSValue few[16], *v = few, ret = JS_EXCEPTION;
	int count = 0, size = 16;
	for (;;) {
		if (count == size && !grow(g, few, &v, &size))
			break;
		v[count] = get_value(g);
		if (JS_IsException(v[count]))
			break;
		count++;
		if (take(g, ','))
			continue;
		if (!take(g, ']')) {
			bad(g, "expected ',' or ']'");
			break;
		}
		ret = JS_NewArrayFrom(g->ctx, count, v); /* takes the values, also when it fails */
		count = 0;
		break;
	}
	while (count > 0)
		JS_FreeValue(g->ctx, v[--count]);
	if (v != few)
		js_free(g->ctx, v);
	return ret;
}

static JSValue get_number(struct get *g)
{
	const char *from = g->p, *p = from + (*from == '-');
	const char *digits = p;
	int64_t n = 0;
	while (p < g->end && *p >= '0' && *p <= '9' && p - digits < 16)
		n = n * 10 + (*p++ - '0');
	bool whole = p == g->end || (*p != '.' && (*p | 32) != 'e' && (*p < '0' || *p > '9'));
	if (p == digits || (*digits == '0' && p - digits > 1))
		return bad(g, "not a number");
	if (whole && p - digits <= 15 && (n != 0 || *from != '-')) {
		g->p = p;
		return JS_NewInt64(g->ctx, *from == '-' ? -n : n);
	}
	while (p < g->end && strchr("0123456789.eE+-", *p) && *p)
		p++;
	char text[400];
	size_t len = (size_t)(p - from);
	if (len >= sizeof(text))
		return bad(g, "a number with too many digits");
	memcpy(text, from, len);
	text[len] = '\0';
	char *end;
	double d = strtod(text, &end);
	if (*end || !isfinite(d) || end[-1] == '.')
		return bad(g, "not a number");
	g->p = p;
	return JS_NewNumber(g->ctx, d);
}

static JSValue get_word(struct get *g, const char *word, JSValue v)
{
	size_t len = strlen(word);
	if ((size_t)(g->end - g->p) < len || memcmp(g->p, word, len) != 0)
		return bad(g, "not a value");
	g->p += len;
	return v;
}

static JSValue get_value(struct get *g)
{
	skip_space(g);
	if (g->p == g->end)
		return bad(g, "ends too early");
	JSValue v;
	switch (*g->p) {
	case '{':
	case '[':
		if (g->depth >= 2 * FLOW_JSON_DEPTH_MAX)
			return bad(g, "nested too deep");
		g->depth++;
		v = *g->p++ == '{' ? get_object(g) : get_array(g);
		g->depth--;
		return v;
	case '"':
		g->p++;
		return get_string(g);
	case 't':
		return get_word(g, "true", JS_TRUE);
	case 'f':
		return get_word(g, "false", JS_FALSE);
	case 'n':
		return get_word(g, "null", JS_NULL);
	default:
		return get_number(g);
	}
}

JSValue flow_codec_get(struct flow_codec *c, JSContext *ctx, struct base_str text)
{
	if (text.len == 0)
		return JS_NULL;
	struct get g = {c, ctx, text.ptr, text.ptr, text.ptr + text.len, 0};
	JSValue v = get_value(&g);
	if (JS_IsException(v))
		return v;
	skip_space(&g);
	if (g.p == g.end)
		return v;
	JS_FreeValue(ctx, v);
	return bad(&g, "more follows the value");
}
