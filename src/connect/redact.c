#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "base/disguise.h"
#include "connect/connect_int.h"

/*
 * What a call brings back never holds the secret that it was made with: not plain, nor in one of the disguises of
 * base/disguise.h, nor cut off (the first half of one is enough to be taken out).
 */
enum { FORM_MIN = 6, HALF_MIN = 8, REDACTED_MORE = 8 << 20 };

struct work {
	struct base_buf *b; /* what is redacted */
	struct base_str name;
	bool found;
};

static size_t same(const char *a, const char *b, size_t max)
{
	size_t n = 0;

	while (n < max && a[n] == b[n])
		n++;
	return n;
}

static void one_form(void *userdata, enum base_disguise how, struct base_str form)
{
	struct work *w = userdata;
	size_t half = form.len / 2 + 1, at = 0;
	struct base_buf out;
	const char *hit;

	(void)how;
	if (form.len < FORM_MIN || base_buf_failed(w->b))
		return;
	if (half < HALF_MIN)
		half = form.len < HALF_MIN ? form.len : HALF_MIN;
	base_buf_init(&out, w->b->cap);
	while (at < w->b->len && (hit = memmem(w->b->ptr + at, w->b->len - at, form.ptr, half))) {
		size_t from = (size_t)(hit - w->b->ptr), left = w->b->len - from;

		base_buf_put(&out, w->b->ptr + at, from - at);
		base_buf_printf(&out, "[secret %.*s]", BASE_STR_ARG(w->name));
		at = from + same(hit, form.ptr, left < form.len ? left : form.len);
	}
	if (at == 0)
		return;
	base_buf_put(&out, w->b->ptr + at, w->b->len - at);
	sodium_memzero(w->b->ptr, w->b->len);
	base_buf_done(w->b);
	*w->b = out;
	w->found = true;
}

static void all_forms(struct work *w, struct base_str value)
{
	size_t size = 6 * value.len + 16;
	struct base_buf scratch = {.size = size, .cap = size};

	if (value.len < FORM_MIN)
		return;
	scratch.ptr = sodium_malloc(size + 1);
	if (!scratch.ptr) {
		w->b->failed = -ENOMEM; /* nothing goes out unchecked */
		return;
	}
	base_disguises(value, &scratch, one_form, w);
	sodium_free(scratch.ptr);
}

bool connect_redact(const struct connect_call *call, struct base_str *text, struct base_buf *hold)
{
	struct work w = {.b = hold, .name = call->secret.name};

	if (!call->secret.value.len || !text->len)
		return true;
	base_buf_init(hold, text->len + REDACTED_MORE);
	base_buf_str(hold, *text);
	all_forms(&w, call->secret.value);
	all_forms(&w, call->secret.old);
	if (base_buf_failed(hold))
		return false;
	if (w.found)
		*text = base_buf_view(hold);
	return true;
}
