#pragma once

/* A policy as it is judged by, and what its counters have counted; shared by policy*.c alone. */

#include "core/core_int.h"

enum {
	CORE_BUCKETS = 64,	    /* a window is remembered in so many parts */
	CORE_TALLY_KEY_MAX = 128,   /* bytes of a key; a longer one is known by its hash */
	CORE_POLICY_MAX = 64 << 20, /* bytes of one compiled */
};

/* What expressions may name: the slots of their environment. */
enum core_var {
	CORE_VAR_PRINCIPAL,
	CORE_VAR_ACTION,
	CORE_VAR_ARGS,
	CORE_VAR_RUN,
	CORE_VAR_LABELS,
	CORE_VAR_CONFIDENCE,
	CORE_VAR_COST,
	CORE_VAR_CUSTOMER,
	CORE_VAR_HISTORY,
	CORE_VARS,
};

enum core_per { CORE_PER_ALL, CORE_PER_CUSTOMER, CORE_PER_EXPR };

/* What is counted, by whom, for how long. */
struct core_counter {
	struct base_str name; /* of a limit: that of its rule, behind "limit:" */
	struct base_str on;   /* a limit's: empty, its rule says */
	struct cel_program *when, *sum, *key;
	enum core_per per;
	bool when_set, unreadable; /* unreadable: every call that it is about is stopped at a gate */
	int64_t window_ms;	   /* 0: for ever */
};

struct core_limit {
	struct core_counter counter;
	int64_t max; /* nano-units where it sums, else calls */
	enum core_verdict otherwise;
};

struct core_rule {
	struct base_str name, on, when_text;
	struct base_str terms, on_expiry; /* of its gate */
	struct cel_program *when;
	struct core_limit *limit;
	int64_t expires_ms;
	uint32_t index; /* in the policy, from 0 */
	enum core_verdict then;
	bool simple; /* no condition. Neither simple nor `when`: it cannot be read, and counts as one that fails */
};

/* The rules that an action meets, in the order in which they are asked: deny, gate, allow. */
struct core_candidates {
	const struct core_rule **rule;
	uint32_t count;
	bool conditions; /* one of them has a condition or a limit */
};

struct core_policy {
	struct base_arena *arena;
	struct core_rule *rules; /* in the order of the file */
	uint32_t rule_count, counter_count, limit_count;
	struct core_counter *counters;
	struct base_names *by_action; /* of the catalogue, to struct core_candidates */
	unsigned reads;		      /* bit per enum core_var: what its expressions name */
};

/* Fills in the place and the text, where there is somebody to tell; -EINVAL. */
int core_fault_set(struct core_fault *fault, struct base_str at, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Compiles; what is wrong with the text of it is told by the place. -EINVAL, -ENOMEM. `lenient`: a rule that cannot be
 * read counts as a match for deny and gate and as none for allow, a counter that cannot be read stops what it is about at
 * a gate. The caller frees *ret. */
int core_policy_compile(struct base_str json, bool lenient, struct core_policy **ret,
	struct core_fault *fault) __attribute__((warn_unused_result));
void core_policy_free(struct core_policy *p);
bool core_policy_reads(const struct core_policy *p, enum core_var var);
/* Indexes it for the actions of the catalogue. */
void core_policy_index(struct core_policy *p, const struct base_names *actions);
/* Those that an action meets; of one that is not indexed they are looked for, in the arena. */
const struct core_candidates *core_policy_candidates(
	const struct core_policy *p, struct base_str action, struct base_arena *arena);
enum core_verdict core_verdict_of(struct base_str then);
const char *core_verdict_name(enum core_verdict v);
/* Runs the tests that a policy carries. The first that fails: -EINVAL and its place. */
int core_policy_test(const struct core_policy *p, struct base_jv tests, struct core_fault *fault,
	unsigned *ret_passed) __attribute__((warn_unused_result));

/* Several files into one, in this order; canonical. -EINVAL: a counter stands in two of them, or a file is no policy;
 * *ret_file says which. */
int core_policy_join(const struct base_str *json, size_t count, struct base_buf *ret, size_t *ret_file,
	struct core_fault *fault) __attribute__((warn_unused_result));
/* Which of the files a place in the joined policy is in; `at` is made to lead to it there. */
size_t core_policy_file_of(const struct base_str *json, size_t count, char *at, size_t size);

/* Runs one and appends what came of it. */
void core_policy_test_one(const struct core_policy *p, struct base_jv test, struct base_jw *w);

/* --- policy_scene.c: what conditions see --- */

/* A call, apart from any state. Views live until it is judged. */
struct core_case {
	struct base_str as, action, flow, agent, customer, customer_fact;
	uint64_t run, customer_seq;
	struct base_jv args;
	int64_t cost, confidence, now_ms; /* confidence in thousandths */
	uint8_t labels;
	bool strange;		/* customers are known by their facts, and there is none of this one */
	bool released;		/* counted already: its limits held then */
	struct base_str counts; /* what it has counted itself */
};

/* How much a counter has counted for a key, as of `now_ms`. */
typedef int64_t (*core_used_fn)(
	void *userdata, const struct core_counter *k, struct base_str key, int64_t now_ms);

struct core_scene {
	const struct core_policy *policy;
	const struct core_case *of;
	struct base_arena *arena, *spare; /* spare: NULL until conditions make much */
	size_t begin;			  /* what the arena had handed out before */
	core_used_fn used;
	void *userdata;
	struct base_json *customer, *run, *labels, *history, *counted;
	struct cel_value vars[CORE_VARS]; /* by enum core_var */
	bool staged, historic;
};
void core_scene_init(struct core_scene *s, const struct core_policy *p, const struct core_case *of,
	core_used_fn used, void *userdata, struct base_arena *arena);
void core_scene_done(struct core_scene *s);
struct base_str core_case_labels(const struct core_case *k); /* as JSON */
/* Evaluates; an expression that is NULL gives an error. A text is valid until the next evaluation, that of an error until
 * the scene is done. */
struct cel_value core_scene_eval(struct core_scene *s, const struct cel_program *p);
/* The same text for one customer however it is spelled: case, blanks, what is invisible, full width. */
struct base_str core_key_fold(struct base_str key, struct base_arena *arena);
/* For whom it counts. False: that cannot be told, and *ret is the key of all such. */
bool core_scene_key(struct core_scene *s, const struct core_counter *k, struct base_str *ret);
/* How much this call adds. False: that cannot be told, or is less than nothing. */
bool core_scene_amount(struct core_scene *s, const struct core_counter *k, int64_t *ret);
/* What was counted before this call. */
int64_t core_scene_used(struct core_scene *s, const struct core_counter *k, struct base_str key);
/* Nano-units of a number or of a text such as "12 USD"; saturates. False: it is neither, or negative. */
bool core_nano_of(struct cel_value v, int64_t *ret);

/* Customers are known by their facts, and there is none of this one. */
bool core_customer_is_strange(const struct core *c, struct base_str customer);

/* --- policy.c --- */

/* What a rule or a limit said, for those who explain. */
struct core_heard {
	const struct core_rule *rule;
	struct base_str value; /* of the condition: true, false, or the error */
	bool matches, over;
	struct base_str key;
	int64_t used, adds;
};
struct core_hearing {
	struct core_heard *heard;
	size_t count, cap;
};
/* Judges by the rules alone, without grants. `hear`: every candidate is asked and noted; or NULL. */
struct core_judged core_policy_judge(struct core_scene *s, struct core_hearing *hear);

/* --- policy_gate.c --- */

/* The terms of the gate that all of these rules open: the strictest of each. `over`: time must not let it through. Denies
 * where nobody could decide for all. */
void core_gates_join(struct core_judged *j, const struct core_rule *const *rule, size_t count, bool over,
	struct base_arena *arena);

/* --- policy_count.c: what counters have counted --- */

struct core_bucket_sum {
	int64_t start_ms, end_ms, value;
};
struct core_tally { /* of one key: ascending, not overlapping */
	struct core_bucket_sum *sum;
	uint32_t count, cap;
};
struct core_count {
	struct base_names *tallies; /* key -> struct core_tally */
	struct base_str sweep;	    /* the last key that was looked through for what is over */
};
int64_t core_count_used(
	const struct base_names *counts, const struct core_counter *k, struct base_str key, int64_t now_ms);
/* Adds what a call counts (JSON as in step_called.counts), at its time. */
void core_count_add(struct base_names *counts, struct base_slab *slab, const struct core_policy *p,
	struct base_str json, int64_t time_ms);
/* Takes it back: `time_ms` is when it was counted. */
void core_count_take(
	struct base_names *counts, struct base_slab *slab, struct base_str json, int64_t time_ms);
void core_counts_free(struct base_names *counts); /* maps alone: the slab holds the rest */
const struct core_counter *core_counter_find(const struct core_policy *p, struct base_str name);
