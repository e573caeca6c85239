#include "connect/extract.h"

#include <errno.h>
#include <string.h>

enum { TABLE_SIZE = 1 << 19, UNIT_TERMS_MAX = 128, QUERY_WEIGHT = 12 };

static bool is_word(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (unsigned char)c >= 128;
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

/* The next word of *rest, or an empty view at the end. */
static struct base_str next_word(struct base_str *rest)
{
	size_t from = 0, to;

	while (from < rest->len && !is_word(rest->ptr[from]))
		from++;
	to = from;
	while (to < rest->len && (is_word(rest->ptr[to]) || (rest->ptr[to] == '\'' && to > from)))
		to++;
	struct base_str word = base_str_sub(*rest, from, to - from);

	*rest = base_str_sub(*rest, to, rest->len);
	return word;
}

/* Words that carry no subject, and plural endings, are dropped. 0: not a term. */
static uint64_t term_of(struct base_str word)
{
	static const char common[] =
		" a about after all also an and any are as at be because been but by can could do "
		"does for from had has have he her his how i if in into is it its just like me more "
		"most my no not of on one or our out over she so some than that the their them then "
		"there these they this those to too up us very was we were what when which who will "
		"with would you your ";
	char spaced[66] = " ";
	char *text = spaced + 1;
	size_t len = word.len < 63 ? word.len : 63;
	uint64_t hash = 1469598103934665603u;

	for (size_t i = 0; i < len; i++)
		text[i] = lower(word.ptr[i]);
	memcpy(text + len, " ", 2);
	if (strstr(common, spaced))
		return 0;
	if (len > 3 && text[len - 1] == 's' && text[len - 2] != 's')
		len--;
	if (len < 2)
		return 0;
	for (size_t i = 0; i < len; i++)
		hash = (hash ^ (unsigned char)text[i]) * 1099511628211u;
	return hash ? hash : 1;
}

/* The term's place; made when `make`. TABLE_SIZE: not there, or no room. */
static uint32_t place_of(struct extract *e, uint64_t hash, bool make)
{
	for (uint32_t i = 0; i < 64; i++) {
		uint32_t at = (uint32_t)(hash + i) & (TABLE_SIZE - 1);

		if (e->table_hash[at] == hash)
			return at;
		if (e->table_hash[at] == 0) {
			if (!make)
				return TABLE_SIZE;
			e->table_hash[at] = hash;
			return at;
		}
	}
	return TABLE_SIZE;
}

int extract_init(struct extract *e, struct base_arena *arena)
{
	*e = (struct extract){.arena = arena};
	e->units = base_arena_array(arena, EXTRACT_UNITS_MAX, sizeof(*e->units));
	e->terms = base_arena_array(arena, EXTRACT_TERMS_MAX, sizeof(*e->terms));
	e->table_hash = base_arena_array(arena, TABLE_SIZE, sizeof(*e->table_hash));
	e->table_units = base_arena_array(arena, TABLE_SIZE, sizeof(*e->table_units));
	e->table_query = base_arena_array(arena, TABLE_SIZE, sizeof(*e->table_query));
	return e->units && e->terms && e->table_hash && e->table_units && e->table_query ? 0 : -ENOMEM;
}

size_t extract_words(struct base_str s)
{
	size_t n = 0;

	while (next_word(&s).len)
		n++;
	return n;
}

static void add_terms(struct extract *e, struct extract_unit *u)
{
	struct base_str rest = u->text, word;

	u->term_from = (uint32_t)e->term_count;
	while (u->term_count < UNIT_TERMS_MAX && (word = next_word(&rest)).len) {
		uint64_t hash = term_of(word);
		uint32_t at = hash ? place_of(e, hash, true) : TABLE_SIZE;
		bool seen = at == TABLE_SIZE || e->term_count == EXTRACT_TERMS_MAX;

		for (size_t i = u->term_from; !seen && i < e->term_count; i++)
			seen = e->terms[i] == at;
		if (seen)
			continue;
		e->terms[e->term_count++] = at;
		e->table_units[at]++;
		u->term_count++;
	}
}

static void add_unit(struct extract *e, struct base_str text, struct extract_unit like)
{
	while (text.len && (unsigned char)text.ptr[0] <= ' ')
		text = base_str_sub(text, 1, text.len);
	while (text.len && (unsigned char)text.ptr[text.len - 1] <= ' ')
		text.len--;
	if (!text.len || e->count == EXTRACT_UNITS_MAX)
		return;
	like.text = text;
	like.section = e->section;
	like.paragraph = e->paragraph;
	e->units[e->count] = like;
	add_terms(e, &e->units[e->count++]);
}

/* True if the text ends a sentence behind position i. */
static bool ends_at(struct base_str s, size_t i)
{
	char c = s.ptr[i];

	if (c == '\x82' && i >= 2 && s.ptr[i - 2] == '\xe3' && s.ptr[i - 1] == '\x80')
		return true; /* an ideographic full stop */
	if (c != '.' && c != '!' && c != '?')
		return false;
	while (i + 1 < s.len && strchr("\"')]*_.!?", s.ptr[i + 1]))
		i++;
	if (i + 1 < s.len && s.ptr[i + 1] != ' ' && s.ptr[i + 1] != '\n')
		return false;
	/* "e.g. ", "Dr. ", "3. ": a short word before the point and a small letter behind it */
	return i + 2 >= s.len || c != '.' || !(s.ptr[i + 2] >= 'a' && s.ptr[i + 2] <= 'z');
}

static void add_sentences(struct extract *e, struct base_str paragraph, bool item)
{
	size_t from = 0;
	bool first = true;

	for (size_t i = 0; i < paragraph.len; i++) {
		if (!ends_at(paragraph, i))
			continue;
		while (i + 1 < paragraph.len && paragraph.ptr[i + 1] != ' ' && paragraph.ptr[i + 1] != '\n')
			i++;
		add_unit(e, base_str_sub(paragraph, from, i + 1 - from),
			(struct extract_unit){.item = item, .first = first});
		first = false;
		from = i + 1;
	}
	add_unit(e, base_str_sub(paragraph, from, paragraph.len),
		(struct extract_unit){.item = item, .first = first});
	e->paragraph++;
}

/* "- ", "* ", "12. " and "> " at the start of a line: the length of the mark. */
static size_t mark_of(struct base_str line)
{
	size_t at = 0, digits = 0;

	while (at < line.len && line.ptr[at] == ' ')
		at++;
	while (at + digits < line.len && line.ptr[at + digits] >= '0' && line.ptr[at + digits] <= '9')
		digits++;
	if (at + digits + 1 >= line.len || line.ptr[at + digits + 1] != ' ')
		return 0;
	return memchr(digits ? ".)" : "-*+>", line.ptr[at + digits], digits ? 2 : 4) ? at + digits + 2 : 0;
}

/* Front matter ("---", lines "key: value", "---") is about the text, not of it: *rest goes behind it. */
static bool skip_front_matter(struct base_str line, struct base_str *rest)
{
	struct base_str after = *rest, key, value;

	if (!base_str_is(line, "---"))
		return false;
	while (after.len) {
		base_str_cut(after, '\n', &line, &after);
		if (base_str_is(line, "---")) {
			*rest = after;
			return true;
		}
		if (!base_str_cut(line, ':', &key, &value) && mark_of(line) == 0)
			return false;
	}
	return false;
}

void extract_add(struct extract *e, struct base_str text)
{
	struct base_str line, rest = text, paragraph = BASE_STR_NONE;

	while (rest.len) {
		size_t mark, hashes = 0;

		base_str_cut(rest, '\n', &line, &rest);
		if (skip_front_matter(line, &rest))
			continue;
		while (hashes < line.len && line.ptr[hashes] == '#')
			hashes++;
		mark = mark_of(line);
		if (hashes || mark || extract_words(line) == 0) {
			add_sentences(e, paragraph, false);
			paragraph = BASE_STR_NONE;
		}
		if (hashes) {
			e->section++;
			e->paragraph++;
			add_unit(e, base_str_sub(line, hashes, line.len),
				(struct extract_unit){.heading = true});
		} else if (mark) {
			add_sentences(e, base_str_sub(line, mark, line.len), true);
		} else if (extract_words(line)) {
			const char *from = paragraph.ptr ? paragraph.ptr : line.ptr;

			paragraph = (struct base_str){from, (size_t)(line.ptr + line.len - from)};
		}
	}
	add_sentences(e, paragraph, false);
	e->section++;
}

void extract_ask(struct extract *e, struct base_str question)
{
	struct base_str word;

	while ((word = next_word(&question)).len) {
		uint64_t hash = term_of(word);
		uint32_t at = hash ? place_of(e, hash, false) : TABLE_SIZE;

		if (at < TABLE_SIZE)
			e->table_query[at] |= 1;
	}
}

/* 16 * log2(x), rounded down; x > 0. */
static int64_t log16(uint64_t x)
{
	int bits = 63 - __builtin_clzll(x);
	uint64_t rest = bits >= 4 ? (x >> (bits - 4)) & 15 : (x << (4 - bits)) & 15;

	return bits * 16 + (int64_t)rest;
}

static int64_t root(int64_t x)
{
	int64_t r = 1;

	while (r * r < x)
		r++;
	return r;
}

void extract_score(struct extract *e)
{
	for (size_t i = 0; i < e->count; i++) {
		struct extract_unit *u = &e->units[i];
		int64_t sum = 0;

		for (size_t t = u->term_from; t < u->term_from + u->term_count; t++) {
			uint32_t at = e->terms[t];
			int64_t weight = log16(1 + e->count) - log16(e->table_units[at]) + 1;

			sum += weight * (e->table_query[at] & 1 ? QUERY_WEIGHT : 1);
		}
		sum = sum * 1000 / root(4 + u->term_count);
		if (u->first)
			sum += sum / 5;
		if (u->term_count < 3 && !u->heading)
			sum /= 4; /* too short to say something */
		if (u->text.len > 400)
			sum /= 2;
		u->score = sum;
	}
}

/* True if most of what it says is said already. */
static bool is_old(const struct extract *e, const struct extract_unit *u)
{
	uint32_t old = 0;

	for (size_t t = u->term_from; t < u->term_from + u->term_count; t++)
		old += e->table_query[e->terms[t]] >> 1;
	return u->term_count > 2 && old * 4 > u->term_count * 3;
}

struct extract_unit *extract_next(struct extract *e, bool (*want)(const struct extract_unit *u))
{
	for (;;) {
		struct extract_unit *best = NULL;

		for (size_t i = 0; i < e->count; i++)
			if (!e->units[i].taken && (!best || e->units[i].score > best->score) &&
				(!want || want(&e->units[i])))
				best = &e->units[i];
		if (!best)
			return NULL;
		best->taken = true;
		if (is_old(e, best)) {
			best->score = -1; /* taken out, but not picked */
			continue;
		}
		for (size_t t = best->term_from; t < best->term_from + best->term_count; t++)
			e->table_query[e->terms[t]] |= 2;
		return best;
	}
}
