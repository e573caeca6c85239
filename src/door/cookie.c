#include <string.h>

#include "door/door_int.h"

/* The Cookie header (RFC 6265, section 4.2.1): pairs behind semicolons. Ours is one of them, once: a second of the same
 * name is somebody's who could set a cookie for a name beside this one. */

static struct base_str trimmed(struct base_str s)
{
	while (s.len > 0 && (s.ptr[0] == ' ' || s.ptr[0] == '\t'))
		s = base_str_sub(s, 1, s.len);
	while (s.len > 0 && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t'))
		s.len--;
	return s;
}

int door_cookie(struct base_str header, struct base_str name, struct base_str *ret)
{
	struct base_str pair, at, value, found = BASE_STR_NONE;
	int n = 0;

	while (header.len > 0) {
		base_str_cut(header, ';', &pair, &header);
		if (!base_str_cut(pair, '=', &at, &value) || !base_str_eq(trimmed(at), name))
			continue;
		found = trimmed(value);
		n++;
	}
	if (n == 1)
		*ret = found;
	return n;
}
