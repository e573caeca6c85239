#include <string.h>

#include "cli/cli_int.h"

/* Every command once: what it is called, takes and does. */

const struct cli_option cli_common_options[] = {
	{"json", NULL, "print JSON"},
	{"workspace", "DIR",
		"the workspace (also -C DIR, AIOS_WORKSPACE; else the nearest folder with aios.yaml)"},
	{"no-color", NULL, "no colours (also NO_COLOR)"},
	{"help", NULL, "this text"},
	{NULL, NULL, NULL},
};

#define OPTIONS(...) ((const struct cli_option[]){__VA_ARGS__, {NULL, NULL, NULL}})
#define REASON                                                                                               \
	{                                                                                                    \
		"reason", "TEXT", "kept with the decision"                                                   \
	}
#define SCOPE                                                                                                \
	{"flow", "PATTERNS", "only these flows, their runs, gates and figures: news*,shop"},                 \
		{"memory", "PREFIXES", "only facts and documents whose keys begin so: customers/,voice/"},   \
	{                                                                                                    \
		"own", NULL, "only runs that it started itself"                                              \
	}
#define LIMIT                                                                                                \
	{                                                                                                    \
		"limit", "N", "at most so many"                                                              \
	}

static const struct cli_command commands[] = {
	{"init", "DIR", 1, 1, "Make a workspace",
		"Writes aios.yaml, policy.yaml, a first flow and the types for editors. Nothing that exists "
		"is replaced.",
		OPTIONS({"from", "EXAMPLE", "copy this folder instead"},
			{"name", "NAME", "what the company is called"}),
		false, true, cmd_init, .heading = "the workspace"},
	{"up", "", 0, 0, "Start aiosd in the background",
		"Waits until it answers and reports sources that differ from what is deployed. Its log is\n"
		".aios/run/aiosd.log.",
		OPTIONS({"foreground", NULL, "stay, with the log on this terminal"},
			{"port", "N", "instead of the configured one; 0: any that is free"},
			{"restored", NULL, "the log is an older one: hold what may have gone on since"},
			{"timeout", "SECONDS", "how long to wait for it (30)"}),
		false, false, cmd_up},
	{"down", "", 0, 0, "Stop aiosd: it finishes what it is writing and ends", NULL,
		OPTIONS({"timeout", "SECONDS", "how long to wait for it (30)"}), false, false, cmd_down},
	{"status", "", 0, 0, "Processes, sandboxes, log position, freeze", NULL, NULL, false, false,
		cmd_status},
	{"doctor", "", 0, 0, "Check this machine and this workspace, and say what to do", NULL, NULL, false,
		true, cmd_doctor},
	{"deploy", "", 0, 0, "Deploy the workspace's flows, agents, policy and configuration",
		"A changed file becomes a new version; open runs keep theirs.",
		OPTIONS({"check", NULL, "only say what would change"}), false, false, cmd_deploy},
	{"open", "", 0, 0, "Sign a browser in with a one-time link", NULL,
		OPTIONS({"print", NULL, "only print the link"}), false, false, cmd_open},
	{"flows rehearse", "[FILE]", 0, 1, "Try open runs on another version of their flow, without effects",
		"Replays what each open run recorded on the version that FILE (with what it imports) would "
		"be, and\n"
		"shows where they differ. Nothing is sent and nothing is decided, but for what these options "
		"ask.\n"
		"A run moves only if it has just rehearsed the same and has not gone on since; RUNS is 7 or "
		"7,9.\n"
		"Exit code 1: a run differs, or what was asked for was refused.",
		OPTIONS({"flow", "FLOW", "runs of this flow (what FILE declares)"},
			{"open", NULL, "no FILE: every open run on its own version, after an upgrade"},
			{"runs", "RUNS", "only these"},
			{"move", "RUNS", "they go on with the new version, in place"},
			{"move-same", NULL, "move all that rehearse the same"},
			{"park", "RUNS", "they stand still until you resume, move or cancel them"},
			{"keep", "RUNS", "they stay on their version (what happens without options)"},
			{"deploy", NULL, "first aios deploy"}),
		false, false, cmd_flows_rehearse, .heading = "flows"},
	{"flows", "[FLOW]", 0, 1, "Deployed flows, their versions and what they may do", NULL, NULL, false,
		false, cmd_flows},
	{"backtest", "FLOW", 1, 1, "Past runs of a flow on other code, with recorded effects answering",
		"Each call is answered by the record at its place, else by one with the same action and "
		"arguments\n"
		"that stands elsewhere; a call that has no record is new: the run stops there, or goes on "
		"with\n"
		"--assume. Nothing is sent. Exit code 1: a run would have gone another way.",
		OPTIONS({"with", "FILE", "the code to try, with what it imports"},
			{"last", "N", "so many runs that have ended, newest first (50)"},
			{"assume", "JSON", "what answers calls that have no record"}),
		false, false, cmd_backtest},
	{"schedules pause", "NAME", 1, 1, "A schedule fires no more", NULL, OPTIONS(REASON), false, false,
		cmd_schedules_pause},
	{"schedules resume", "NAME", 1, 1, "It fires again; what was due meanwhile is not made up for", NULL,
		OPTIONS(REASON), false, false, cmd_schedules_resume},
	{"schedules", "[NAME]", 0, 1, "When flows start by themselves; of one, the next ten times",
		"Declared by a flow's `on`. NAME is FLOW/0 for its first entry, FLOW/1 for its second.", NULL,
		false, false, cmd_schedules},
	{"run", "FLOW", 1, 1, "Start a run and follow it until it ends or waits for you",
		"Any other --NAME VALUE becomes a member of the input: aios run newsletter --issue 7.",
		OPTIONS({"input", "JSON", "the input (@FILE reads one, - is stdin)"},
			{"key", "KEY", "the same key starts the same run only once"},
			{"to", "ADDRESS", "member \"to\" of the input: a test send"},
			{"customer", "ID", "whom its costs and outcomes belong to"},
			{"dry", NULL, "answer every effect with what would be sent"},
			{"in", "DURATION", "begin so much later: 90s, 2h, 1d"},
			{"at", "TIME", "begin not before: 2026-11-22T14:00 (with Z: UTC)"},
			{"timeout", "DURATION", "how long it may take from then on; else what its flow says"},
			{"priority", "N", "of those that wait, -10 to 10: a level is worth a minute"},
			{"wait", NULL, "wait for the end, through gates too"},
			{"detach", NULL, "do not wait at all"}),
		true, false, cmd_run, .heading = "runs"},
	{"runs", "", 0, 0, "Runs, newest first",
		"--since and --until take a time (2026-11-22, 2026-11-22T14:00, or with Z) or how long ago: "
		"90m, 2d.",
		OPTIONS({"flow", "FLOW", "only of this flow"},
			{"key", "KEY", "that was started with this key"},
			{"customer", "ID", "for this customer"},
			{"label", "LABEL", "with data that is untrusted, or private"},
			{"since", "TIME", "started then or later"}, {"until", "TIME", "started before"},
			{"text", "TEXT", "in its input, result, problem or log lines"},
			{"state", "STATE",
				"active, queued, paused, parked, undoing, done, failed, cancelled"},
			LIMIT, {"before", "RUN", "older than this one"}),
		false, false, cmd_runs},
	{"show", "RUN", 1, 1, "A run's timeline: status, attempts, cost, latency, who approved what and why",
		NULL, OPTIONS({"wait", "SECONDS", "first wait for its end, at most so long"}), false, false,
		cmd_show},
	{"why", "RUN", 1, 1, "Why a run waits, since when, until when, and what would wake it", NULL, NULL,
		false, false, cmd_why},
	{"queue", "[FLOW]", 0, 1,
		"Who waits to begin: lanes, how many are active and wait in each, the limits",
		"A lane is the runs of a flow with one concurrency key. aios runs --state queued lists who "
		"waits.",
		NULL, false, false, cmd_queue},
	{"signal", "RUN NAME [JSON]", 2, 3, "Send a signal to a run", NULL, NULL, false, false, cmd_signal},
	{"publish", "TOPIC", 1, 1,
		"Publish an event: runs that wait for it go on, flows declared for it start",
		"TOPIC is words with dots between, such as order.paid.",
		OPTIONS({"payload", "JSON", "what it tells (@FILE reads one, - is stdin)"},
			{"key", "KEY", "the same key publishes only once"}),
		false, false, cmd_publish},
	{"pause", "RUN", 1, 1, "Pause a run: what comes is recorded, the flow does not go on",
		"Calls that are under way go on. aios freeze stops what goes out.", OPTIONS(REASON), false,
		false, cmd_pause},
	{"resume", "[RUN]", 0, 1, "Let a paused or parked run go on",
		"--restored: all runs that are held because the workspace was restored from a backup.",
		OPTIONS(REASON, {"restored", NULL, "all that a restore holds"},
			{"flow", "FLOW", "with --restored: only of this flow"}),
		false, false, cmd_resume},
	{"cancel", "RUN", 1, 1, "Cancel a run and those that it waits for", NULL,
		OPTIONS({"undo", NULL, "undo their steps, the last begun first (as aios rollback)"}, REASON),
		false, false, cmd_cancel},
	{"rollback", "RUN", 1, 1, "Undo a run's steps, the last begun first; then it ends",
		"Every step since the checkpoint that has an undo beside it, those of its children among "
		"them, and\n"
		"what is in doubt must be settled first. Follows it until it ends or waits for you.",
		OPTIONS({"to", "CHECKPOINT", "only what began after it"},
			{"restart", NULL, "then a new run goes on from there"}, REASON,
			{"wait", NULL, "wait for the end, through gates too"},
			{"detach", NULL, "do not wait at all"}),
		false, false, cmd_rollback},
	{"fork", "RUN", 1, 1,
		"A new run that takes over the first steps of another, and goes its own way from there",
		"The steps before --from answer what they answered then; nothing of them is done again.",
		OPTIONS({"from", "STEP", "the first step that is not taken over (0: none is)"},
			{"input", "JSON", "another input (@FILE reads one, - is stdin)"},
			{"set", "NAME=VALUE", "replace a member of the input; may be given again"},
			{"version", "VERSION", "another version of its flow: current, or a whole hash"},
			{"key", "KEY", "the same key makes the same fork only once"},
			{"wait", NULL, "wait for the end, through gates too"},
			{"detach", NULL, "do not wait at all"}),
		false, false, cmd_fork},
	{"restart", "RUN", 1, 1,
		"Cancel a run if it is open, and begin again from a step, with the same input and version",
		NULL,
		OPTIONS({"from", "STEP", "the first step that is done again (0: all are)"}, REASON,
			{"key", "KEY", "the same key restarts it only once"},
			{"wait", NULL, "wait for the end, through gates too"},
			{"detach", NULL, "do not wait at all"}),
		false, false, cmd_restart},
	{"gates", "[GATE]", 0, 1, "The inbox, or one gate with what it shows", NULL,
		OPTIONS({"state", "STATE", "open (default) or decided"},
			{"mine", NULL, "only those that you may decide now"},
			{"all", NULL, "all that are open (what happens without options)"}, LIMIT),
		false, false, cmd_gates, .heading = "what waits for you"},
	{"approve", "[GATE...]", 0, CLI_ARGS_MAX, "Approve, or edit and approve",
		"What is approved is what the gate shows now; it is printed first unless --quiet. Several "
		"are "
		"each\n"
		"decided on their own. --all shows what it would approve, and does it with --yes: questions, "
		"rules,\n"
		"budgets and attempts, never what is in doubt.",
		OPTIONS({"edit", "FILE",
				"approve with this value instead: JSON, or text where text is asked"},
			{"value", "JSON", "approve with this value instead"}, REASON,
			{"quiet", NULL, "do not show it again"}, {"all", NULL, "all that you may decide"},
			{"flow", "FLOW", "with --all: only of this flow"},
			{"yes", NULL, "with --all: do it"}),
		false, false, cmd_approve},
	{"deny", "[GATE...]", 0, CLI_ARGS_MAX, "Deny", "As aios approve: several, or --all.",
		OPTIONS(REASON, {"all", NULL, "all that you may decide"},
			{"flow", "FLOW", "with --all: only of this flow"},
			{"yes", NULL, "with --all: do it"}),
		false, false, cmd_deny},
	{"delegate", "GATE TO", 2, 2, "Put a gate to somebody else: operator, or key/NAME",
		"The operator asks somebody else too; anybody else hands over what is theirs to decide.",
		OPTIONS(REASON), false, false, cmd_delegate},
	{"proposals show", "PROPOSAL", 1, 1, "One as YAML, ready to paste into policy.yaml",
		"How many of the decisions before it would have answered the same way, and the other way.",
		NULL, false, false, cmd_proposals_show},
	{"proposals drop", "PROPOSAL", 1, 1, "Not this one", NULL, NULL, false, false, cmd_proposals_drop},
	{"proposals taken", "PROPOSAL", 1, 1, "It is in policy.yaml now", NULL, NULL, false, false,
		cmd_proposals_taken},
	{"proposals", "", 0, 0, "Rules that your decisions suggest; none is applied by itself", NULL, NULL,
		false, false, cmd_proposals},
	{"links rotate", "", 0, 0, "Every one-time link that was sent so far is dead", NULL, NULL, false,
		false, cmd_links_rotate},
	{"settle", "GATE", 1, 1,
		"Say what became of an effect in doubt, or what shall become of an undo that failed",
		"Look at the outside first: aios gates GATE shows the evidence.",
		OPTIONS({"happened", NULL, "it happened"}, {"result", "JSON", "with this result"},
			{"send", NULL, "it did not happen: send it"},
			{"give-up", NULL, "leave it; the step fails, or no more is undone"},
			{"again", NULL, "an undo that failed: try it again"},
			{"skip", NULL, "an undo that failed: leave this step and go on"}, REASON),
		false, false, cmd_settle},
	{"freeze", "", 0, 0, "Stop all outgoing effects at once", NULL, OPTIONS(REASON), false, false,
		cmd_freeze},
	{"thaw", "", 0, 0, "Let effects go out again", NULL, NULL, false, false, cmd_thaw},
	{"guard off", "RULE", 1, 1, "Ask to turn a built-in rule off: you decide it at a gate",
		"The gate says what that means; aios approve GATE turns the rule off. Both are in the audit.",
		OPTIONS(REASON), false, false, cmd_guard_off},
	{"guard on", "RULE", 1, 1, "Turn a built-in rule on again, at once", NULL, OPTIONS(REASON), false,
		false, cmd_guard_on},
	{"guard", "", 0, 0, "The built-in rules, and whether they are on",
		"untrusted-private: a run that has read untrusted data and touched private data sends "
		"nothing\n"
		"outside without a gate.",
		NULL, false, false, cmd_guard},
	{"memory get", "KEY", 1, 1, "One fact", NULL, NULL, false, false, cmd_memory_get,
		.heading = "what is known"},
	{"memory put", "KEY JSON", 2, 2, "Write a fact", "@FILE reads the value from a file, - from stdin.",
		OPTIONS({"base", "VERSION", "only if this is the version that is there"},
			{"source", "TEXT", "where it comes from"},
			{"label", "LABELS", "private, untrusted, or both with a comma between"}),
		false, false, cmd_memory_put},
	{"memory forget", "KEY", 1, 1, "Remove a fact; its history stays in the log", NULL,
		OPTIONS({"base", "VERSION", "only if this is the version that is there"},
			{"source", "TEXT", "where it comes from"}),
		false, false, cmd_memory_forget},
	{"memory list", "[PREFIX]", 0, 1, "Facts by key", NULL,
		OPTIONS(LIMIT, {"after", "KEY", "behind this key"}), false, false, cmd_memory_list},
	{"memory search", "WORDS", 1, CLI_ARGS_MAX, "Full-text search over facts and documents", NULL,
		OPTIONS(LIMIT), false, false, cmd_memory_search},
	{"memory history", "KEY", 1, 1, "Every version of a fact", NULL, NULL, false, false,
		cmd_memory_history},
	{"costs", "", 0, 0, "What was spent, on what", NULL,
		OPTIONS({"by", "WHAT", "flow (default), model, customer, outcome, run, day"},
			{"since", "DAYS", "of so many days"}),
		false, false, cmd_costs},
	{"outcome", "NAME", 1, 1, "Record a business result (an open, a sale)", NULL,
		OPTIONS({"value", "NUMBER", "1 where nothing is said"}, {"run", "RUN", "whose it is"},
			{"customer", "ID", "who"}, {"experiment", "NAME", "where a run does not say it"},
			{"key", "KEY", "counted only once"}),
		false, false, cmd_outcome},
	{"audit export", "", 0, 0, "Events with what proves them, as JSON Lines",
		"tools/aios-verify-audit.py checks them, with nothing but a public key. They reach up to a "
		"signed "
		"checkpoint,\nif there is one behind the last. --heads: no events, only what ties one "
		"checkpoint to "
		"another.",
		OPTIONS({"since", "TIME", "then or later"}, {"until", "TIME", "before"},
			{"from", "SEQ", "from this position on"}, {"to", "SEQ", "up to this position"},
			{"run", "N", "only of this run"}, {"heads", NULL, "commits' heads only"},
			{"out", "FILE", "into this new file"}),
		false, false, cmd_audit_export, .heading = "the log"},
	{"audit checkpoint", "", 0, 0, "Sign a checkpoint of the log now, and send it to audit.checkpoints",
		"Keep its public key where aios cannot reach it: what was signed is verified with it.", NULL,
		false, false, cmd_audit_checkpoint},
	{"audit verify", "", 0, 0, "The log against checkpoints that were sent elsewhere",
		"Finds what a log cannot tell of itself: that its end is missing, that it is a fork, that it "
		"was "
		"rewritten.\nWithout a file: those that stand in the log. Exit code 1, with the first bad "
		"event, where "
		"they disagree.",
		OPTIONS({"checkpoint", "FILE", "as they were received, one a line"},
			{"key", "HEX", "the public key that must have signed them"}),
		false, false, cmd_audit_verify},
	{"audit", "", 0, 0, "Who did, was allowed, approved and saw what, when, why and at what cost",
		"--kind: did, allowed, denied, asked, approved, saw, configured, signed-in. --action takes a "
		"pattern "
		"such as\n"
		"\"mail.*\". --since and --until take a time (2026-11-22, 2026-11-22T14:00) or how long ago: "
		"90m, "
		"2d.",
		OPTIONS({"who", "PRINCIPAL", "operator, key/NAME, flow/NAME, agent/NAME"},
			{"action", "ACTION", "this action, API operation or kind of event"},
			{"object", "OBJECT",
				"done to this, or this seen: a fact, a key, a flow, an effect's key"},
			{"run", "RUN", "of this run"}, {"gate", "GATE", "about this gate"},
			{"customer", "ID", "for this customer"}, {"kind", "KIND", "only of this kind"},
			{"since", "TIME", "then or later"}, {"until", "TIME", "before"}, LIMIT,
			{"before", "ID", "older than this (as the last answer says)"}),
		false, false, cmd_audit},
	{"log tail", "", 0, 0, "The latest events", NULL,
		OPTIONS({"follow", NULL, "and those to come (also -f)"}, LIMIT,
			{"after", "SEQ", "behind this position"}),
		false, false, cmd_log_tail},
	{"log search", "[TEXT]", 0, 1, "Find events in the log and its archive, by text or by run",
		"Also of runs that are past their retention. Bodies over 64 KiB are stored apart and not "
		"searched.",
		OPTIONS({"run", "N", "of this run"}, {"archived", NULL, "only in the archive"},
			{"after", "SEQ", "behind this position"}, LIMIT),
		false, false, cmd_log_search},
	{"log verify", "", 0, 0, "Verify the log's hash chain", NULL,
		OPTIONS({"replay", NULL, "fold it from the start too and compare the states"}), false, false,
		cmd_log_verify},
	{"log archive", "", 0, 0, "Move what is old out of the database into compressed segments",
		"It stays part of the log: read, searched and verified like the rest. aiosd does it by "
		"itself for what is\n"
		"older than log.archive_after (30d).",
		OPTIONS({"older", "DURATION", "30d, 12h, ...; without: log.archive_after"},
			{"dry", NULL, "only say what would be moved"}),
		false, false, cmd_log_archive},
	{"backup", "DIR", 1, 1, "Make a backup in a new folder, while all goes on",
		"Log, archive, snapshot, sources and the encrypted secrets, verified before it counts. The "
		"vault's key is not\n"
		"in it: keep a copy of .aios/vault/key elsewhere, or the secrets must be set again after a "
		"restore.",
		OPTIONS({"verify", NULL, "check the backup in DIR instead"},
			{"with-key", NULL,
				"put the vault's key in as well: the backup is then a secret itself"}),
		false, false, cmd_backup},
	{"restore", "DIR WORKSPACE", 2, 2, "Make a new workspace from a backup",
		"Everything that may have gone on after the backup was made is held at its first start, "
		"until you let it.",
		NULL, false, true, cmd_restore},
	{"views rebuild", "", 0, 0, "Throw the views away and make them again from the log", NULL, NULL,
		false, false, cmd_views_rebuild},
	{"views dump", "", 0, 0, "The hash of the views' ordered dump", NULL, NULL, false, false,
		cmd_views_dump},
	{"can", "WHO ACTION", 2, 2, "May somebody do something, and why? Nothing is done",
		"WHO is operator, flow/NAME, agent/NAME or key/NAME. Exits with 1 where the answer is no.",
		OPTIONS({"args", "JSON", "of the call: JSON, @FILE or - for stdin"},
			{"customer", "ID", "whom it is for"},
			{"labels", "LABELS", "what the run has touched: untrusted,private"},
			{"confidence", "NUMBER", "0 to 1"},
			{"why", NULL, "grants, each rule with the value of its condition, limits"}),
		false, false, cmd_can, .heading = "who may"},
	{"policy check", "[FILE...]", 0, CLI_ARGS_MAX,
		"Check policy files and run their tests, without aiosd",
		"Without FILE: policy.yaml and policy/*.yaml of the workspace.", NULL, false, true,
		cmd_policy_check},
	{"policy test", "[FILE...]", 0, CLI_ARGS_MAX, "Run the tests that policy files carry, one a line",
		"Without FILE: policy.yaml and policy/*.yaml of the workspace.", NULL, false, true,
		cmd_policy_test},
	{"policy explain", "RUN STEP", 2, 2, "What decided a step: rule, version, what it read", NULL, NULL,
		false, false, cmd_policy_explain},
	{"policy backtest", "[FILE...]", 0, CLI_ARGS_MAX,
		"Calls of the past, judged by another policy; nothing is done",
		"Without FILE: policy.yaml and policy/*.yaml as they are here now. Counters and limits count "
		"anew.",
		OPTIONS({"since", "TIME", "only those since: 30d, 2026-11-01"},
			{"flow", "FLOW", "only those of this flow"}),
		false, false, cmd_policy_backtest},
	{"keys add", "NAME", 1, 1, "Make an API key; it is shown once",
		"Without --flow, --memory and --own it reaches every object that its grants let it name. "
		"What lies "
		"outside does not\n"
		"exist for it. A visitor has only what it started itself, and no memory but --memory's.",
		OPTIONS({"grant", "PATTERNS", "what it may do, comma-separated: api.run_start,api.run"},
			{"kind", "KIND", "service (without it), edge, visitor or agent"},
			{"expires", "DURATION", "30d, 12h, …; without: never"}, SCOPE),
		false, false, cmd_keys_add},
	{"keys list", "", 0, 0, "API keys, and when each was last used", NULL, NULL, false, false,
		cmd_keys_list},
	{"keys rotate", "KEY", 1, 1, "Replace a key by a new one, which is shown once",
		"The old one holds until the overlap is over, and until the new one was used: nobody is "
		"locked out. "
		"aios keys revoke\n"
		"ends both at once.",
		OPTIONS({"overlap", "DURATION", "how long the old one holds at least (1d)"}), false, false,
		cmd_keys_rotate},
	{"keys revoke", "KEY", 1, 1, "Revoke a key, and all that were made from it, at once", NULL,
		OPTIONS(REASON), false, false, cmd_keys_revoke},
	{"keys attenuate", "", 0, 0, "Make a narrower key from a key, without asking aiosd",
		"Reads the key from AIOS_KEY or stdin and prints one that may less. It is good as long as "
		"the key that it "
		"was made\n"
		"from, and can be narrowed again.",
		OPTIONS({"grant", "PATTERNS", "may do nothing but these of what it may"},
			{"expires", "DURATION", "at the latest then"}, SCOPE),
		false, true, cmd_keys_attenuate},
	{"sign-in sessions", "[revoke SESSION|all]", 0, 2,
		"Browser sessions; revoke closes one, or all, at once", NULL, NULL, false, false,
		cmd_sign_in_sessions},
	{"sign-in passkeys", "", 0, 0, "Passkeys, when they were used, whether there may be a copy",
		"A passkey is made in the browser: aios open, then Security.\n",
		OPTIONS({"remove", "NAME", "it signs nobody in any more; its sessions are closed"}), false,
		false, cmd_sign_in_passkeys},
	{"sign-in password", "", 0, 0, "Set the password for the console",
		"Reads it from stdin, or asks for it twice without showing it. It is hashed here (Argon2id), "
		"and "
		"the hash is sealed to the vault's key. Sessions that were opened with the one before are "
		"closed.\n",
		OPTIONS({"remove", NULL, "no password signs in any more"}), false, false,
		cmd_sign_in_password},
	{"sign-in totp", "", 0, 0, "Set up the codes that go with the password",
		"Makes a secret for an app on your phone, shows it once, and asks for a code that shows that "
		"it "
		"works.\n",
		OPTIONS({"sha256", NULL, "SHA-256; not every app knows it"},
			{"remove", NULL, "no codes any more"}),
		false, false, cmd_sign_in_totp},
	{"sign-in", "", 0, 0, "How you sign in to the console, who is signed in, what failed",
		"aios open makes a link that signs a browser in once. Passkeys are made in the browser "
		"(Security); aios.yaml's sign_in says which ways there are.\n",
		NULL, false, false, cmd_sign_in},
	{"secrets set", "NAME", 1, 1, "Put a secret into the vault, for one host",
		"Reads it from stdin, or asks for it without showing it. It is sealed to the vault's key "
		"before it leaves.",
		OPTIONS({"host", "HOSTS", "the only hosts that it is released for, comma-separated"},
			{"action", "PATTERNS",
				"the only actions that may use it, such as mail.*; without: what aios.yaml "
				"uses it for"}),
		false, false, cmd_secrets_set},
	{"secrets list", "", 0, 0, "Names and hosts of secrets", NULL, NULL, false, false, cmd_secrets_list},
	{"secrets remove", "NAME", 1, 1, "Remove a secret", NULL, NULL, false, false, cmd_secrets_remove},
	{"secrets rotate", "NAME", 1, 1, "Give a secret a new value",
		"Reads it as secrets set does. The old value is kept beside it for an overlap, and is tried "
		"where "
		"the new\none is not taken (HTTP 401 and 403, SMTP 535); then it is gone. Hosts and actions "
		"stay, "
		"unless given.",
		OPTIONS({"overlap", "DURATION",
				"how long the old value may still be used (24h); 0s: not at all"},
			{"host", "HOSTS", "other hosts"}, {"action", "PATTERNS", "other actions"}),
		false, false, cmd_secrets_rotate},
	{"secrets canary", "NAME", 1, 1, "Make a fake secret that sets off an alarm where it is met",
		"Prints a value that looks like a key and opens nothing; put it where only a thief looks. A "
		"call that "
		"carries\nit, or a piece of it, is refused, whatever policy says, and everything outgoing is "
		"frozen "
		"(aios.yaml,\nvault.on_canary).",
		OPTIONS({"like", "KIND", "anthropic, openai, github, stripe, slack or password"}), false,
		false, cmd_secrets_canary},
	{"vault status", "", 0, 0, "Whether the vault is open, and what opens it", NULL, NULL, false, false,
		cmd_vault_status},
	{"vault unlock", "", 0, 0, "Open the vault",
		"Asks for the passphrase without showing it, or reads a line of stdin. It is sealed to the "
		"vault's "
		"key before\nit leaves. What waited for a secret goes on.",
		NULL, false, false, cmd_vault_unlock},
	{"vault lock", "", 0, 0, "Close the vault: what needs a secret waits",
		"With a passphrase it is closed after each restart too; with a key file it opens again by "
		"itself "
		"then.",
		NULL, false, false, cmd_vault_lock},
	{"vault rotate", "", 0, 0, "Encrypt all secrets with a new data key", NULL, NULL, false, false,
		cmd_vault_rotate},
	{"vault key", "KIND", 1, 1, "What opens the vault from now on",
		"passphrase   asked for after each start (Argon2id)\n"
		"file         .aios/vault/key, mode 0600: opens by itself, whoever has the disk has the "
		"secrets\n"
		"keyring      a passphrase, asked for once until the machine stops: its key rests in the "
		"kernel\n"
		"credential   systemd's LoadCredentialEncrypted=aios-vault\n"
		"public       changes nothing: prints the public half of the key that signs checkpoints",
		OPTIONS({"strength", "NAME", "of a passphrase: moderate (256 MiB), sensitive (1 GiB)"}),
		false, false, cmd_vault_key},
	{"version", "", 0, 0, "Versions", NULL, NULL, false, true, cmd_version, .heading = "this program"},
	{"cel", "[EXPR]", 0, 1,
		"Evaluate an expression of the Common Expression Language, or run cases of it",
		"Prints the value as an expression; - reads the expression from stdin. Variables are the "
		"members of\n"
		"a JSON object: numbers that are whole are int, others double; {\"t\": \"uint\", \"v\": "
		"\"1\"} is a typed\n"
		"value (docs/cel.md). Cases are lines of JSON with expr, vars and either want or error. Exit "
		"code 1:\n"
		"the expression is wrong or fails, or a case does.",
		OPTIONS({"vars", "FILE", "the variables"}, {"cases", "FILE", "run these and count them"},
			{"untyped", NULL, "leave types to the evaluation"}),
		false, true, cmd_cel},
	{"completion", "SHELL", 1, 1, "Completion for bash, zsh or fish",
		"bash: source <(aios completion bash)", NULL, false, true, cmd_completion},
};

const struct cli_command *cli_command_at(size_t i)
{
	return i < sizeof(commands) / sizeof(commands[0]) ? &commands[i] : NULL;
}

static unsigned words_match(const char *name, int argc, char **argv)
{
	unsigned words = 0;

	for (;;) {
		size_t n = strcspn(name, " ");

		if ((int)words >= argc || strlen(argv[words]) != n || strncmp(argv[words], name, n) != 0)
			return 0;
		words++;
		if (name[n] == '\0')
			return words;
		name += n + 1;
	}
}

const struct cli_command *cli_command_find(int argc, char **argv, unsigned *ret_words)
{
	size_t i;

	for (i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		unsigned words = words_match(commands[i].name, argc, argv);

		if (words > 0) {
			*ret_words = words;
			return &commands[i];
		}
	}
	return NULL;
}
