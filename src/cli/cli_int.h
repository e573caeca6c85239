#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"
#include "base/str.h"

/*
 * What the files of this folder share.
 *
 * Invariants:
 *  1. One table of commands (table.c) makes help, completion and dispatch.
 *  2. Text that comes from a run, a file or the network reaches the terminal only through cli_text, which
 * leaves no control character in it.
 *  3. With --json, stdout is one JSON document (log tail -f: one a line), and nothing else.
 */

enum cli_exit {
	CLI_OK = 0,
	CLI_FAILED = 1,	     /* refused, failed, not found */
	CLI_USAGE = 2,	     /* the command line is wrong */
	CLI_NOT_RUNNING = 3, /* aiosd does not answer in this workspace */
	CLI_NO_WORKSPACE = 4,
};

enum { CLI_ARGS_MAX = 64, CLI_OPTS_MAX = 64, CLI_BODY_MAX = 64 << 20 };

struct cli_option {
	const char *name;  /* without dashes; NULL ends the list */
	const char *value; /* what it takes: "FILE"; NULL: a flag */
	const char *what;
};

struct cli;

struct cli_command {
	const char *name; /* "memory get" */
	const char *args; /* "KEY [VERSION]" */
	unsigned min, max;
	const char *summary;
	const char *more; /* further help, or NULL */
	const struct cli_option *options;
	bool extra; /* options that are not declared are kept (aios run) */
	bool bare;  /* needs no workspace */
	int (*run)(struct cli *c);
	const char *heading; /* of it and those behind it in the help, or NULL */
};

struct cli_pair {
	const char *name;
	const char *value;
};

struct cli {
	const struct cli_command *command;
	const char *args[CLI_ARGS_MAX];
	unsigned arg_count;
	struct cli_pair opts[CLI_OPTS_MAX];
	unsigned opt_count;
	struct cli_pair extra[CLI_OPTS_MAX];
	unsigned extra_count;
	char *workspace;  /* absolute; NULL where there is none and none is needed */
	const char *self; /* folder of this executable */
	bool json;
	bool colour;
	struct base_buf out;
	struct base_arena *arena; /* lives as long as the process */
	void *curl;
};

/* --- table.c */
const struct cli_command *cli_command_at(size_t i); /* NULL behind the last */
/* The command of argv (its words are counted in *ret_words), or NULL. */
const struct cli_command *cli_command_find(int argc, char **argv, unsigned *ret_words);
extern const struct cli_option cli_common_options[];

/* --- args.c */
/* Sorts what stands behind the command's words into arguments and options. 0 or CLI_USAGE, after saying why.
 */
int cli_args_parse(struct cli *c, int argc, char **argv);
const char *cli_opt(const struct cli *c, const char *name); /* NULL: not given */
bool cli_flag(const struct cli *c, const char *name);
/* A whole number; CLI_USAGE after saying why. */
int cli_opt_u64(struct cli *c, const char *name, uint64_t *ret);
void cli_help(struct cli *c, const struct cli_command *command); /* NULL: of everything */
void cli_help_group(struct cli *c, const char *word);		 /* of "memory …" */
int cli_usage(struct cli *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* --- out.c */
void cli_flush(struct cli *c);
void cli_text(
	struct cli *c, struct base_str s); /* one line: control characters and line ends as '?' or blank */
void cli_lines(struct cli *c, struct base_str s);					 /* keeps line ends */
void cli_put(struct cli *c, const char *fmt, ...) __attribute__((format(printf, 2, 3))); /* own text only */
/* A colour by name (green, red, yellow, blue, dim, bold), or "off"; empty where there are none. */
const char *cli_paint(const struct cli *c, const char *colour);
const char *cli_mood(struct base_str state); /* the colour of a state */
void cli_money(struct base_buf *b, int64_t nusd);
void cli_time(struct base_buf *b, int64_t ms); /* local time */
int cli_fail(struct cli *c, const char *fmt, ...)
	__attribute__((format(printf, 2, 3))); /* says; returns CLI_FAILED */
/* Any value for a person: members as lines, lists of objects as tables. */
void cli_value(struct cli *c, struct base_jv v, unsigned indent);
/* A table from a list of objects. columns: "title=member,member2 …": the first member that is there. A title
 * that starts with '>' is set right. */
void cli_table(struct cli *c, struct base_jv list, const char *const *columns);
/* One value as a cell: money, time and durations by the member's name. */
void cli_cell(struct base_buf *b, struct base_str key, struct base_jv v);
size_t cli_width(struct base_str s);

/* --- http.c */
struct cli_answer {
	unsigned status;
	struct base_buf text;
	struct base_json *doc; /* NULL where the body is no JSON */
	struct base_jv root;
};
/* body NULL: none. 0 with a 2xx answer in *ret (cli_answer_done it), else an exit code, after saying what is
 * wrong. */
int cli_call(struct cli *c, const char *method, const char *path, const struct base_buf *body,
	struct cli_answer *ret);
/* The same with an Idempotency-Key. */
int cli_call_key(struct cli *c, const char *method, const char *path, const struct base_buf *body,
	const char *key, struct cli_answer *ret);
/* POST with {"reason"} of --reason, and `flag` as true where it is not NULL. An exit code; 0: the caller ends *ret. */
int cli_decide(struct cli *c, const char *path, const char *flag, struct cli_answer *ret);
/* The same; says `done` where it went well. An exit code. */
int cli_act(struct cli *c, const char *path, const char *done);
/* Only asks: true when the door answers. Says nothing. */
bool cli_answers(struct cli *c);
void cli_answer_done(struct cli_answer *a);
/* --json: prints the answer and returns true. */
bool cli_print_json(struct cli *c, const struct cli_answer *a);
/* Events as they come: fn gets each `data:` line. Ends when the stream does. 0 or an exit code. */
int cli_stream(struct cli *c, const char *path, void (*fn)(struct cli *c, struct base_str data));
/* Appends one path segment or query value. */
void cli_encode(struct base_buf *b, const char *text);
/* "/v1/runs/" and "7" and "/cancel": the middle is encoded. In the arena. */
const char *cli_path(struct cli *c, const char *before, const char *segment, const char *after);
/* The same, keeping slashes. */
const char *cli_path_rest(struct cli *c, const char *before, const char *rest, const char *after);
/* Appends "?name=value" or "&name=value" where value is not NULL; path lives in the arena. */
const char *cli_query(struct cli *c, const char *path, const char *name, const char *value);
void cli_http_done(struct cli *c);
/* The list in an answer: the root, or its member `name` or "items". */
struct base_jv cli_list(struct base_jv root, const char *name);

/* --- workspace.c */
/* Sets c->workspace from -C, AIOS_WORKSPACE or the nearest folder upward with aios.yaml. 0 or
 * CLI_NO_WORKSPACE. */
int cli_workspace_find(struct cli *c, const char *given);
const char *cli_in_workspace(struct cli *c, const char *name); /* WORKSPACE/name, in the arena */
/* A whole file, at most max bytes ("-" is stdin). 0 or a negative errno with err. */
int cli_read_file(const char *path, size_t max, struct base_buf *ret, struct base_err *err)
	__attribute__((warn_unused_result));
int cli_write_file(const char *path, struct base_str text, int mode, struct base_err *err)
	__attribute__((warn_unused_result));
/* Appends {"files":{path: text, …},"whole":true}: all the sources of the workspace. */
int cli_sources(struct cli *c, struct base_buf *ret, struct base_err *err)
	__attribute__((warn_unused_result));

/* --- port.c */
/* door.port of an aios.yaml, -1 where it has none that can be read without a parser. */
int cli_door_port(struct base_str yaml);

/* --- generated: the files of a new workspace, ended by a NULL name */
struct cli_template {
	const char *name;
	const char *text;
	size_t len;
};
extern const struct cli_template cli_templates[];

/* --- commands */

/* JSON from the command line: as it is, @FILE, or - for stdin. 0 or an exit code, after saying why. */
int cli_read_json(struct cli *c, const char *text, struct base_buf *ret);
/* Follows a run until it ends, or (not through_gates) waits for a person. An exit code. */
int cli_follow(struct cli *c, int64_t run, bool through_gates);
/* What became of a step's undo: a line below it, or nothing. The rollbacks of a run: lines below its head. */
void cli_put_undone(struct cli *c, struct base_jv undone);
void cli_put_rollbacks(struct cli *c, struct base_jv run);
int cmd_approve(struct cli *c);
/* What of aios status is about checkpoints: a line for each place that has not the newest. */
void cli_put_checkpoints(struct cli *c, struct base_jv v);
int cmd_audit(struct cli *c);
int cmd_proposals(struct cli *c);
int cmd_proposals_show(struct cli *c);
int cmd_proposals_drop(struct cli *c);
int cmd_proposals_taken(struct cli *c);
int cmd_delegate(struct cli *c);
int cmd_links_rotate(struct cli *c);
/* Of approve and deny, with several gates or --all. */
int cli_decide_several(struct cli *c, const char *answer);
int cmd_audit_export(struct cli *c);
int cmd_audit_checkpoint(struct cli *c);
int cmd_audit_verify(struct cli *c);
int cmd_backtest(struct cli *c);
int cmd_can(struct cli *c);
int cmd_cancel(struct cli *c);
int cmd_cel(struct cli *c);
int cmd_rollback(struct cli *c);
int cmd_completion(struct cli *c);
int cmd_costs(struct cli *c);
int cmd_deny(struct cli *c);
int cmd_deploy(struct cli *c);
int cmd_doctor(struct cli *c);
int cmd_down(struct cli *c);
int cmd_flows(struct cli *c);
int cmd_fork(struct cli *c);
int cmd_flows_rehearse(struct cli *c);
int cmd_freeze(struct cli *c);
void cli_labels(struct cli *c, struct base_jv labels); /* "  [private untrusted]"; nothing for none */
int cmd_guard(struct cli *c);
int cmd_guard_off(struct cli *c);
int cmd_guard_on(struct cli *c);
int cmd_gates(struct cli *c);
int cmd_init(struct cli *c);
int cmd_keys_add(struct cli *c);
int cmd_keys_list(struct cli *c);
int cmd_keys_revoke(struct cli *c);
int cmd_keys_rotate(struct cli *c);
int cmd_keys_attenuate(struct cli *c);
int cmd_log_tail(struct cli *c);
int cmd_log_verify(struct cli *c);
int cmd_log_archive(struct cli *c);
int cmd_log_search(struct cli *c);
int cmd_backup(struct cli *c);
int cmd_restore(struct cli *c);
int cli_resume_restored(struct cli *c);
/* Events, one a line; `lines`: as JSON. */
void cli_events(struct cli *c, struct base_jv list, bool lines);
int cmd_memory_forget(struct cli *c);
int cmd_memory_get(struct cli *c);
int cmd_memory_history(struct cli *c);
int cmd_memory_list(struct cli *c);
int cmd_memory_put(struct cli *c);
int cmd_memory_search(struct cli *c);
int cmd_open(struct cli *c);
int cmd_outcome(struct cli *c);
int cmd_pause(struct cli *c);
int cmd_policy_backtest(struct cli *c);
int cmd_policy_check(struct cli *c);
int cmd_policy_explain(struct cli *c);
int cmd_policy_test(struct cli *c);
int cmd_restart(struct cli *c);
int cmd_resume(struct cli *c);
int cmd_run(struct cli *c);
int cmd_runs(struct cli *c);
int cmd_publish(struct cli *c);
int cmd_schedules(struct cli *c);
int cmd_schedules_pause(struct cli *c);
int cmd_schedules_resume(struct cli *c);
/* cmd_vault.c: the first line of stdin, from a terminal without echo, into CLI_HIDDEN_MAX bytes. 0 or an exit code. */
enum { CLI_HIDDEN_MAX = 65536 };
int cli_read_hidden(struct cli *c, const char *what, char *ret, size_t *ret_len);
/* Adds "sealed" (to the vault's key) to an open object; wipes the value. 0 or an exit code. */
int cli_put_sealed(struct cli *c, char *value, size_t len, struct base_jw *w);
int cmd_sign_in(struct cli *c);
int cmd_sign_in_sessions(struct cli *c);
int cmd_sign_in_passkeys(struct cli *c);
int cmd_sign_in_password(struct cli *c);
int cmd_sign_in_totp(struct cli *c);
int cmd_secrets_canary(struct cli *c);
int cmd_secrets_list(struct cli *c);
int cmd_secrets_remove(struct cli *c);
int cmd_secrets_rotate(struct cli *c);
int cmd_secrets_set(struct cli *c);
int cmd_vault_key(struct cli *c);
int cmd_vault_lock(struct cli *c);
int cmd_vault_rotate(struct cli *c);
int cmd_vault_status(struct cli *c);
int cmd_vault_unlock(struct cli *c);
int cmd_settle(struct cli *c);
int cmd_show(struct cli *c);
int cmd_signal(struct cli *c);
int cmd_status(struct cli *c);
int cmd_thaw(struct cli *c);
int cmd_up(struct cli *c);
int cmd_version(struct cli *c);
int cmd_why(struct cli *c);
int cmd_queue(struct cli *c);
int cmd_views_dump(struct cli *c);
int cmd_views_rebuild(struct cli *c);
/* Follows a run until it ends or waits for a person (through_gates: further). An exit code. */
int cli_follow(struct cli *c, int64_t run, bool through_gates);
/* A point in time of the command line in ms: a date, a time, or how long ago (ahead: from now): 90m, 2d. 0 or CLI_USAGE,
 * after saying why. */
int cli_moment(struct cli *c, const char *option, bool ahead, int64_t *ret_ms);
/* Deploys or checks and prints what changed (also after `aios up`). */
int cli_deploy(struct cli *c, bool check);
/* Writes the types for editors where they differ from the workspace's. */
void cli_types(struct cli *c);
