#include "base/disguise.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/json.h"

struct forms {
	struct base_str s;
	struct base_buf *b;
	void (*fn)(void *userdata, enum base_disguise how, struct base_str form);
	void *userdata;
};

static void give(const struct forms *f, enum base_disguise how)
{
	struct base_str form = base_buf_view(f->b);

	if (form.len && !base_buf_failed(f->b))
		f->fn(f->userdata, how, form);
}

static void escaped(const struct forms *f)
{
	struct base_jw w;

	base_buf_clear(f->b);
	w = base_jw_of(f->b);
	base_jw_str(&w, f->s);
	if (f->b->len < 2 || f->b->len - 2 == f->s.len)
		return; /* nothing to be escaped */
	f->b->len--;
	f->fn(f->userdata, BASE_JSON_ESCAPED, base_str_sub(base_buf_view(f->b), 1, f->b->len));
}

static bool is_unreserved(unsigned char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c && strchr("-_.~", c));
}

static bool percent(const struct forms *f, const char *digits)
{
	bool any = false;

	base_buf_clear(f->b);
	for (size_t i = 0; i < f->s.len; i++) {
		unsigned char c = (unsigned char)f->s.ptr[i];

		if (is_unreserved(c)) {
			base_buf_char(f->b, (char)c);
			continue;
		}
		any = true;
		base_buf_char(f->b, '%');
		base_buf_char(f->b, digits[c >> 4]);
		base_buf_char(f->b, digits[c & 15]);
	}
	if (any)
		give(f, BASE_PERCENT);
	return any;
}

static void hex(const struct forms *f, const char *digits)
{
	base_buf_clear(f->b);
	for (size_t i = 0; i < f->s.len; i++) {
		unsigned char c = (unsigned char)f->s.ptr[i];

		base_buf_char(f->b, digits[c >> 4]);
		base_buf_char(f->b, digits[c & 15]);
	}
	give(f, BASE_HEX);
}

/* The digits that s alone decides when `before` bytes (0, 1, 2) stand before it in their group of three. */
static void base64(const struct forms *f, unsigned before, const char *last)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
	size_t bits = 8 * (before + f->s.len), first = (8 * before + 5) / 6;

	base_buf_clear(f->b);
	for (size_t d = first; 6 * (d + 1) <= bits; d++) {
		unsigned v = 0;

		for (size_t bit = 6 * d; bit < 6 * d + 6; bit++) {
			size_t at = bit / 8 - before;

			v = v << 1 | ((unsigned char)f->s.ptr[at] >> (7 - bit % 8) & 1);
		}
		base_buf_char(f->b, v < 62 ? digits[v] : last[v - 62]);
	}
	give(f, BASE_BASE64);
}

void base_disguises(struct base_str s, struct base_buf *scratch,
	void (*fn)(void *userdata, enum base_disguise how, struct base_str form), void *userdata)
{
	const struct forms f = {s, scratch, fn, userdata};

	if (s.len == 0)
		return;
	fn(userdata, BASE_PLAIN, s);
	escaped(&f);
	if (percent(&f, "0123456789ABCDEF"))
		percent(&f, "0123456789abcdef");
	hex(&f, "0123456789abcdef");
	hex(&f, "0123456789ABCDEF");
	for (unsigned before = 0; before < 3; before++) {
		base64(&f, before, "+/");
		base64(&f, before, "-_");
	}
}
