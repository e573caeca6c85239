#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "engine/engine_int.h"

/* What a run did to its worker, as evidence: core tries it again or quarantines it. */

/* In words; its kind as one. */
static const char *death_of(enum engine_death death, int status, struct base_str flow, char *ret, size_t size)
{
	int sig = death == ENGINE_DIED && WIFSIGNALED(status) ? WTERMSIG(status) : 0;

	if (death == ENGINE_HUNG)
		snprintf(ret, size, "flow %.*s did not come back within %d ms; its worker was ended",
			BASE_STR_ARG(flow), ENGINE_WATCHDOG_MS);
	else if (death == ENGINE_ROGUE)
		snprintf(ret, size,
			"the worker said what no worker may say while it ran flow %.*s; it was ended",
			BASE_STR_ARG(flow));
	else if (sig == SIGSYS)
		snprintf(ret, size, "the worker asked for what its sandbox forbids while it ran flow %.*s",
			BASE_STR_ARG(flow));
	else if (sig == SIGKILL || sig == SIGTERM)
		snprintf(ret, size,
			"the worker was killed from outside again and again while it ran flow %.*s (out of "
			"memory?)",
			BASE_STR_ARG(flow));
	else if (sig)
		snprintf(ret, size, "the worker died of signal %d (%s) while it ran flow %.*s", sig,
			strsignal(sig), BASE_STR_ARG(flow));
	else
		snprintf(ret, size, "the worker ended with status %d while it ran flow %.*s",
			WEXITSTATUS(status), BASE_STR_ARG(flow));
	return death == ENGINE_HUNG		  ? "hung"
	       : death == ENGINE_ROGUE		  ? "protocol"
	       : sig == SIGSYS			  ? "sandbox"
	       : sig == SIGKILL || sig == SIGTERM ? "killed"
						  : "crash";
}

void engine_flow_crashed(struct engine *e, uint64_t run, enum engine_death death, int status, bool enough)
{
	struct core_cmd cmd = {.type = CORE_CMD_FLOW_CRASHED, .run = run, .base = enough};
	struct core_run_info info;
	struct core_reply reply;
	const char *kind;
	char text[400];
	struct base_buf b;
	struct base_jw w;
	int rc;

	if (!core_run_get(e->core, run, &info) || info.state != CORE_RUN_ACTIVE)
		return;
	kind = death_of(death, status, info.flow, text, sizeof(text));
	base_buf_init(&b, 4096);
	w = base_jw_of(&b);
	base_jw_obj(&w);
	base_jw_mcstr(&w, "code", "crashed");
	base_jw_mcstr(&w, "kind", kind);
	base_jw_mcstr(&w, "message", text);
	if (death == ENGINE_DIED && WIFSIGNALED(status))
		base_jw_mint(&w, "signal", WTERMSIG(status));
	else if (death == ENGINE_DIED)
		base_jw_mint(&w, "exit", WEXITSTATUS(status));
	base_jw_end_obj(&w);
	cmd.body = base_buf_view(&b);
	engine_note(2, "run %llu: %s", (unsigned long long)run, text);
	rc = engine_decide(e, &cmd, &reply);
	if (rc < 0)
		engine_note(3, "run %llu: its crash could not be recorded: %s", (unsigned long long)run,
			strerror(-rc));
	base_buf_done(&b);
}
