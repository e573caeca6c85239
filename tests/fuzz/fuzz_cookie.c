/* Cookies and heads. First byte 'c': a Cookie header, checked against a slow reading of the same; else a head, a line
 * "Name: value" each, the first line "METHOD PATH": what the door lets pass has what it must have. */
#include <string.h>
#include <strings.h>

#include "base/check.h"
#include "door/door_int.h"
#include "fuzz.h"

enum { TEXT_CAP = 64 << 10, LINES_MAX = 200 };

static bool blank(char c)
{
	return c == ' ' || c == '\t';
}

/* How often a pair of this name stands in the header, by looking at every place where one could begin. */
static int slowly(struct base_str h, const char *name)
{
	size_t len = strlen(name), i;
	int n = 0;

	for (size_t at = 0; at < h.len; at++) {
		size_t back = at;

		while (back > 0 && blank(h.ptr[back - 1]))
			back--;
		if ((back > 0 && h.ptr[back - 1] != ';') || h.len - at < len ||
			memcmp(h.ptr + at, name, len) != 0)
			continue;
		for (i = at + len; i < h.len && blank(h.ptr[i]); i++)
			;
		if (i < h.len && h.ptr[i] == '=')
			n++;
	}
	return n;
}

static void cookie(struct base_str in)
{
	static const char *const names[] = {"aios_session", "__Host-aios"};
	struct base_str value = BASE_STR_NONE;

	for (int i = 0; i < 2; i++) {
		int n = door_cookie(in, base_str_of(names[i]), &value);

		BASE_CHECK(n == slowly(in, names[i]));
		BASE_CHECK(!value.len || (value.ptr >= in.ptr && value.ptr + value.len <= in.ptr + in.len));
		BASE_CHECK(!memchr(value.len ? value.ptr : "", ';', value.len));
	}
}

/* What must hold of a head that passed. */
static void passed(const struct door_head *h, const struct door_config *c, bool unsafe)
{
	BASE_CHECK(h->host && door_host_allowed(c, base_str_of(h->host)));
	BASE_CHECK(!h->origin || door_origin_allowed(c, base_str_of(h->origin), base_str_of(h->host)));
	BASE_CHECK(!h->transfer_encoding && !h->malformed && !h->twice && !h->cookie_twice && !h->bare);
	if (unsafe && h->fetch_site)
		BASE_CHECK(strcmp(h->fetch_site, "same-origin") == 0 || strcmp(h->fetch_site, "none") == 0);
	if (unsafe && h->cookie.len && !h->authorization)
		BASE_CHECK(h->origin || h->fetch_site);
	if (h->authorization)
		BASE_CHECK(strncasecmp(h->authorization, "Bearer ", 7) == 0);
	if (h->fetch_dest)
		BASE_CHECK(strcmp(h->fetch_dest, "iframe") != 0);
}

static void head(struct base_str in, bool secure)
{
	struct door_config c = {.kind = DOOR_NETWORK, .secure = secure};
	struct base_str line, method, path, name, value;
	struct base_buf text[LINES_MAX];
	struct door_fail fail = {0};
	struct door_head h = {0};
	struct door_match m;
	unsigned n = 0;
	bool unsafe;
	int r;

	base_str_cut(in, '\n', &line, &in);
	base_str_cut(line, ' ', &method, &path);
	r = door_route(method, path, &m);
	while (in.len > 0 && n < LINES_MAX) {
		base_str_cut(in, '\n', &line, &in);
		if (!base_str_cut(line, ':', &name, &value))
			continue;
		while (value.len > 0 && blank(value.ptr[0]))
			value = base_str_sub(value, 1, value.len);
		base_buf_init(&text[n], TEXT_CAP);
		base_buf_str(&text[n], name);
		base_buf_char(&text[n], '\0');
		base_buf_str(&text[n], value);
		base_buf_char(&text[n], '\0');
		if (base_buf_failed(&text[n]) == 0)
			door_head_add(&h, text[n].ptr, text[n].ptr + name.len + 1);
		n++;
	}
	door_head_end(&h, &c);
	unsafe = !base_str_is(method, "GET") && !base_str_is(method, "HEAD");
	door_head_judge(&h, &c, r == 0 ? m.route : NULL, unsafe, &fail);
	if (fail.status == 0)
		passed(&h, &c, unsafe);
	else
		BASE_CHECK(fail.status >= 400 && fail.status < 500 && fail.code && fail.detail[0]);
	while (n > 0)
		base_buf_done(&text[--n]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct base_str in = {(const char *)data + 1, size ? size - 1 : 0};

	if (size == 0)
		return 0;
	if (data[0] == 'c')
		cookie(in);
	else
		head(in, data[0] == 's');
	return 0;
}
