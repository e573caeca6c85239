#include <errno.h>
#include <string.h>

#include "parse/parse_int.h"

static const uint16_t cp1252[32] = {0x20ac, 0xfffd, 0x201a, 0x0192, 0x201e, 0x2026, 0x2020, 0x2021, 0x02c6,
	0x2030, 0x0160, 0x2039, 0x0152, 0xfffd, 0x017d, 0xfffd, 0xfffd, 0x2018, 0x2019, 0x201c, 0x201d,
	0x2022, 0x2013, 0x2014, 0x02dc, 0x2122, 0x0161, 0x203a, 0x0153, 0xfffd, 0x017e, 0x0178};

static int from_utf16(struct base_str in, bool big, struct base_buf *ret, struct parse_fault *fault)
{
	const unsigned char *p = (const unsigned char *)in.ptr;
	uint32_t high = 0;

	if (in.len % 2)
		return parse_fault_set(
			fault, -EINVAL, 0, 0, "this is not valid UTF-16: half a character at its end");
	for (size_t i = 0; i < in.len; i += 2) {
		uint32_t u = big ? (uint32_t)(p[i] << 8 | p[i + 1]) : (uint32_t)(p[i + 1] << 8 | p[i]);
		bool low = u >= 0xdc00 && u <= 0xdfff;

		if ((high != 0) != low)
			return parse_fault_set(
				fault, -EINVAL, 0, 0, "this is not valid UTF-16 at byte %zu", i);
		if (low) {
			parse_put_char(ret, 0x10000 + ((high - 0xd800) << 10) + (u - 0xdc00));
			high = 0;
		} else if (u >= 0xd800 && u <= 0xdbff) {
			high = u;
		} else {
			parse_put_char(ret, u);
		}
	}
	return high ? parse_fault_set(fault, -EINVAL, 0, 0, "this is not valid UTF-16 at its end") : 0;
}

static void from_bytes(struct base_str in, bool windows, struct base_buf *ret)
{
	for (size_t i = 0; i < in.len; i++) {
		unsigned char c = (unsigned char)in.ptr[i];

		parse_put_char(ret, windows && c >= 0x80 && c < 0xa0 ? cp1252[c - 0x80] : c);
	}
}

/* The encoding of an XML declaration, or an empty view. */
static struct base_str declared(struct base_str in)
{
	struct base_str head = base_str_sub(in, 0, 512);
	const char *at, *end;
	char quote;

	if (!base_str_starts(head, BASE_STR("<?xml")))
		return BASE_STR_NONE;
	end = memmem(head.ptr, head.len, "?>", 2);
	if (!end)
		return BASE_STR_NONE;
	head.len = (size_t)(end - head.ptr);
	at = memmem(head.ptr, head.len, "encoding", 8);
	if (!at)
		return BASE_STR_NONE;
	for (at += 8; at < end && (*at == ' ' || *at == '=' || *at == '\t' || *at == '\r' || *at == '\n');)
		at++;
	if (at == end || (*at != '"' && *at != '\''))
		return BASE_STR_NONE;
	quote = *at++;
	head = (struct base_str){at, (size_t)(end - at)};
	if (!base_str_cut(head, quote, &head, &(struct base_str){0}))
		return BASE_STR_NONE;
	return head;
}

static bool is_name(struct base_str s, const char *name)
{
	return s.len == strlen(name) && strncasecmp(s.ptr, name, s.len) == 0;
}

int parse_xml_decode(struct base_str in, struct base_buf *ret, struct parse_fault *fault)
{
	struct base_str name;
	int r;

	if (base_str_starts(in, BASE_STR("\xff\xfe")))
		return from_utf16(base_str_sub(in, 2, in.len), false, ret, fault);
	if (base_str_starts(in, BASE_STR("\xfe\xff")))
		return from_utf16(base_str_sub(in, 2, in.len), true, ret, fault);
	if (base_str_starts(in, BASE_STR("<\0")))
		return from_utf16(in, false, ret, fault);
	if (base_str_starts(in, BASE_STR("\0<")))
		return from_utf16(in, true, ret, fault);
	if (base_str_starts(in, BASE_STR("\xef\xbb\xbf"))) {
		in = base_str_sub(in, 3, in.len);
		name = BASE_STR("utf-8");
	} else {
		name = declared(in);
	}
	if (is_name(name, "iso-8859-1") || is_name(name, "latin1") || is_name(name, "windows-1252") ||
		is_name(name, "cp1252")) {
		from_bytes(in, true, ret);
		return 0;
	}
	if (name.len && !is_name(name, "utf-8") && !is_name(name, "utf8") && !is_name(name, "us-ascii") &&
		!is_name(name, "ascii"))
		return parse_fault_set(fault, -EINVAL, 1, 1, "the encoding %.*s is not read; UTF-8 is",
			(int)(name.len > 40 ? 40 : name.len), name.ptr);
	r = parse_check_text(in, fault);
	if (r < 0)
		return r;
	base_buf_str(ret, in);
	return 0;
}
