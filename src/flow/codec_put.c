#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/json.h"
#include "flow/codec_int.h"

/*
 * Invariants
 *  1. What is written is canonical: sorted keys, shortest numbers, minimal escapes; aiosd refuses anything
 * else.
 *  2. Getters and toJSON run the flow's code in the middle of it: nothing here relies on an object staying as
 * it was, and no view of the key cache is held across such a call.
 */

struct step {
	const void *obj;
	JSAtom key; /* JS_ATOM_NULL: an element */
	uint32_t index;
};

struct put {
	struct flow_codec *c;
	JSContext *ctx;
	struct base_buf *b;
	const char *what;
	unsigned depth;
	struct step at[FLOW_JSON_DEPTH_MAX];
};

enum { PUT = 0, SKIP = 1 };

static int put_value(struct put *p, JSValueConst v);

/* Throws a TypeError: "args.items[2].price is NaN: …" */
static int refuse(struct put *p, const char *why)
{
	struct base_buf path;
	base_buf_init(&path, 512);
	base_buf_cstr(&path, p->what);
	for (unsigned i = 0; i < p->depth; i++) {
		if (p->at[i].key == JS_ATOM_NULL) {
			base_buf_printf(&path, "[%u]", p->at[i].index);
			continue;
		}
		const char *key = JS_AtomToCString(p->ctx, p->at[i].key);
		base_buf_printf(&path, ".%.64s", key ? key : "?");
		JS_FreeCString(p->ctx, key);
	}
	struct base_str s = base_buf_view(&path);
	JS_ThrowTypeError(p->ctx, "%.*s %s", BASE_STR_ARG(s), why);
	base_buf_done(&path);
	return -1;
}

/* Bytes that can be written as they are. 0xed may begin a surrogate, which is looked at. */
static bool is_plain(unsigned char ch)
{
	return ch >= 0x20 && ch != '"' && ch != '\\' && ch != 0xed;
}

static void put_escape(struct base_buf *b, unsigned char ch)
{
	static const char short_form[] = "btn\0fr";
	if (ch == '"' || ch == '\\') {
		base_buf_char(b, '\\');
		base_buf_char(b, (char)ch);
	} else if (ch >= 8 && ch <= 13 && short_form[ch - 8]) {
		base_buf_char(b, '\\');
		base_buf_char(b, short_form[ch - 8]);
	} else {
		base_buf_printf(b, "\\u%04x", ch);
	}
}

/* False if it holds a lone surrogate. */
static bool put_text(struct base_buf *b, const char *s, size_t len)
{
	base_buf_char(b, '"');
	size_t from = 0;
	for (size_t i = 0; i < len; i++) {
		unsigned char ch = (unsigned char)s[i];
		if (is_plain(ch))
			continue;
		if (ch == 0xed) {
			if (i + 1 < len && (unsigned char)s[i + 1] >= 0xa0)
				return false;
			continue;
		}
		base_buf_put(b, s + from, i - from);
		put_escape(b, ch);
		from = i + 1;
	}
	base_buf_put(b, s + from, len - from);
	base_buf_char(b, '"');
	return true;
}

static int put_string(struct put *p, JSValueConst v)
{
	size_t len;
	const char *s = JS_ToCStringLen(p->ctx, &len, v);
	if (!s)
		return -1;
	bool ok = put_text(p->b, s, len);
	JS_FreeCString(p->ctx, s);
	return ok ? PUT : refuse(p, "holds half of a surrogate pair: not valid text");
}

static int put_number(struct put *p, JSValueConst v, double d)
{
	if (!isfinite(d))
		return refuse(p, isnan(d) ? "is NaN: JSON has no such number"
					  : "is infinite: JSON has no such number");
	if (d == trunc(d) && fabs(d) < 1e21) {
		if (fabs(d) > 9007199254740991.0)
			return refuse(p, "is an integer beyond 2^53, which a number cannot hold exactly: "
					 "pass a string");
		base_buf_i64(p->b, (int64_t)d);
		return PUT;
	}
	size_t len;
	const char *s = JS_ToCStringLen(p->ctx, &len, v);
	if (!s)
		return -1;
	base_buf_put(p->b, s, len);
	JS_FreeCString(p->ctx, s);
	return PUT;
}

struct member {
	JSAtom atom;
	bool plain;
	uint32_t len;
	const char *held; /* a longer text: a C string to free; else NULL and the text is in `small` */
	char small[CODEC_KEY_MAX];
};

/* By UTF-16 units, as RFC 8785 asks: as bytes, but what lies beyond U+FFFF (F0..) sorts before U+E000.. (EE,
 * EF). */
static int compare_members(const void *x, const void *y)
{
	const struct member *a = x, *b = y;
	const char *at = a->held ? a->held : a->small, *bt = b->held ? b->held : b->small;
	size_t n = a->len < b->len ? a->len : b->len;
	for (size_t i = 0; i < n; i++) {
		unsigned char ac = (unsigned char)at[i], bc = (unsigned char)bt[i];
		if (ac == bc)
			continue;
		if ((ac >= 0xf0) != (bc >= 0xf0) && ac >= 0xee && bc >= 0xee)
			return ac >= 0xf0 ? -1 : 1;
		return ac < bc ? -1 : 1;
	}
	return a->len < b->len ? -1 : a->len > b->len;
}

static bool text_is_plain(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (!is_plain((unsigned char)s[i]))
			return false;
	}
	return true;
}

/* The text of a key, from the cache or the interpreter. Runs no code of the flow. */
static int member_init(struct put *p, JSAtom atom, struct member *m)
{
	struct codec_key *k = &p->c->by_atom[atom % CODEC_SLOTS];
	*m = (struct member){.atom = atom};
	if (k->atom == atom) {
		m->len = k->len;
		m->plain = k->plain;
		memcpy(m->small, k->text, k->len);
		return 0;
	}
	size_t len;
	const char *s = JS_AtomToCStringLen(p->ctx, &len, atom);
	if (!s)
		return -1;
	m->len = (uint32_t)len;
	m->plain = text_is_plain(s, len);
	if (len > CODEC_KEY_MAX) {
		m->held = s;
		return 0;
	}
	memcpy(m->small, s, len);
	JS_FreeCString(p->ctx, s);
	JS_FreeAtomRT(p->c->rt, k->atom);
	k->atom = JS_DupAtom(p->ctx, atom);
	k->plain = m->plain;
	k->len = (uint8_t)len;
	memcpy(k->text, m->small, len);
	return 0;
}

static void sort_members(struct member *m, uint32_t count)
{
	if (count > 12) {
		qsort(m, count, sizeof(*m), compare_members);
		return;
	}
	for (uint32_t i = 1; i < count; i++) {
		for (uint32_t j = i; j > 0 && compare_members(&m[j - 1], &m[j]) > 0; j--) {
			struct member t = m[j];
			m[j] = m[j - 1];
			m[j - 1] = t;
		}
	}
}

static int put_members(struct put *p, JSValueConst obj, struct member *m, uint32_t count)
{
	bool comma = false;
	base_buf_char(p->b, '{');
	for (uint32_t i = 0; i < count; i++) {
		p->at[p->depth - 1].key = m[i].atom;
		JSValue v = JS_GetProperty(p->ctx, obj, m[i].atom);
		if (JS_IsException(v))
			return -1;
		size_t before = p->b->len;
		const char *text = m[i].held ? m[i].held : m[i].small;
		if (comma)
			base_buf_char(p->b, ',');
		if (m[i].plain) {
			base_buf_char(p->b, '"');
			base_buf_put(p->b, text, m[i].len);
			base_buf_char(p->b, '"');
		} else if (!put_text(p->b, text, m[i].len)) {
			JS_FreeValue(p->ctx, v);
			return refuse(p, "has half of a surrogate pair in its name: not valid text");
		}
		base_buf_char(p->b, ':');
		int rc = put_value(p, v);
		JS_FreeValue(p->ctx, v);
		if (rc < 0)
			return rc;
		if (rc == SKIP)
			p->b->len = before;
		else
			comma = true;
	}
	base_buf_char(p->b, '}');
	return PUT;
}

static int put_object(struct put *p, JSValueConst obj)
{
	JSPropertyEnum *tab;
	uint32_t count, got = 0;
	if (JS_GetOwnPropertyNames(p->ctx, &tab, &count, obj, JS_GPN_STRING_MASK | JS_GPN_ENUM_ONLY) < 0)
		return -1;
	struct member few[16];
	struct member *m = count <= 16 ? few : js_malloc(p->ctx, count * sizeof(*m));
	int rc = m ? 0 : -1;
	while (rc == 0 && got < count) {
		rc = member_init(p, tab[got].atom, &m[got]);
		got += rc == 0;
	}
	if (rc == 0) {
		sort_members(m, count);
		rc = put_members(p, obj, m, count);
	}
	for (uint32_t i = 0; i < got; i++)
		JS_FreeCString(p->ctx, m[i].held);
	if (m != few)
		js_free(p->ctx, m);
	JS_FreePropertyEnum(p->ctx, tab, count);
	return rc;
}

static int put_array(struct put *p, JSValueConst arr)
{
	int64_t len;
	if (JS_GetLength(p->ctx, arr, &len) < 0)
		return -1;
	base_buf_char(p->b, '[');
	for (int64_t i = 0; i < len; i++) {
		p->at[p->depth - 1].index = (uint32_t)i;
		JSValue v = JS_GetPropertyUint32(p->ctx, arr, (uint32_t)i);
		if (JS_IsException(v))
			return -1;
		if (i > 0)
			base_buf_char(p->b, ',');
		int rc = put_value(p, v);
		JS_FreeValue(p->ctx, v);
		if (rc == SKIP)
			base_buf_cstr(p->b, "null");
		/* An array of a length without end must not fill the buffer with nulls only to be refused. */
		if (rc < 0 || base_buf_failed(p->b))
			return rc < 0 ? rc : PUT;
	}
	base_buf_char(p->b, ']');
	return PUT;
}

/* Proxies and boxed primitives: rare enough for the interpreter's own way and a second pass for the order. */
static int put_unusual(struct put *p, JSValueConst v)
{
	JSValue s = JS_JSONStringify(p->ctx, v, JS_UNDEFINED, JS_UNDEFINED);
	if (JS_IsException(s))
		return -1;
	if (JS_IsUndefined(s))
		return SKIP;
	size_t len;
	const char *text = JS_ToCStringLen(p->ctx, &len, s);
	JS_FreeValue(p->ctx, s);
	if (!text)
		return -1;
	struct base_err err;
	int rc = base_json_canon((struct base_str){text, len}, p->b, &err);
	JS_FreeCString(p->ctx, text);
	return rc < 0 ? refuse(p, err.text) : PUT;
}

static int put_by_class(struct put *p, JSValueConst v)
{
	JSClassID id = JS_GetClassID(v);
	if (id == p->c->object)
		return put_object(p, v);
	if (id == p->c->array)
		return put_array(p, v);
	for (size_t i = 0; i < 4; i++) {
		if (id == p->c->boxed[i])
			return put_unusual(p, v);
	}
	return JS_IsProxy(v) ? put_unusual(p, v) : put_object(p, v);
}

static JSValue call_to_json(struct put *p, JSValueConst v, JSValueConst fn)
{
	JSValue key = JS_NewString(p->ctx, "");
	if (p->depth > 0) {
		const struct step *s = &p->at[p->depth - 1];
		JS_FreeValue(p->ctx, key);
		JSAtom atom = s->key ? JS_DupAtom(p->ctx, s->key) : JS_NewAtomUInt32(p->ctx, s->index);
		key = JS_AtomToString(p->ctx, atom);
		JS_FreeAtom(p->ctx, atom);
	}
	JSValue ret = JS_Call(p->ctx, fn, v, 1, &key);
	JS_FreeValue(p->ctx, key);
	return ret;
}

/* Functions come here too: one with a toJSON is what that says. */
static int put_reference(struct put *p, JSValueConst v)
{
	JSValue fn = JS_GetProperty(p->ctx, v, p->c->to_json);
	if (JS_IsException(fn))
		return -1;
	JSValue held = JS_UNDEFINED;
	if (JS_IsFunction(p->ctx, fn)) {
		held = call_to_json(p, v, fn);
		v = held;
	}
	JS_FreeValue(p->ctx, fn);
	if (JS_IsException(held))
		return -1;
	int rc;
	if (!JS_IsObject(v)) {
		rc = put_value(p, v);
	} else if (JS_IsFunction(p->ctx, v)) {
		rc = refuse(p, "is a function: not JSON");
	} else if (JS_GetClassID(v) == p->c->map) {
		rc = refuse(p, "is a Map: pass Object.fromEntries(map) or [...map]");
	} else if (JS_GetClassID(v) == p->c->set) {
		rc = refuse(p, "is a Set: pass [...set]");
	} else if (p->depth >= FLOW_JSON_DEPTH_MAX) {
		rc = refuse(p, "lies deeper than 64 levels");
	} else {
		rc = 0;
		for (unsigned i = 0; i < p->depth && rc == 0; i++) {
			if (p->at[i].obj == JS_VALUE_GET_PTR(v))
				rc = refuse(p, "refers back to what contains it: JSON has no cycles");
		}
		if (rc == 0) {
			p->at[p->depth++] = (struct step){.obj = JS_VALUE_GET_PTR(v)};
			rc = put_by_class(p, v);
			p->depth--;
		}
	}
	JS_FreeValue(p->ctx, held);
	return rc;
}

static int put_value(struct put *p, JSValueConst v)
{
	switch (JS_VALUE_GET_NORM_TAG(v)) {
	case JS_TAG_INT:
		base_buf_i64(p->b, JS_VALUE_GET_INT(v));
		return PUT;
	case JS_TAG_FLOAT64:
		return put_number(p, v, JS_VALUE_GET_FLOAT64(v));
	case JS_TAG_STRING:
	case JS_TAG_STRING_ROPE:
		return put_string(p, v);
	case JS_TAG_BOOL:
		base_buf_cstr(p->b, JS_VALUE_GET_BOOL(v) ? "true" : "false");
		return PUT;
	case JS_TAG_NULL:
		base_buf_cstr(p->b, "null");
		return PUT;
	case JS_TAG_UNDEFINED:
		return SKIP;
	case JS_TAG_OBJECT:
		return put_reference(p, v);
	case JS_TAG_SYMBOL:
		return refuse(p, "is a symbol: not JSON");
	default:
		return refuse(p, "is a BigInt: pass a string or a number");
	}
}

int flow_codec_put(struct flow_codec *c, JSContext *ctx, JSValueConst v, const char *what, struct base_buf *b)
{
	struct put p;
	p.c = c;
	p.ctx = ctx;
	p.b = b;
	p.what = what;
	p.depth = 0;
	int rc = put_value(&p, v);
	if (rc == SKIP)
		base_buf_cstr(b, "null");
	if (rc >= 0 && base_buf_failed(b)) {
		JS_ThrowRangeError(ctx, "%s is larger than %d MiB as JSON", what, FLOW_JSON_MAX >> 20);
		return -1;
	}
	return rc < 0 ? -1 : 0;
}
