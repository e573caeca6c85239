#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/str.h"

/*
 * Picks what matters out of text: sentences, headings and list items, weighed by rare terms (TF-IDF), by the
 * terms of the question, and by place. Integers only: the same text gives the same picks everywhere.
 */

enum { EXTRACT_UNITS_MAX = 20000, EXTRACT_TERMS_MAX = 1 << 18 };

struct extract_unit {
	struct base_str text; /* into the text that was added */
	uint32_t section;     /* counts headings */
	uint32_t paragraph;
	bool heading, item;
	bool first; /* of its paragraph */
	bool taken;
	uint32_t term_from, term_count; /* distinct terms */
	int64_t score;
};

struct extract {
	struct base_arena *arena;
	struct extract_unit *units;
	size_t count;
	uint32_t section, paragraph;
	uint32_t *terms; /* of all units, one behind the other: places in the table */
	size_t term_count;
	uint64_t *table_hash;  /* open addressing; 0: free */
	uint32_t *table_units; /* in how many units it stands */
	uint8_t *table_query;  /* bit 0: in the question; bit 1: covered by a unit that was taken */
};

/* -ENOMEM. All memory comes from the arena. */
int extract_init(struct extract *e, struct base_arena *arena) __attribute__((warn_unused_result));
/* Splits `text` (which must outlive e) into units. What is over the limits is left out. */
void extract_add(struct extract *e, struct base_str text);
/* Terms of the question weigh more. After all text is added. */
void extract_ask(struct extract *e, struct base_str question);
/* Gives every unit its score. */
void extract_score(struct extract *e);
/* The best unit that is not taken, wanted by `want` (NULL: all) and mostly new against what is taken; it is
 * taken. NULL: none is left. */
struct extract_unit *extract_next(struct extract *e, bool (*want)(const struct extract_unit *u));
/* Words in s. */
size_t extract_words(struct base_str s);
