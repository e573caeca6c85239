#include "cli/cli.h"

#include <curl/curl.h>
#include <libgen.h>
#include <limits.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli_int.h"

static char self_dir[PATH_MAX];

static const char *find_self(void)
{
	ssize_t n = readlink("/proc/self/exe", self_dir, sizeof(self_dir) - 1);

	if (n <= 0)
		return ".";
	self_dir[n] = '\0';
	return dirname(self_dir);
}

static bool is_group(const char *word)
{
	size_t i, n = strlen(word);

	for (i = 0; cli_command_at(i); i++)
		if (strncmp(cli_command_at(i)->name, word, n) == 0 && cli_command_at(i)->name[n] == ' ')
			return true;
	return false;
}

/* Options may stand before the command too: -C DIR, --workspace DIR, --json, --no-color. */
static int leading_options(struct cli *c, int *argc, char ***argv)
{
	while (*argc > 0 && (*argv)[0][0] == '-') {
		const char *text = (*argv)[0];
		int used = 1;

		if (strcmp(text, "-C") == 0 || strcmp(text, "--workspace") == 0) {
			if (*argc < 2)
				return cli_usage(c, "%s needs a folder", text);
			c->opts[c->opt_count++] = (struct cli_pair){"workspace", (*argv)[1]};
			used = 2;
		} else if (strcmp(text, "--json") == 0) {
			c->opts[c->opt_count++] = (struct cli_pair){"json", ""};
		} else if (strcmp(text, "--no-color") == 0) {
			c->opts[c->opt_count++] = (struct cli_pair){"no-color", ""};
		} else {
			break;
		}
		if (c->opt_count > CLI_OPTS_MAX / 2)
			return cli_usage(c, "too many options");
		*argc -= used;
		*argv += used;
	}
	return 0;
}

/* No command: help, a version, or what is wrong. */
static int without_command(struct cli *c, int argc, char **argv)
{
	if (argc == 0) {
		cli_help(c, NULL);
		return CLI_USAGE;
	}
	if (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0 || strcmp(argv[0], "help") == 0) {
		unsigned words;

		c->command = argc > 1 ? cli_command_find(argc - 1, argv + 1, &words) : NULL;
		cli_help(c, c->command);
		return CLI_OK;
	}
	if (strcmp(argv[0], "--version") == 0)
		return cmd_version(c);
	if (is_group(argv[0])) {
		bool asked = argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0);

		if (asked) {
			cli_help_group(c, argv[0]);
			return CLI_OK;
		}
		return argc > 1 ? cli_usage(c, "there is no command %s %s", argv[0], argv[1])
				: cli_usage(c, "%s needs a command", argv[0]);
	}
	return cli_usage(c, "there is no command %s", argv[0]);
}

static int dispatch(struct cli *c, int argc, char **argv)
{
	unsigned words = 0;
	int r = leading_options(c, &argc, &argv);

	if (r != 0)
		return r;
	c->command = cli_command_find(argc, argv, &words);
	if (!c->command)
		return without_command(c, argc, argv);
	r = cli_args_parse(c, argc - (int)words, argv + words);
	if (r != 0)
		return r;
	if (cli_flag(c, "help")) {
		cli_help(c, c->command);
		return CLI_OK;
	}
	c->json = cli_flag(c, "json");
	c->colour = !c->json && isatty(1) && !cli_flag(c, "no-color") &&
		    !(getenv("NO_COLOR") && *getenv("NO_COLOR")) &&
		    !(getenv("TERM") && strcmp(getenv("TERM"), "dumb") == 0);
	r = cli_workspace_find(c, cli_opt(c, "workspace"));
	if (r != 0 && !c->command->bare) {
		fprintf(stderr,
			"aios: there is no aios.yaml in %s; make a workspace with aios init DIR, or name one "
			"with -C\n",
			cli_opt(c, "workspace") ? cli_opt(c, "workspace") : "this folder or above it");
		return r;
	}
	return c->command->run(c);
}

int cli_main(int argc, char **argv)
{
	static struct cli c;
	int r;

	setlocale(LC_TIME, "C");
	signal(SIGPIPE, SIG_IGN);
	base_buf_init(&c.out, CLI_BODY_MAX);
	if (base_arena_new(CLI_BODY_MAX, &c.arena) < 0)
		return CLI_FAILED;
	c.self = find_self();
	r = dispatch(&c, argc - 1, argv + 1);
	cli_flush(&c);
	cli_http_done(&c);
	free(c.workspace);
	base_buf_done(&c.out);
	base_arena_free(c.arena);
	if (fflush(stdout) != 0 && r == CLI_OK)
		r = CLI_FAILED;
	return r;
}
