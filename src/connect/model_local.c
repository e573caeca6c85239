#include <errno.h>
#include <string.h>
#include <strings.h>

#include "connect/extract.h"
#include "connect/model.h"

/*
 * local/extract: the built-in model. It reads the messages, takes the task from the first or the last
 * paragraph of the last one, and answers with what stands in the rest: sentences (a summary, a draft),
 * headings (an outline), short lines (subjects, titles), or the list that it was given, ordered. It invents
 * no word. Text in JSON counts as text. Tokens are estimated as a quarter of the bytes.
 */

enum { PICKS_MAX = 200, TASK_MAX = 2000, STRINGS_MAX = 4 << 20 };

enum ask { ASK_TEXT, ASK_OUTLINE, ASK_TITLES, ASK_RANK };

struct job {
	struct base_arena *arena;
	struct base_str task;
	struct extract e;
	enum ask ask;
	size_t count; /* asked for by a number in the task, or 0 */
	bool json;    /* the answer is to be JSON */
	size_t room;  /* bytes that the answer may have */
	struct base_buf *out;
};

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* --- reading the messages --- */

static struct base_str trimmed(struct base_str s)
{
	while (s.len && (unsigned char)s.ptr[s.len - 1] <= ' ')
		s.len--;
	while (s.len && (unsigned char)s.ptr[0] <= ' ')
		s = base_str_sub(s, 1, s.len);
	return s;
}

/* How to write is not what to write about: sections of that name are no material. */
static bool is_manner(struct base_str heading)
{
	static const char *const names[] = {
		"voice", "style", "tone", "audience", "instructions", "rules", "format"};

	while (heading.len && (*heading.ptr == '#' || *heading.ptr == ' '))
		heading = base_str_sub(heading, 1, heading.len);
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (strlen(names[i]) == trimmed(heading).len &&
			strncasecmp(heading.ptr, names[i], strlen(names[i])) == 0)
			return true;
	return false;
}

static bool is_task_key(struct base_str key)
{
	return base_str_is(key, "task") || base_str_is(key, "ask") || base_str_is(key, "question") ||
	       base_str_is(key, "instructions") || base_str_is(key, "query");
}

/* The strings of a JSON value, each a paragraph of its own; what its keys call the task goes there. */
static void collect(struct base_jv v, struct base_buf *text, struct base_buf *task)
{
	struct base_jv_iter it = {0};
	struct base_str key;
	struct base_jv child;

	if (base_jv_kind(v) == BASE_JSON_STR) {
		base_buf_str(text, base_jv_str(v));
		base_buf_cstr(text, "\n\n");
		return;
	}
	while (base_jv_next(v, &it, &key, &child))
		if (!is_manner(key))
			collect(child, is_task_key(key) ? task : text, task);
}

/* Where JSON begins that reaches to the end of s, or s.len. */
static size_t json_begins(struct base_str s, struct base_json **ret)
{
	unsigned tries = 0;

	for (size_t i = 0; i < s.len && tries < 16; i++) {
		if ((s.ptr[i] != '{' && s.ptr[i] != '[') || (i > 0 && s.ptr[i - 1] != '\n'))
			continue;
		tries++;
		if (base_json_parse(base_str_sub(s, i, s.len), ret, NULL) == 0)
			return i;
	}
	return s.len;
}

/* Splits off the first (or, `last`, the last) paragraph. */
static struct base_str paragraph(struct base_str *s, bool last)
{
	const char *at = NULL;
	struct base_str part;

	*s = trimmed(*s);
	for (const char *p = s->ptr; p && p + 1 < s->ptr + s->len && (last || !at); p++)
		if (p[0] == '\n' && p[1] == '\n')
			at = p;
	if (!at) {
		part = *s;
		*s = BASE_STR_NONE;
	} else if (last) {
		part = trimmed(base_str_sub(*s, (size_t)(at - s->ptr), s->len));
		*s = base_str_sub(*s, 0, (size_t)(at - s->ptr));
	} else {
		part = base_str_sub(*s, 0, (size_t)(at - s->ptr));
		*s = trimmed(base_str_sub(*s, (size_t)(at - s->ptr), s->len));
	}
	return part;
}

/* True for a paragraph that asks for something: by its first word, or by its mark at the end. */
static bool asks(struct base_str s)
{
	static const char verbs[] =
		" answer choose compare describe draft explain extract find give list name order outline "
		"pick "
		"propose question rank say select suggest summarise summarize task tell what which who why "
		"how when where write ";
	char word[20] = " ";
	size_t n = 1;

	if (!s.len || s.len > TASK_MAX || s.ptr[0] == '#')
		return false;
	while (n - 1 < s.len && n < sizeof(word) - 2 && is_letter(s.ptr[n - 1])) {
		word[n] = (char)(s.ptr[n - 1] | 32);
		n++;
	}
	memcpy(word + n, " ", 2);
	return (n > 1 && strstr(verbs, word)) || s.ptr[s.len - 1] == '?';
}

/* The last message: its first or its last paragraph is the task, the rest is material. */
static void split_task(struct base_str text, struct base_buf *material, struct base_buf *task)
{
	struct base_str rest = text, first = paragraph(&rest, false), middle = rest, last;

	last = paragraph(&middle, true);
	if (!asks(first) && asks(last)) {
		base_buf_str(task, last);
		base_buf_str(material, first);
		base_buf_cstr(material, "\n\n");
		base_buf_str(material, middle);
	} else if (first.len <= TASK_MAX && first.len && first.ptr[0] != '#') {
		base_buf_str(task, first);
		base_buf_str(material, rest);
	} else {
		base_buf_str(material, text);
	}
}

static void drop_manner(struct base_buf *text)
{
	struct base_str rest = base_buf_view(text), line;
	size_t kept = 0;
	bool dropping = false;

	while (rest.len) {
		bool more = base_str_cut(rest, '\n', &line, &rest);
		size_t len = line.len + more;

		if (line.len && line.ptr[0] == '#')
			dropping = is_manner(line);
		if (!dropping) {
			memmove(text->ptr + kept, line.ptr, len);
			kept += len;
		}
	}
	text->len = kept;
}

static void read_message(
	struct base_str content, bool is_last, struct base_buf *material, struct base_buf *task)
{
	struct base_json *doc = NULL;
	struct base_str text = base_str_sub(content, 0, json_begins(content, &doc));

	if (is_last)
		split_task(text, material, task);
	else
		base_buf_str(material, text);
	base_buf_cstr(material, "\n\n");
	if (doc)
		collect(base_json_root(doc), material, task);
	base_json_free(doc);
}

static int read_messages(struct job *j, struct base_jv args)
{
	struct base_jv messages = base_jv_get(args, "messages"), m;
	size_t count = base_jv_len(messages), n = 0;
	struct base_buf material, task;
	struct base_jv_iter it = {0};
	struct base_str key, text;
	int r;

	base_buf_init(&material, STRINGS_MAX);
	base_buf_init(&task, STRINGS_MAX);
	while (base_jv_next(messages, &it, &key, &m)) {
		n++;
		if (!base_str_is(base_jv_str(base_jv_get(m, "role")), "assistant"))
			read_message(base_jv_str(base_jv_get(m, "content")), n == count, &material, &task);
	}
	drop_manner(&material);
	r = base_buf_failed(&material) ? base_buf_failed(&material) : base_buf_failed(&task);
	text = base_arena_dup(j->arena, trimmed(base_buf_view(&material)));
	j->task = base_arena_dup(j->arena, trimmed(base_buf_view(&task)));
	base_buf_done(&material);
	base_buf_done(&task);
	if (r == 0)
		r = text.ptr && j->task.ptr ? extract_init(&j->e, j->arena) : -ENOMEM;
	if (r < 0)
		return r;
	extract_add(&j->e, text.len ? text : j->task);
	extract_ask(&j->e, j->task);
	extract_score(&j->e);
	return 0;
}

/* --- what is asked --- */

static bool says(struct base_str s, const char *word)
{
	size_t len = strlen(word);

	for (size_t i = 0; i + len <= s.len; i++)
		if (strncasecmp(s.ptr + i, word, len) == 0)
			return true;
	return false;
}

static bool starts(struct base_str s, const char *word)
{
	size_t len = strlen(word);

	return s.len >= len && strncasecmp(s.ptr, word, len) == 0;
}

/* Where a word stands by itself, or s.len. */
static size_t find_word(struct base_str s, const char *word)
{
	size_t len = strlen(word);

	for (size_t i = 0; i + len <= s.len; i++)
		if (strncasecmp(s.ptr + i, word, len) == 0 && (i == 0 || !is_letter(s.ptr[i - 1])) &&
			(i + len == s.len || !is_letter(s.ptr[i + len])))
			return i;
	return s.len;
}

/* The first number from 1 to max that stands by itself. */
static size_t number_in(struct base_str s, size_t max)
{
	static const char *const words[] = {
		"one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"};
	size_t n = 0, digits = 0, first = s.len;

	for (size_t i = 0; i <= s.len; i++) {
		if (i < s.len && s.ptr[i] >= '0' && s.ptr[i] <= '9' && digits < 9) {
			n = n * 10 + (size_t)(s.ptr[i] - '0');
			digits++;
			continue;
		}
		if (digits && n >= 1 && n <= max)
			return n;
		n = digits = 0;
	}
	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++) {
		size_t at = find_word(s, words[i]);

		if (at < first) {
			first = at;
			n = i + 1;
		}
	}
	return first < s.len ? n : 0;
}

static void understand(struct job *j, struct base_jv args)
{
	struct base_str system = base_jv_str(base_jv_get(args, "system"));
	int64_t max = base_jv_int(base_jv_get(args, "max_tokens"), 1024);

	j->ask = ASK_TEXT;
	if (starts(j->task, "write ") || starts(j->task, "draft ") || starts(j->task, "summari"))
		j->ask = says(j->task, "an outline") ? ASK_OUTLINE : ASK_TEXT;
	else if (says(j->task, "outline"))
		j->ask = ASK_OUTLINE;
	else if (says(j->task, "subject") || says(j->task, "title") || says(j->task, "headline"))
		j->ask = ASK_TITLES;
	else if (starts(j->task, "rank") || starts(j->task, "order") || starts(j->task, "choose") ||
		 starts(j->task, "pick") || starts(j->task, "select"))
		j->ask = ASK_RANK;
	j->count = number_in(j->task, 50);
	j->json = says(j->task, "json") || says(system, "json");
	j->room = (size_t)(max < 1 ? 1 : max > 100000 ? 100000 : max) * 4;
}

/* --- answers --- */

static bool is_heading(const struct extract_unit *u)
{
	return u->heading;
}

static bool is_item(const struct extract_unit *u)
{
	return u->item && u->first;
}

static bool is_sentence(const struct extract_unit *u)
{
	return !u->heading && extract_words(u->text) >= 4;
}

/* A short line: a heading, or the head of a sentence up to its first break, of 3 to 10 words. */
static struct base_str short_line(const struct extract_unit *u)
{
	struct base_str s = u->text;

	for (size_t i = 0; i < s.len; i++)
		if (strchr(",;:.!?()", s.ptr[i]) && (i + 1 == s.len || s.ptr[i + 1] == ' ')) {
			struct base_str head = base_str_sub(s, 0, i);

			if (extract_words(head) >= 3)
				return head;
		}
	return s;
}

static bool is_short(const struct extract_unit *u)
{
	size_t words = extract_words(short_line(u));

	return words >= (u->heading ? 1 : 3) && words <= 10 && short_line(u).len <= 90;
}

/* Picks into `ret`, best first. */
static size_t pick(
	struct job *j, bool (*want)(const struct extract_unit *u), size_t count, struct extract_unit **ret)
{
	size_t n = 0;

	while (n < count && n < PICKS_MAX) {
		struct extract_unit *u = extract_next(&j->e, want);

		if (!u)
			break;
		ret[n++] = u;
	}
	return n;
}

static void in_order(struct extract_unit **picks, size_t n)
{
	for (size_t i = 1; i < n; i++)
		for (size_t k = i; k > 0 && picks[k] < picks[k - 1]; k--) {
			struct extract_unit *swap = picks[k];

			picks[k] = picks[k - 1];
			picks[k - 1] = swap;
		}
}

static void put_lines(struct job *j, struct extract_unit **picks, size_t n, const char *mark, bool shorten)
{
	struct base_jw w = base_jw_of(j->out);

	if (j->json)
		base_jw_arr(&w);
	for (size_t i = 0; i < n; i++) {
		struct base_str s = shorten ? short_line(picks[i]) : picks[i]->text;

		if (j->out->len + s.len + 8 > j->room && i > 0)
			break;
		if (j->json)
			base_jw_str(&w, s);
		else
			base_buf_printf(j->out, "%s%s%.*s", i ? "\n" : "", mark, BASE_STR_ARG(s));
	}
	if (j->json)
		base_jw_end_arr(&w);
}

/* Sentences in the order of the text; those of different sections stand in paragraphs of their own. */
static void put_text(struct job *j, struct extract_unit **picks, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		bool same = i > 0 && picks[i]->section == picks[i - 1]->section;

		if (i > 0)
			base_buf_cstr(j->out, same ? " " : "\n\n");
		for (size_t k = 0; k < picks[i]->text.len;
			k++) /* a line break inside of a sentence is a blank */
			base_buf_char(j->out, picks[i]->text.ptr[k] == '\n' ? ' ' : picks[i]->text.ptr[k]);
	}
}

static void answer_text(struct job *j)
{
	struct extract_unit *picks[PICKS_MAX];
	size_t words = says(j->task, " words") ? number_in(j->task, 5000) : 0;
	size_t count = j->count && says(j->task, "sentence") ? j->count : words ? words / 4 + 1 : 8;
	size_t n = pick(j, is_sentence, count, picks), kept = 0, bytes = 0;

	if (n == 0)
		n = pick(j, NULL, count, picks);
	while (kept < n && bytes + picks[kept]->text.len + 2 <= j->room) {
		bytes += picks[kept]->text.len + 2;
		kept++;
		if (words && bytes / 6 >= words)
			break;
	}
	kept = kept ? kept : n ? 1 : 0;
	in_order(picks, kept);
	put_text(j, picks, kept);
}

static void answer(struct job *j)
{
	struct extract_unit *picks[PICKS_MAX];
	size_t n = 0;

	switch (j->ask) {
	case ASK_OUTLINE:
		n = pick(j, is_heading, j->count ? j->count : 6, picks);
		if (n < 2)
			n += pick(j, is_short, (j->count ? j->count : 6) - n, picks + n);
		in_order(picks, n);
		put_lines(j, picks, n, "- ", true);
		break;
	case ASK_TITLES:
		n = pick(j, is_short, j->count ? j->count : 5, picks);
		put_lines(j, picks, n, "", true);
		break;
	case ASK_RANK:
		n = pick(j, is_item, j->count ? j->count : PICKS_MAX, picks);
		put_lines(j, picks, n, "- ", false);
		break;
	default:
		break;
	}
	if (n == 0)
		answer_text(j);
}

static int64_t estimate(size_t bytes)
{
	return (int64_t)(bytes + 3) / 4;
}

int model_local(struct base_jv args, struct model_reply *ret)
{
	struct job j = {.arena = ret->arena, .out = &ret->text};
	struct base_str key;
	struct base_jv_iter it = {0};
	struct base_jv m;
	size_t bytes = base_jv_str(base_jv_get(args, "system")).len;
	int r = read_messages(&j, args);

	if (r < 0)
		return r;
	understand(&j, args);
	answer(&j);
	while (base_jv_next(base_jv_get(args, "messages"), &it, &key, &m))
		bytes += base_jv_str(base_jv_get(m, "content")).len;
	ret->stop = ret->text.len > j.room ? "length" : "end";
	ret->model = BASE_STR("extract");
	ret->usage = (struct model_usage){.input = estimate(bytes), .output = estimate(ret->text.len)};
	ret->counted = true;
	ret->complete = true;
	return base_buf_failed(&ret->text);
}
