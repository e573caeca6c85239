#include "base/regex.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/unicode.h"

/*
 * A pattern becomes a program for a machine that follows all ways at once. Jumps are relative, so that a
 * piece of the program can be moved and copied: that is how an operator behind its operand, and {m,n}, are
 * compiled.
 */
enum { CODE_MAX = 1000, RANGES_MAX = 500, DEPTH_MAX = 50, REPEAT_MAX = 1000 };
enum op {
	OP_CHAR,
	OP_CLASS,
	OP_SPLIT,
	OP_JUMP,
	OP_BEGIN,
	OP_END,
	OP_LINE_BEGIN,
	OP_LINE_END,
	OP_WORD,
	OP_NOT_WORD,
	OP_MATCH
};

struct code {
	uint8_t op;
	bool negated;	   /* class */
	bool fold;	   /* char, class: whatever the case; a char is folded already */
	int16_t x, y;	   /* split: both ways; jump: x */
	uint16_t from, to; /* class: its ranges */
	uint32_t c;	   /* char */
};

/* Code points; where low is one of these, the categories of Unicode whose bits are in high, or all others. */
enum { CATEGORIES = 0x110000, NOT_CATEGORIES };
struct range {
	uint32_t low, high;
};

struct base_regex {
	unsigned code_count;
	unsigned range_count;
	unsigned cost;
	struct code code[CODE_MAX];
	struct range ranges[RANGES_MAX];
};

struct parser {
	struct base_str in;
	size_t at;
	struct base_regex *re;
	struct base_err *err;
	unsigned depth;
	struct flags {
		bool fold; /* (?i) */
		bool many; /* (?m): ^ and $ at each line */
		bool all;  /* (?s): . is a newline, too */
	} flags;
	bool quoted; /* between \Q and \E */
};

static int refuse(struct parser *p, const char *why)
{
	return base_err_set(p->err, -EINVAL, "pattern, at character %zu: %s", p->at + 1, why);
}

static int too_big(struct parser *p)
{
	return base_err_set(p->err, -E2BIG, "the pattern is too large");
}

/* One code point from s (U+FFFD for a byte that is not UTF-8); *ret_len: its bytes. */
static uint32_t decode(struct base_str s, size_t *ret_len)
{
	const unsigned char *u = (const unsigned char *)s.ptr;
	size_t n = u[0] < 0x80 ? 1 : base_utf8_next(s), i;
	uint32_t c;

	*ret_len = n ? n : 1;
	if (n <= 1)
		return n ? u[0] : 0xfffd;
	c = u[0] & (0x7fu >> n);
	for (i = 1; i < n; i++)
		c = c << 6 | (u[i] & 0x3f);
	return c;
}

static bool more(const struct parser *p)
{
	return p->at < p->in.len;
}

static bool accept(struct parser *p, const char *what)
{
	struct base_str rest = base_str_sub(p->in, p->at, p->in.len);

	if (!base_str_starts(rest, base_str_of(what)))
		return false;
	p->at += strlen(what);
	return true;
}

static int emit(struct parser *p, struct code code)
{
	if (p->re->code_count == CODE_MAX - 1)
		return too_big(p);
	p->re->code[p->re->code_count++] = code;
	return 0;
}

static int insert(struct parser *p, unsigned at, struct code code)
{
	int r = emit(p, code);

	if (r < 0)
		return r;
	memmove(&p->re->code[at + 1], &p->re->code[at], (p->re->code_count - 1 - at) * sizeof(code));
	p->re->code[at] = code;
	return 0;
}

static int add_range(struct parser *p, uint32_t low, uint32_t high)
{
	if (p->re->range_count == RANGES_MAX)
		return too_big(p);
	p->re->ranges[p->re->range_count++] = (struct range){low, high};
	return 0;
}

struct named {
	const char *name;
	struct range ranges[4];
};

static const struct named escapes[] = {
	{"d", {{'0', '9'}}},
	{"w", {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}}},
	{"s", {{'\t', '\n'}, {'\f', '\r'}, {' ', ' '}}},
};
static const struct named posix[] = {
	{"alpha:]", {{'A', 'Z'}, {'a', 'z'}}},
	{"digit:]", {{'0', '9'}}},
	{"alnum:]", {{'0', '9'}, {'A', 'Z'}, {'a', 'z'}}},
	{"upper:]", {{'A', 'Z'}}},
	{"lower:]", {{'a', 'z'}}},
	{"space:]", {{'\t', '\r'}, {' ', ' '}}},
	{"punct:]", {{'!', '/'}, {':', '@'}, {'[', '`'}, {'{', '~'}}},
	{"xdigit:]", {{'0', '9'}, {'A', 'F'}, {'a', 'f'}}},
	{"ascii:]", {{0, 0x7f}}},
	{"blank:]", {{'\t', '\t'}, {' ', ' '}}},
	{"cntrl:]", {{0, 0x1f}, {0x7f, 0x7f}}},
	{"graph:]", {{'!', '~'}}},
	{"print:]", {{' ', '~'}}},
	{"word:]", {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}}},
};

/* The set, or what lies between its ranges (they ascend). */
static int add_named(struct parser *p, const struct named *n, bool negated)
{
	uint32_t from = 0;
	unsigned i;
	int r = 0;

	for (i = 0; i < 4 && n->ranges[i].high && r == 0; i++) {
		if (!negated)
			r = add_range(p, n->ranges[i].low, n->ranges[i].high);
		else if (n->ranges[i].low > from)
			r = add_range(p, from, n->ranges[i].low - 1);
		from = n->ranges[i].high + 1;
	}
	return r == 0 && negated ? add_range(p, from, 0x10ffff) : r;
}

static const struct named *named_escape(char c, bool *ret_negated)
{
	unsigned i;

	for (i = 0; i < sizeof(escapes) / sizeof(escapes[0]); i++)
		if ((c | 0x20) == escapes[i].name[0]) {
			*ret_negated = c != escapes[i].name[0];
			return &escapes[i];
		}
	return NULL;
}

/* "\\pL", "\\p{Lu}", "\\P{^Lu}": a category of Unicode. 1, or 0: there stands no such. */
static int category(struct parser *p)
{
	bool negated = accept(p, "\\P"), braces;
	struct base_str name;
	const char *end;
	uint32_t bits = UINT32_MAX;
	int r;

	if (!negated && !accept(p, "\\p"))
		return 0;
	name = base_str_sub(p->in, p->at, 1);
	braces = accept(p, "{");
	if (braces) {
		negated ^= accept(p, "^");
		end = more(p) ? memchr(p->in.ptr + p->at, '}', p->in.len - p->at) : NULL;
		if (!end)
			return refuse(p, "a class without its }");
		name = base_str_sub(p->in, p->at, (size_t)(end - p->in.ptr) - p->at);
	}
	if (!base_str_is(name, "Any") && !base_unicode_categories(name, &bits))
		return refuse(p, "not a category of Unicode that is known");
	p->at += name.len + braces;
	r = add_range(p, negated ? NOT_CATEGORIES : CATEGORIES, bits);
	return r < 0 ? r : 1;
}

static int hex_escape(struct parser *p, char kind, uint32_t *ret)
{
	bool braces = accept(p, "{");
	size_t digits = 0, want = kind == 'x' ? 2 : 4;
	uint32_t c = 0;

	while (more(p) && (braces ? p->in.ptr[p->at] != '}' : digits < want)) {
		const char *hex = "0123456789abcdef";
		char d = p->in.ptr[p->at];
		const char *at = memchr(hex, d >= 'A' && d <= 'F' ? d | 0x20 : d, 16);

		if (!at || ++digits > 6)
			return refuse(p, "not a hexadecimal escape");
		c = c << 4 | (uint32_t)(at - hex);
		p->at++;
	}
	if (digits == 0 || (braces ? !accept(p, "}") : digits != want) || c > 0x10ffff)
		return refuse(p, "not a hexadecimal escape");
	*ret = c;
	return 0;
}

static bool octal_digit(const struct parser *p, size_t ahead)
{
	return p->in.len - p->at > ahead && p->in.ptr[p->at + ahead] >= '0' &&
	       p->in.ptr[p->at + ahead] <= '7';
}

/* "\0", "\12", "\123"; a single digit but 0 would be a back-reference. */
static bool octal_escape(struct parser *p, uint32_t *ret)
{
	unsigned n;

	if (!octal_digit(p, 0) || (p->in.ptr[p->at] != '0' && !octal_digit(p, 1)))
		return false;
	for (*ret = n = 0; n < 3 && octal_digit(p, 0); n++)
		*ret = *ret << 3 | (uint32_t)(p->in.ptr[p->at++] - '0');
	return true;
}

/* Behind a backslash: a single character. */
static int char_escape(struct parser *p, uint32_t *ret)
{
	static const char names[] = "ntrfva", values[] = "\n\t\r\f\v\a";
	const char *at;
	char c;

	if (!more(p))
		return refuse(p, "a backslash at the end");
	c = p->in.ptr[p->at];
	at = memchr(names, c, sizeof(names) - 1);
	if (at) {
		p->at++;
		*ret = (unsigned char)values[at - names];
		return 0;
	}
	if (c == 'x' || c == 'u') {
		p->at++;
		return hex_escape(p, c, ret);
	}
	if (octal_escape(p, ret))
		return 0;
	if ((unsigned char)c >= 0x80 || (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z'))
		return refuse(p, "an escape that is not supported");
	p->at++;
	*ret = (unsigned char)c;
	return 0;
}

static int class_char(struct parser *p, uint32_t *ret)
{
	size_t n;

	if (accept(p, "\\"))
		return accept(p, "b") ? (*ret = '\b', 0) : char_escape(p, ret);
	*ret = decode(base_str_sub(p->in, p->at, p->in.len), &n);
	p->at += n;
	return 0;
}

static int class_item(struct parser *p)
{
	const struct named *named;
	uint32_t low, high;
	bool negated;
	unsigned i;
	int r;

	if (accept(p, "[:")) {
		negated = accept(p, "^");
		for (i = 0; i < sizeof(posix) / sizeof(posix[0]); i++)
			if (accept(p, posix[i].name))
				return add_named(p, &posix[i], negated);
		return refuse(p, "not a class that is known");
	}
	r = category(p);
	if (r != 0)
		return r < 0 ? r : 0;
	if (p->in.len - p->at >= 2 && p->in.ptr[p->at] == '\\') {
		named = named_escape(p->in.ptr[p->at + 1], &negated);
		if (named) {
			p->at += 2;
			return add_named(p, named, negated);
		}
	}
	r = class_char(p, &low);
	if (r < 0)
		return r;
	high = low;
	if (p->in.len - p->at >= 2 && p->in.ptr[p->at] == '-' && p->in.ptr[p->at + 1] != ']') {
		p->at++;
		r = class_char(p, &high);
		if (r < 0)
			return r;
		if (high < low)
			return refuse(p, "a range that runs backwards");
	}
	return add_range(p, low, high);
}

static int parse_class(struct parser *p)
{
	struct code code = {.op = OP_CLASS, .from = (uint16_t)p->re->range_count, .fold = p->flags.fold};
	bool first = true;
	int r;

	code.negated = accept(p, "^");
	for (; first || !accept(p, "]"); first = false) {
		if (!more(p))
			return refuse(p, "a class without its ]");
		r = class_item(p);
		if (r < 0)
			return r;
	}
	code.to = (uint16_t)p->re->range_count;
	return emit(p, code);
}

static int emit_named(struct parser *p, const struct named *n, bool negated)
{
	struct code code = {.op = OP_CLASS, .from = (uint16_t)p->re->range_count};
	int r = add_named(p, n, negated);

	code.to = (uint16_t)p->re->range_count;
	return r < 0 ? r : emit(p, code);
}

static int emit_char(struct parser *p, uint32_t c)
{
	bool fold = p->flags.fold;

	return emit(p, (struct code){.op = OP_CHAR, .c = fold ? base_unicode_fold(c) : c, .fold = fold});
}

static int parse_escape(struct parser *p)
{
	struct code code = {.op = OP_CLASS};
	const struct named *named;
	bool negated;
	uint32_t c;
	int r;

	named = more(p) ? named_escape(p->in.ptr[p->at], &negated) : NULL;
	if (named) {
		p->at++;
		return emit_named(p, named, negated);
	}
	if (accept(p, "b"))
		return emit(p, (struct code){.op = OP_WORD});
	if (accept(p, "B"))
		return emit(p, (struct code){.op = OP_NOT_WORD});
	if (accept(p, "A"))
		return emit(p, (struct code){.op = OP_BEGIN});
	if (accept(p, "z"))
		return emit(p, (struct code){.op = OP_END});
	code.from = (uint16_t)p->re->range_count;
	code.fold = p->flags.fold;
	p->at--;
	r = category(p);
	if (r != 0) {
		code.to = (uint16_t)p->re->range_count;
		return r < 0 ? r : emit(p, code);
	}
	p->at++;
	r = char_escape(p, &c);
	return r < 0 ? r : emit_char(p, c);
}

static int parse_either(struct parser *p);

/* A group with a name is a group: nothing is captured. */
static bool group_name(struct parser *p)
{
	size_t from;

	if (!accept(p, "?P<") && !accept(p, "?<"))
		return false;
	for (from = p->at; more(p); p->at++) {
		char c = p->in.ptr[p->at];

		if (c != '_' && (c < '0' || c > '9') && ((c | 0x20) < 'a' || (c | 0x20) > 'z'))
			break;
	}
	return p->at > from && accept(p, ">");
}

/* "?i-s" and one of `ends`. False: there is no such, and nothing is read. */
static bool flags(struct parser *p, const char *start, const char *end)
{
	struct flags f = p->flags;
	size_t from = p->at, any = 0;
	bool on = true, ok = accept(p, start);

	for (; ok && more(p) && !accept(p, end); p->at++) {
		char c = p->in.ptr[p->at];

		if (c == 'i')
			f.fold = on;
		else if (c == 'm')
			f.many = on;
		else if (c == 's')
			f.all = on;
		else if (c == '-' && on)
			on = false, any = 0;
		else if (c != 'U') /* who is greedy changes nothing: nothing is captured */
			ok = false;
		any += c != '-';
	}
	ok = ok && p->in.ptr[p->at - 1] == end[0] && (on || any) && (any || end[0] == ':');
	if (ok)
		p->flags = f;
	else
		p->at = from;
	return ok;
}

static int parse_group(struct parser *p)
{
	struct flags outside = p->flags;
	int r;

	if (more(p) && p->in.ptr[p->at] == '?' && !flags(p, "?", ":") && !group_name(p))
		return refuse(p, "a group of a kind that is not supported");
	r = parse_either(p);
	if (r < 0)
		return r;
	p->flags = outside;
	return accept(p, ")") ? 0 : refuse(p, "a group without its )");
}

static int parse_char(struct parser *p)
{
	uint32_t c;
	size_t n;

	c = decode(base_str_sub(p->in, p->at, p->in.len), &n);
	p->at += n;
	return emit_char(p, c);
}

static int parse_atom(struct parser *p)
{
	static const struct named dot = {".", {{'\n', '\n'}}};

	if (p->quoted)
		return parse_char(p);
	if (accept(p, "("))
		return parse_group(p);
	if (accept(p, "["))
		return parse_class(p);
	if (accept(p, "."))
		return p->flags.all ? emit(p, (struct code){.op = OP_CLASS, .negated = true})
				    : emit_named(p, &dot, true);
	if (accept(p, "^"))
		return emit(p, (struct code){.op = p->flags.many ? OP_LINE_BEGIN : OP_BEGIN});
	if (accept(p, "$"))
		return emit(p, (struct code){.op = p->flags.many ? OP_LINE_END : OP_END});
	if (accept(p, "\\"))
		return parse_escape(p);
	if (memchr("*+?", p->in.ptr[p->at], 3))
		return refuse(p, "nothing to repeat");
	return parse_char(p);
}

static bool number(struct parser *p, unsigned *ret)
{
	size_t from = p->at;
	unsigned v = 0;

	while (more(p) && p->in.ptr[p->at] >= '0' && p->in.ptr[p->at] <= '9' && v <= REPEAT_MAX)
		v = v * 10 + (unsigned)(p->in.ptr[p->at++] - '0');
	*ret = v;
	return p->at > from;
}

/* "{m}", "{m,}" or "{m,n}"; anything else behind a brace is a literal. max 0: no upper limit. */
static bool braces(struct parser *p, unsigned *ret_min, unsigned *ret_max)
{
	size_t from = p->at;
	bool ok = accept(p, "{") && number(p, ret_min);

	*ret_max = *ret_min;
	if (ok && accept(p, ",") && !number(p, ret_max))
		*ret_max = UINT16_MAX;
	ok = ok && accept(p, "}");
	if (!ok)
		p->at = from;
	return ok;
}

static int copy(struct parser *p, unsigned from, unsigned len)
{
	unsigned i;
	int r = 0;

	for (i = 0; i < len && r == 0; i++)
		r = emit(p, p->re->code[from + i]);
	return r;
}

/* The operand stands in [start, start + len): a star (min 0) or plus (min 1) over it. */
static int loop(struct parser *p, unsigned start, unsigned len, unsigned min)
{
	int back = -(int)len, r;

	if (min == 1)
		return emit(p, (struct code){.op = OP_SPLIT, .x = (int16_t)back, .y = 1});
	r = insert(p, start, (struct code){.op = OP_SPLIT, .x = 1, .y = (int16_t)(len + 2)});
	return r < 0 ? r : emit(p, (struct code){.op = OP_JUMP, .x = (int16_t)(back - 1)});
}

static int repeat(struct parser *p, unsigned start, unsigned min, unsigned max)
{
	unsigned len = p->re->code_count - start, i;
	int r = 0;

	if (max < min || (max != UINT16_MAX && max > REPEAT_MAX) || min > REPEAT_MAX)
		return refuse(p, "a count that cannot be");
	if (max == 0) {
		p->re->code_count = start;
		return 0;
	}
	for (i = 1; i < min && r == 0; i++)
		r = copy(p, start, len);
	if (r < 0)
		return r;
	if (max == UINT16_MAX)
		return loop(p, min ? p->re->code_count - len : start, len, min ? 1 : 0);
	/* The rest is optional, one behind the other: each may leap to its own end only, which is as good. */
	if (min == 0) {
		r = insert(p, start, (struct code){.op = OP_SPLIT, .x = 1, .y = (int16_t)(len + 1)});
		start++;
		i = 1;
	} else {
		i = min;
	}
	for (; i < max && r == 0; i++) {
		r = emit(p, (struct code){.op = OP_SPLIT, .x = 1, .y = (int16_t)(len + 1)});
		if (r == 0)
			r = copy(p, start, len);
	}
	return r;
}

static int parse_repeated(struct parser *p)
{
	unsigned start = p->re->code_count, min = 0, max = 0;
	int r = parse_atom(p), times;

	if (p->quoted && !accept(p, "\\E"))
		return r;
	p->quoted = false;
	for (times = 0; r == 0; times++) {
		if (accept(p, "*"))
			min = 0, max = UINT16_MAX;
		else if (accept(p, "+"))
			min = 1, max = UINT16_MAX;
		else if (accept(p, "?"))
			min = 0, max = 1;
		else if (!braces(p, &min, &max))
			return 0;
		if (times > 0)
			return refuse(p, "a repetition of a repetition");
		(void)accept(p, "?");
		r = repeat(p, start, min, max);
	}
	return r;
}

static int parse_sequence(struct parser *p)
{
	int r = 0;

	while (r == 0 && more(p)) {
		if (p->quoted && accept(p, "\\E"))
			p->quoted = false;
		else if (!p->quoted && accept(p, "\\Q"))
			p->quoted = true;
		else if (!p->quoted && (p->in.ptr[p->at] == '|' || p->in.ptr[p->at] == ')'))
			break;
		else if (p->quoted || !flags(p, "(?", ")"))
			r = parse_repeated(p);
	}
	return r;
}

static int parse_either(struct parser *p)
{
	unsigned jumps[CODE_MAX / 8], count = 0, start = p->re->code_count, i;
	int r = 0;

	if (++p->depth > DEPTH_MAX)
		return too_big(p);
	for (;;) {
		r = parse_sequence(p);
		if (r < 0 || !accept(p, "|"))
			break;
		if (count == sizeof(jumps) / sizeof(jumps[0]))
			return too_big(p);
		r = insert(p, start,
			(struct code){.op = OP_SPLIT, .x = 1, .y = (int16_t)(p->re->code_count - start + 2)});
		if (r == 0)
			r = emit(p, (struct code){.op = OP_JUMP});
		jumps[count++] = p->re->code_count - 1;
		start = p->re->code_count;
	}
	for (i = 0; r == 0 && i < count; i++)
		p->re->code[jumps[i]].x = (int16_t)(p->re->code_count - jumps[i]);
	p->depth--;
	return r;
}

/* Places of the program; a class counts for more, the more of its ranges are looked at. */
static unsigned cost(const struct base_regex *re)
{
	unsigned sum = re->code_count, i;

	for (i = 0; i < re->code_count; i++) {
		const struct code *c = &re->code[i];
		unsigned j, work = 0;

		for (j = c->from; c->op == OP_CLASS && j < c->to; j++)
			work += re->ranges[j].low < CATEGORIES ? 1 : 8;
		sum += work * (c->fold ? 3 : 1) / 8;
	}
	return sum;
}

static int compile(struct base_str pattern, struct base_regex *re, struct base_err *err)
{
	struct parser p = {.in = pattern, .re = re, .err = err};
	int r;

	if (!re)
		return base_err_set(err, -ENOMEM, "out of memory");
	r = parse_either(&p);
	if (r == 0 && more(&p))
		r = refuse(&p, "a ) without its group");
	if (r == 0)
		re->code[re->code_count++] = (struct code){.op = OP_MATCH};
	re->cost = r == 0 ? cost(re) : 0;
	return r;
}

int base_regex_compile(struct base_str pattern, struct base_regex **ret, struct base_err *err)
{
	struct base_regex *re = calloc(1, sizeof(*re));
	int r = compile(pattern, re, err);

	if (r < 0)
		free(re);
	else
		*ret = re;
	return r;
}

int base_regex_compile_in(struct base_str pattern, struct base_arena *arena, const struct base_regex **ret,
	struct base_err *err)
{
	struct base_regex *re = base_arena_alloc(arena, sizeof(*re));
	int r = compile(pattern, re, err);

	if (r == 0)
		*ret = re;
	return r;
}

unsigned base_regex_cost(const struct base_regex *re)
{
	return re->cost;
}

void base_regex_free(struct base_regex *re)
{
	free(re);
}

/* --- matching: the set of places where the machine stands --- */

struct place {
	uint32_t before, after; /* code points around, NONE at the ends */
};
static const uint32_t NONE = UINT32_MAX;

struct set {
	uint16_t at[CODE_MAX];
	unsigned count;
};

static bool word(uint32_t c)
{
	return c < 0x80 && (((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || (c >= '0' && c <= '9') || c == '_');
}

/* The way on from a code that reads nothing; false if this way ends here. */
static bool passes(const struct code *c, const struct place *place)
{
	switch (c->op) {
	case OP_BEGIN:
		return place->before == NONE;
	case OP_END:
		return place->after == NONE;
	case OP_LINE_BEGIN:
		return place->before == NONE || place->before == '\n';
	case OP_LINE_END:
		return place->after == NONE || place->after == '\n';
	case OP_WORD:
		return word(place->before) != word(place->after);
	case OP_NOT_WORD:
		return word(place->before) == word(place->after);
	default:
		return false;
	}
}

/* Adds what can be reached from pc without reading. `seen` has the number of the round in which a code was
 * added. */
static bool follow(const struct base_regex *re, struct set *set, uint32_t *seen, uint32_t round, unsigned pc,
	const struct place *place)
{
	uint16_t stack[2 * CODE_MAX];
	unsigned depth = 0;

	stack[depth++] = (uint16_t)pc;
	while (depth > 0) {
		const struct code *c;

		pc = stack[--depth];
		if (seen[pc] == round)
			continue;
		seen[pc] = round;
		c = &re->code[pc];
		if (c->op == OP_MATCH)
			return true;
		if (c->op == OP_SPLIT) {
			stack[depth++] = (uint16_t)((int)pc + c->y);
			stack[depth++] = (uint16_t)((int)pc + c->x);
		} else if (c->op == OP_JUMP) {
			stack[depth++] = (uint16_t)((int)pc + c->x);
		} else if (c->op == OP_CHAR || c->op == OP_CLASS) {
			set->at[set->count++] = (uint16_t)pc;
		} else if (passes(c, place)) {
			stack[depth++] = (uint16_t)(pc + 1);
		}
	}
	return false;
}

static bool holds(const struct base_regex *re, const struct code *c, uint32_t ch)
{
	const struct range *r = &re->ranges[c->from], *end = &re->ranges[c->to];

	for (; r < end; r++)
		if (r->low < CATEGORIES
				? ch >= r->low && ch <= r->high
				: (r->high >> base_unicode_category(ch) & 1) == (r->low == CATEGORIES))
			return true;
	return false;
}

static bool reads(const struct base_regex *re, const struct code *c, uint32_t ch)
{
	bool held;

	if (c->op == OP_CHAR)
		return c->c == (c->fold ? base_unicode_fold(ch) : ch);
	held = holds(re, c, ch);
	if (!held && c->fold)
		held = holds(re, c, base_unicode_fold(ch)) || holds(re, c, base_unicode_upper(ch));
	return held != c->negated;
}

bool base_regex_search(const struct base_regex *re, struct base_str text)
{
	struct set sets[2], *now = &sets[0], *next = &sets[1], *swap;
	struct place place = {.before = NONE};
	uint32_t seen[CODE_MAX], round = 1;
	size_t n = 0, at = 0;
	unsigned i;

	memset(seen, 0, re->code_count * sizeof(seen[0]));
	now->count = 0;
	place.after = text.len ? decode(text, &n) : NONE;
	for (;; round++) {
		uint32_t ch = place.after;

		/* A match may begin here, too. The places that were reached before carry this round already.
		 */
		if ((at == 0 || re->code[0].op != OP_BEGIN) && follow(re, now, seen, round, 0, &place))
			return true;
		if (at == text.len || (now->count == 0 && re->code[0].op == OP_BEGIN))
			return false;
		at += n;
		place.before = ch;
		place.after = at < text.len ? decode(base_str_sub(text, at, text.len), &n) : NONE;
		next->count = 0;
		for (i = 0; i < now->count; i++)
			if (reads(re, &re->code[now->at[i]], ch) &&
				follow(re, next, seen, round + 1, now->at[i] + 1u, &place))
				return true;
		swap = now;
		now = next;
		next = swap;
	}
}
