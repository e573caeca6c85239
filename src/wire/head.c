#include "wire/head.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "wire/conn.h"

static void put_le(char *to, uint32_t v, unsigned bytes)
{
	for (; bytes > 0; bytes--, v >>= 8)
		*to++ = (char)(v & 0xff);
}

static uint32_t get_le(const char *from, unsigned bytes)
{
	uint32_t v = 0;

	while (bytes > 0)
		v = v << 8 | (unsigned char)from[--bytes];
	return v;
}

void wire_head_put(char *head, unsigned type, size_t body)
{
	memset(head, 0, WIRE_HEAD);
	wire_head_size(head, body);
	put_le(head + 4, type, 2);
}

void wire_head_size(char *head, size_t body)
{
	put_le(head, (uint32_t)body, 4);
}

size_t wire_head_body(const char *head)
{
	return get_le(head, 4);
}

unsigned wire_head_type(const char *head)
{
	return get_le(head + 4, 2);
}

int wire_head_next(struct base_str in, unsigned *ret_type, struct base_str *ret_body)
{
	unsigned type;
	size_t body;

	if (in.len < WIRE_HEAD)
		return 0;
	body = wire_head_body(in.ptr);
	type = wire_head_type(in.ptr);
	if (body > WIRE_BODY_MAX || type == 0 || get_le(in.ptr + 6, 2) != 0)
		return -EBADMSG;
	if (in.len - WIRE_HEAD < body)
		return 0;
	*ret_type = type;
	*ret_body = (struct base_str){in.ptr + WIRE_HEAD, body};
	return 1;
}
