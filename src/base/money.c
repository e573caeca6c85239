#include "base/money.h"

#include <errno.h>

static const int64_t nusd = 1000000000;

static int not_money(struct base_err *err, struct base_str s)
{
	return base_err_set(err, -EINVAL, "\"%.*s\" is not an amount: write it like \"0.50 USD\"",
		(int)(s.len < 64 ? s.len : 64), s.len ? s.ptr : "");
}

int base_money_parse(struct base_str s, int64_t *ret_nusd, struct base_err *err)
{
	struct base_str amount, unit, whole, part;
	int64_t v = 0, scale = nusd;
	size_t i;
	bool dot;
	int r;

	if (!base_str_cut(s, ' ', &amount, &unit) || !base_str_is(unit, "USD"))
		return not_money(err, s);
	dot = base_str_cut(amount, '.', &whole, &part);
	r = base_str_i64(whole, &v);
	if (r == -EINVAL || (whole.len && whole.ptr[0] == '-') || (dot && part.len == 0))
		return not_money(err, s);
	for (i = 0; i < part.len; i++)
		if (part.ptr[i] < '0' || part.ptr[i] > '9')
			return not_money(err, s);
	if (r < 0 || part.len > BASE_NUSD_DIGITS || __builtin_mul_overflow(v, nusd, &v))
		goto range;
	for (i = 0; i < part.len; i++) {
		scale /= 10;
		if (__builtin_add_overflow(v, (part.ptr[i] - '0') * scale, &v))
			goto range;
	}
	*ret_nusd = v;
	return 0;
range:
	return base_err_set(err, -ERANGE, "the amount %.*s is too large or has more than %d decimals",
		(int)(s.len < 64 ? s.len : 64), s.ptr, BASE_NUSD_DIGITS);
}

void base_money_put(struct base_buf *b, int64_t v)
{
	uint64_t left = v < 0 ? 0 - (uint64_t)v : (uint64_t)v, part = left % (uint64_t)nusd;
	char digits[BASE_NUSD_DIGITS];
	size_t len = sizeof(digits), i;

	for (i = sizeof(digits); i > 0; i--) {
		digits[i - 1] = (char)('0' + part % 10);
		part /= 10;
	}
	while (len > 2 && digits[len - 1] == '0')
		len--;
	if (v < 0)
		base_buf_char(b, '-');
	base_buf_u64(b, left / (uint64_t)nusd);
	base_buf_char(b, '.');
	base_buf_put(b, digits, len);
	base_buf_cstr(b, " USD");
}

int base_duration_parse(struct base_str s, int64_t *ret_ms, struct base_err *err)
{
	static const struct {
		const char *name;
		int64_t ms;
	} units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}, {"w", 604800000}};
	struct base_str unit;
	size_t digits = 0, i;
	int64_t v = 0;
	int r;

	while (digits < s.len && s.ptr[digits] >= '0' && s.ptr[digits] <= '9')
		digits++;
	unit = base_str_sub(s, digits, s.len);
	r = base_str_i64(base_str_sub(s, 0, digits), &v);
	for (i = 0; r != -EINVAL && i < sizeof(units) / sizeof(units[0]); i++) {
		if (!base_str_is(unit, units[i].name))
			continue;
		if (r < 0 || __builtin_mul_overflow(v, units[i].ms, &v))
			return base_err_set(err, -ERANGE, "the duration %.*s is too long", BASE_STR_ARG(s));
		*ret_ms = v;
		return 0;
	}
	return base_err_set(err, -EINVAL,
		"\"%.*s\" is not a duration: write it like 90s, 15m, 12h, 2d, 1w or 500ms",
		(int)(s.len < 64 ? s.len : 64), s.len ? s.ptr : "");
}

void base_duration_put(struct base_buf *b, int64_t ms)
{
	if (ms < 0)
		ms = 0;
	if (ms < 1000)
		base_buf_printf(b, "%lld ms", (long long)ms);
	else if (ms < 60000)
		base_buf_printf(b, "%lld.%lld s", (long long)(ms / 1000), (long long)(ms % 1000 / 100));
	else if (ms < 3600000)
		base_buf_printf(b, "%lld min %lld s", (long long)(ms / 60000), (long long)(ms / 1000 % 60));
	else if (ms < 86400000)
		base_buf_printf(
			b, "%lld h %lld min", (long long)(ms / 3600000), (long long)(ms / 60000 % 60));
	else
		base_buf_printf(
			b, "%lld d %lld h", (long long)(ms / 86400000), (long long)(ms / 3600000 % 24));
}
