/* What the conditions of a policy see of a call, and what counters make of it: for whom, and how much. */
#include <string.h>

#include "base/check.h"
#include "base/money.h"
#include "core/policy_int.h"

enum { NANO = 1000000000, ROOM = 1 << 20, SPARE = 64 << 20, TOLD = 300, FOLD_MAX = 4096 };
/* More than any limit may be (settings.json): what is larger counts as this, and is over each. */
static const int64_t saturated = INT64_C(9200000000);

void core_scene_init(struct core_scene *s, const struct core_policy *p, const struct core_case *of,
	core_used_fn used, void *userdata, struct base_arena *arena)
{
	*s = (struct core_scene){.policy = p,
		.of = of,
		.used = used,
		.userdata = userdata,
		.arena = arena,
		.begin = base_arena_used(arena)};
}

void core_scene_done(struct core_scene *s)
{
	base_json_free(s->customer);
	base_json_free(s->run);
	base_json_free(s->labels);
	base_json_free(s->history);
	base_json_free(s->counted);
	base_arena_free(s->spare);
}

static void bind_json(struct core_scene *s, enum core_var var, struct base_str json, struct base_json **ret)
{
	if (base_json_parse(json, ret, NULL) == 0)
		s->vars[var] = cel_json(base_json_root(*ret));
}

static void bind_run(struct core_scene *s)
{
	const struct core_case *k = s->of;
	struct base_buf b;
	struct base_jw w;

	base_buf_init(&b, 4096);
	w = base_jw_of(&b);
	base_jw_obj(&w);
	base_jw_mstr(&w, "flow", k->flow.len ? k->flow : BASE_STR("aios:agent"));
	base_jw_mstr(&w, "agent", k->agent);
	base_jw_mint(&w, "id", (int64_t)k->run);
	base_jw_end_obj(&w);
	bind_json(s, CORE_VAR_RUN, base_buf_view(&b), &s->run);
	base_buf_done(&b);
}

struct base_str core_case_labels(const struct core_case *k)
{
	static const char *const names[] = {
		"[]", "[\"untrusted\"]", "[\"private\"]", "[\"private\",\"untrusted\"]"};

	return base_str_of(names[k->labels & 3]);
}

/* What no rule mentions is not made. */
static void stage(struct core_scene *s)
{
	const struct core_policy *p = s->policy;
	const struct core_case *k = s->of;
	struct base_str fact = k->customer_fact.len ? k->customer_fact : BASE_STR("{}");

	s->staged = true;
	s->vars[CORE_VAR_PRINCIPAL] = cel_string(k->as);
	s->vars[CORE_VAR_ACTION] = cel_string(k->action);
	s->vars[CORE_VAR_ARGS] = cel_json(k->args);
	s->vars[CORE_VAR_COST] = cel_int(k->cost);
	s->vars[CORE_VAR_CONFIDENCE] = cel_double((double)k->confidence / 1000);
	s->vars[CORE_VAR_HISTORY] = cel_error("history is not known yet");
	if (core_policy_reads(p, CORE_VAR_LABELS))
		bind_json(s, CORE_VAR_LABELS, core_case_labels(k), &s->labels);
	if (core_policy_reads(p, CORE_VAR_RUN))
		bind_run(s);
	if (core_policy_reads(p, CORE_VAR_CUSTOMER)) {
		bind_json(s, CORE_VAR_CUSTOMER, fact, &s->customer);
		if (!s->customer)
			bind_json(s, CORE_VAR_CUSTOMER, BASE_STR("{}"), &s->customer);
	}
}

/* Values live until the next evaluation. What one makes is mostly nothing; where it is much, as many rules as there are do
 * not need more memory than one. */
static struct base_arena *room(struct core_scene *s)
{
	if (!s->spare && base_arena_used(s->arena) - s->begin < ROOM)
		return s->arena;
	if (!s->spare && base_arena_new(SPARE, &s->spare) < 0)
		return NULL;
	base_arena_reset(s->spare);
	return s->spare;
}

/* Why one failed is told later. */
static struct cel_value kept(struct core_scene *s, struct cel_value v)
{
	size_t n = v.as.s.len < TOLD ? v.as.s.len : TOLD;

	while (n > 0 && n < v.as.s.len && (v.as.s.ptr[n] & 0xc0) == 0x80) /* not through a character */
		n--;
	v.as.s = base_arena_dup(s->arena, base_str_sub(v.as.s, 0, n));
	BASE_CHECK(v.as.s.ptr);
	return v;
}

static struct cel_value eval(struct core_scene *s, const struct cel_program *p)
{
	struct base_arena *arena = room(s);
	struct cel_value v;

	if (!p)
		return cel_error("it cannot be read");
	if (!arena)
		return cel_error("there is no memory for it");
	v = cel_eval_in(p, s->vars, arena, NULL);
	return v.kind == CEL_ERROR && arena == s->spare ? kept(s, v) : v;
}

/* history.NAME: calls as a whole number, sums as a number. One that cannot be told is not there: reading it fails. */
static void bind_history(struct core_scene *s)
{
	struct base_str key;
	struct base_buf b;
	struct base_jw w;

	s->historic = true;
	base_buf_init(&b, 1 << 20);
	w = base_jw_of(&b);
	base_jw_obj(&w);
	for (uint32_t i = 0; i < s->policy->counter_count; i++) {
		const struct core_counter *k = &s->policy->counters[i];
		int64_t used;

		if (k->unreadable || !core_scene_key(s, k, &key))
			continue;
		used = core_scene_used(s, k, key);
		base_jw_key_str(&w, k->name);
		if (k->sum)
			base_jw_real(&w, (double)used / NANO);
		else
			base_jw_int(&w, used);
	}
	base_jw_end_obj(&w);
	bind_json(s, CORE_VAR_HISTORY, base_buf_view(&b), &s->history);
	base_buf_done(&b);
}

struct cel_value core_scene_eval(struct core_scene *s, const struct cel_program *p)
{
	if (!s->staged)
		stage(s);
	if (!s->historic && core_policy_reads(s->policy, CORE_VAR_HISTORY))
		bind_history(s);
	return eval(s, p);
}

/* --- counters --- */

/* The character at the start of s: its code and length. */
static uint32_t char_of(struct base_str s, size_t *ret_len)
{
	const unsigned char *p = (const unsigned char *)s.ptr;

	*ret_len = base_utf8_next(s);
	switch (*ret_len) {
	case 2:
		return (uint32_t)(p[0] & 0x1f) << 6 | (p[1] & 0x3f);
	case 3:
		return (uint32_t)(p[0] & 0x0f) << 12 | (uint32_t)(p[1] & 0x3f) << 6 | (p[2] & 0x3f);
	case 4:
		return (uint32_t)(p[0] & 7) << 18 | (uint32_t)(p[1] & 0x3f) << 12 |
		       (uint32_t)(p[2] & 0x3f) << 6 | (p[3] & 0x3f);
	default:
		*ret_len = 1;
		return p[0];
	}
}

/* Nothing that one sees alone: blanks, control characters, joiners, marks of direction, soft hyphens, accents. */
static bool is_unseen(uint32_t c)
{
	return c <= 0x20 || (c >= 0x7f && c <= 0xa0) || c == 0xad || (c >= 0x300 && c <= 0x36f) ||
	       c == 0x61c || c == 0x115f || c == 0x1160 || c == 0x1680 || (c >= 0x180b && c <= 0x180f) ||
	       (c >= 0x2000 && c <= 0x200f) || (c >= 0x2028 && c <= 0x202f) || (c >= 0x205f && c <= 0x206f) ||
	       c == 0x3000 || c == 0x3164 || (c >= 0xfe00 && c <= 0xfe0f) || c == 0xfeff || c == 0xffa0 ||
	       (c >= 0xe0000 && c <= 0xe0fff);
}

static uint32_t lower(uint32_t c)
{
	if (c >= 0xff01 && c <= 0xff5e) /* full width */
		c -= 0xfee0;
	if ((c >= 'A' && c <= 'Z') || (c >= 0xc0 && c <= 0xde && c != 0xd7) || (c >= 0x391 && c <= 0x3a9) ||
		(c >= 0x410 && c <= 0x42f))
		return c + 0x20;
	if (c >= 0x400 && c <= 0x40f)
		return c + 0x50;
	if (c >= 0x100 && c <= 0x177 && c != 0x130 && c != 0x131 && c != 0x138 && c != 0x149)
		return (c >= 0x139 && c <= 0x148) ? c + (c & 1) : c | 1;
	return c;
}

/* A letter with marks is that letter, as it is where the marks are written behind it (and not seen): in Latin. */
static uint32_t plain(uint32_t c)
{
	static const struct {
		uint16_t from, to;
		char letter;
	} marked[] = {{0xe0, 0xe5, 'a'}, {0xe7, 0xe7, 'c'}, {0xe8, 0xeb, 'e'}, {0xec, 0xef, 'i'},
		{0xf1, 0xf1, 'n'}, {0xf2, 0xf6, 'o'}, {0xf9, 0xfc, 'u'}, {0xfd, 0xfd, 'y'}, {0xff, 0xff, 'y'},
		{0x100, 0x105, 'a'}, {0x106, 0x10d, 'c'}, {0x10e, 0x10f, 'd'}, {0x112, 0x11b, 'e'},
		{0x11c, 0x123, 'g'}, {0x124, 0x125, 'h'}, {0x128, 0x130, 'i'}, {0x134, 0x135, 'j'},
		{0x136, 0x137, 'k'}, {0x139, 0x13e, 'l'}, {0x143, 0x148, 'n'}, {0x14c, 0x151, 'o'},
		{0x154, 0x159, 'r'}, {0x15a, 0x161, 's'}, {0x162, 0x165, 't'}, {0x168, 0x173, 'u'},
		{0x174, 0x175, 'w'}, {0x176, 0x178, 'y'}, {0x179, 0x17e, 'z'}};

	for (size_t i = 0; c >= 0xe0 && c <= 0x17e && i < sizeof(marked) / sizeof(marked[0]); i++)
		if (c >= marked[i].from && c <= marked[i].to)
			return (uint32_t)marked[i].letter;
	return c;
}

struct base_str core_key_fold(struct base_str key, struct base_arena *arena)
{
	/* No letter takes more bytes in lower case. */
	char few[FOLD_MAX + 4], hex[65];
	struct base_buf b;
	char *to = few;
	struct base_hash h;
	size_t len = 0, n;

	base_buf_init(&b, key.len + 4);
	if (key.len > FOLD_MAX)
		to = base_buf_reserve(&b, key.len + 4);
	BASE_CHECK(to);
	while (key.len) {
		uint32_t c = char_of(key, &n);

		if (!is_unseen(c))
			len += base_utf8_put(to + len, plain(lower(c)));
		key = base_str_sub(key, n, key.len);
	}
	key = (struct base_str){to, len};
	if (len > CORE_TALLY_KEY_MAX) {
		h = base_hash_of(key);
		base_hash_hex(&h, hex);
		key = (struct base_str){hex, 64};
	}
	key = base_arena_dup(arena, key);
	base_buf_done(&b);
	BASE_CHECK(key.ptr);
	return key;
}

/* A customer that the memory does not know is one with all others that it does not know: names can be made up. */
static struct base_str customer_key(struct core_scene *s)
{
	if (s->of->customer.len == 0)
		return BASE_STR_NONE;
	if (s->of->strange)
		return BASE_STR("?");
	return core_key_fold(s->of->customer, s->arena);
}

bool core_scene_key(struct core_scene *s, const struct core_counter *k, struct base_str *ret)
{
	struct cel_value v;

	*ret = BASE_STR_NONE;
	if (k->per == CORE_PER_ALL)
		return true;
	if (k->per == CORE_PER_CUSTOMER) {
		*ret = customer_key(s);
		return true;
	}
	if (!s->staged)
		stage(s);
	v = eval(s, k->key);
	if (v.kind == CEL_STRING)
		*ret = core_key_fold(v.as.s, s->arena);
	else if (v.kind == CEL_INT)
		*ret = base_arena_printf(s->arena, "%lld", (long long)v.as.i);
	else if (v.kind == CEL_UINT)
		*ret = base_arena_printf(s->arena, "%llu", (unsigned long long)v.as.u);
	else if (v.kind == CEL_BOOL)
		*ret = v.as.b ? BASE_STR("true") : BASE_STR("false");
	else
		return false;
	return true;
}

/* To the nearest whole number, halves to the even one. */
static int64_t even(double d)
{
	int64_t n = (int64_t)d;
	double rest = d - (double)n;

	return n + (rest > 0.5 || (rest >= 0.5 && (n & 1)));
}

bool core_nano_of(struct cel_value v, int64_t *ret)
{
	switch (v.kind) {
	case CEL_INT:
		if (v.as.i < 0)
			return false;
		*ret = (v.as.i > saturated ? saturated : v.as.i) * NANO;
		return true;
	case CEL_UINT:
		*ret = (v.as.u > (uint64_t)saturated ? saturated : (int64_t)v.as.u) * NANO;
		return true;
	case CEL_DOUBLE:
		if (!(v.as.d >= 0)) /* nor not a number */
			return false;
		*ret = v.as.d > (double)saturated ? saturated * NANO : even(v.as.d * NANO);
		return true;
	case CEL_STRING:
		return base_money_parse(v.as.s, ret, NULL) == 0;
	default:
		return false;
	}
}

bool core_scene_amount(struct core_scene *s, const struct core_counter *k, int64_t *ret)
{
	if (k->unreadable)
		return false;
	if (!k->sum) {
		*ret = 1;
		return true;
	}
	if (!s->staged)
		stage(s);
	return core_nano_of(eval(s, k->sum), ret);
}

static int64_t counted_itself(struct core_scene *s, const struct core_counter *k, struct base_str key)
{
	struct base_jv_iter it = {0};
	struct base_str none;
	struct base_jv v;
	int64_t sum = 0;

	if (s->of->counts.len == 0)
		return 0;
	if (!s->counted && base_json_parse(s->of->counts, &s->counted, NULL) < 0)
		return 0;
	while (base_jv_next(base_json_root(s->counted), &it, &none, &v))
		if (base_str_eq(base_jv_str(base_jv_get(v, "counter")), k->name) &&
			base_str_eq(base_jv_str(base_jv_get(v, "key")), key))
			sum += base_jv_int(base_jv_get(v, "value"), 0);
	return sum;
}

int64_t core_scene_used(struct core_scene *s, const struct core_counter *k, struct base_str key)
{
	int64_t used = s->used(s->userdata, k, key, s->of->now_ms) - counted_itself(s, k, key);

	return used > 0 ? used : 0;
}
