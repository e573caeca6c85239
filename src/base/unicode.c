#include "base/unicode.h"

#include <stddef.h>

#include "base/unicode_int.h"

/* In the order of the numbers in base_unicode_runs; the last of those, what is not assigned, has no name. */
static const char names[][3] = {"Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd",
	"Ps", "Pe", "Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Cs", "Co"};

unsigned base_unicode_category(uint32_t c)
{
	unsigned low = 0, high = base_unicode_runs_count;

	while (high - low > 1) {
		unsigned mid = low + (high - low) / 2;

		if (base_unicode_runs[mid] >> 5 <= c)
			low = mid;
		else
			high = mid;
	}
	return base_unicode_runs[low] & 31;
}

bool base_unicode_categories(struct base_str name, uint32_t *ret)
{
	uint32_t bits = 0;
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if ((name.len == 1 && name.ptr[0] == names[i][0]) || base_str_is(name, names[i]))
			bits |= 1u << i;
	*ret = bits;
	return bits != 0;
}

static uint32_t shifted(const struct base_unicode_shift *table, unsigned count, uint32_t c)
{
	unsigned low = 0, high = count;

	while (low < high) {
		unsigned mid = low + (high - low) / 2;
		const struct base_unicode_shift *s = &table[mid];

		if (c > s->last)
			low = mid + 1;
		else if (c < s->first)
			high = mid;
		else
			return (c - s->first) % s->step == 0 ? (uint32_t)((int32_t)c + s->distance) : c;
	}
	return c;
}

uint32_t base_unicode_upper(uint32_t c)
{
	if (c < 0x80)
		return c >= 'a' && c <= 'z' ? c - 32 : c;
	return shifted(base_unicode_to_upper, base_unicode_to_upper_count, c);
}

uint32_t base_unicode_lower(uint32_t c)
{
	if (c < 0x80)
		return c >= 'A' && c <= 'Z' ? c + 32 : c;
	return shifted(base_unicode_to_lower, base_unicode_to_lower_count, c);
}

uint32_t base_unicode_fold(uint32_t c)
{
	return base_unicode_lower(base_unicode_upper(c));
}
