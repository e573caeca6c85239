#include "base/codec.h"

#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "base/json.h"

enum { VARINT_MAX = 10, BYTES_SHOWN = 64 };

struct base_blob base_blob_of(struct base_str data)
{
	return (struct base_blob){.data = data, .len = data.len};
}

bool base_blob_is_inline(const struct base_blob *b)
{
	return base_hash_is_zero(&b->hash);
}

void base_put_u64(struct base_buf *b, uint64_t v)
{
	unsigned char *to = (unsigned char *)base_buf_reserve(b, VARINT_MAX), *at = to;

	if (!to)
		return;
	while (v >= 0x80) {
		*at++ = (unsigned char)(v | 0x80);
		v >>= 7;
	}
	*at++ = (unsigned char)v;
	base_buf_commit(b, (size_t)(at - to));
}

void base_put_i64(struct base_buf *b, int64_t v)
{
	base_put_u64(b, ((uint64_t)v << 1) ^ (v < 0 ? UINT64_MAX : 0));
}

void base_put_str(struct base_buf *b, struct base_str s)
{
	base_put_u64(b, s.len);
	base_buf_str(b, s);
}

void base_put_hash(struct base_buf *b, const struct base_hash *h)
{
	base_buf_put(b, h->b, sizeof(h->b));
}

/* Twice the length, plus one when the hash stands in the place of the bytes. */
void base_put_blob(struct base_buf *b, const struct base_blob *v)
{
	bool is_inline = base_blob_is_inline(v);
	uint64_t len = is_inline ? v->data.len : v->len;

	BASE_CHECK(len <= UINT64_MAX >> 1);
	base_put_u64(b, len << 1 | !is_inline);
	if (is_inline)
		base_buf_str(b, v->data);
	else
		base_put_hash(b, &v->hash);
}

struct base_reader base_reader_of(struct base_str in)
{
	return (struct base_reader){.at = in.ptr, .end = in.ptr ? in.ptr + in.len : NULL};
}

static uint64_t fault(struct base_reader *r)
{
	r->failed = 1;
	return 0;
}

uint64_t base_get_u64(struct base_reader *r)
{
	const unsigned char *p = (const unsigned char *)r->at, *end = (const unsigned char *)r->end;
	uint64_t v = 0;
	unsigned shift;

	if (r->failed || p == end)
		return 0;
	for (shift = 0; p < end; shift += 7) {
		unsigned char c = *p++;

		/* Ten bytes hold 70 bits; and there is one form only of each number. */
		if ((shift == 63 && c > 1) || (shift > 0 && c == 0))
			return fault(r);
		v |= (uint64_t)(c & 0x7f) << shift;
		if (c < 0x80) {
			r->at = (const char *)p;
			return v;
		}
	}
	return fault(r);
}

uint64_t base_get_uint(struct base_reader *r, uint64_t max)
{
	uint64_t v = base_get_u64(r);

	return v > max ? fault(r) : v;
}

int64_t base_get_i64(struct base_reader *r)
{
	uint64_t v = base_get_u64(r);

	return (int64_t)(v >> 1 ^ (v & 1 ? UINT64_MAX : 0));
}

static struct base_str get_bytes(struct base_reader *r, uint64_t len)
{
	struct base_str s;

	if (r->failed)
		return BASE_STR_NONE;
	if (len > (uint64_t)(r->end - r->at)) {
		fault(r);
		return BASE_STR_NONE;
	}
	s = (struct base_str){r->at, (size_t)len};
	r->at += len;
	return s;
}

struct base_str base_get_str(struct base_reader *r)
{
	return get_bytes(r, base_get_u64(r));
}

void base_get_hash(struct base_reader *r, struct base_hash *ret)
{
	struct base_str s = BASE_STR_NONE;

	memset(ret, 0, sizeof(*ret));
	if (r->at != r->end)
		s = get_bytes(r, sizeof(ret->b));
	if (s.ptr)
		memcpy(ret->b, s.ptr, sizeof(ret->b));
}

void base_get_blob(struct base_reader *r, struct base_blob *ret)
{
	uint64_t head = base_get_u64(r);

	*ret = (struct base_blob){.len = head >> 1};
	if ((head & 1) == 0) {
		ret->data = get_bytes(r, ret->len);
	} else {
		struct base_str s = get_bytes(r, sizeof(ret->hash.b));

		if (s.ptr)
			memcpy(ret->hash.b, s.ptr, sizeof(ret->hash.b));
		/* A hash of zeros would read as an inline body. */
		if (base_hash_is_zero(&ret->hash))
			fault(r);
	}
	if (r->failed)
		*ret = (struct base_blob){0};
}

int base_reader_end(const struct base_reader *r)
{
	return r->failed || r->at != r->end ? -EBADMSG : 0;
}

static void name(struct base_buf *b, const char *s)
{
	base_buf_char(b, '"');
	base_buf_cstr(b, s);
	base_buf_put(b, "\":", 2);
}

void base_member_u64(struct base_buf *b, const char *s, uint64_t v)
{
	name(b, s);
	base_buf_u64(b, v);
	base_buf_char(b, ',');
}

void base_member_i64(struct base_buf *b, const char *s, int64_t v)
{
	name(b, s);
	base_buf_i64(b, v);
	base_buf_char(b, ',');
}

void base_member_str(struct base_buf *b, const char *s, struct base_str v)
{
	name(b, s);
	base_json_quote(b, v);
	base_buf_char(b, ',');
}

void base_member_bytes(struct base_buf *b, const char *s, struct base_str v)
{
	name(b, s);
	if (v.len > BYTES_SHOWN) {
		base_buf_cstr(b, "{\"bytes\":");
		base_buf_u64(b, v.len);
		base_buf_char(b, '}');
	} else {
		base_buf_char(b, '"');
		base_hex_put(b, v);
		base_buf_char(b, '"');
	}
	base_buf_char(b, ',');
}

void base_member_json(struct base_buf *b, const char *s, struct base_str v)
{
	name(b, s);
	base_buf_str(b, v.len ? v : BASE_STR("null"));
	base_buf_char(b, ',');
}

void base_member_hash(struct base_buf *b, const char *s, const struct base_hash *v)
{
	base_member_bytes(b, s, (struct base_str){(const char *)v->b, sizeof(v->b)});
}

void base_member_blob(struct base_buf *b, const char *s, const struct base_blob *v)
{
	struct base_json *d;

	name(b, s);
	if (!base_blob_is_inline(v)) {
		base_buf_cstr(b, "{\"hash\":\"");
		base_hex_put(b, (struct base_str){(const char *)v->hash.b, sizeof(v->hash.b)});
		base_buf_cstr(b, "\",\"bytes\":");
		base_buf_u64(b, v->len);
		base_buf_char(b, '}');
	} else if (base_json_parse(v->data, &d, NULL) == 0) {
		base_json_free(d);
		base_buf_str(b, v->data);
	} else {
		base_json_quote(b, v->data);
	}
	base_buf_char(b, ',');
}
