#include <string.h>

#include "cli/cli_int.h"

/* Completion, made from the table of commands. */

/* First words once: "memory", "run", … */
static void put_first_words(struct cli *c)
{
	size_t i, n, last_n = 0;
	const char *last = "";

	for (i = 0; cli_command_at(i); i++) {
		const char *name = cli_command_at(i)->name;

		n = strcspn(name, " ");
		if (n == last_n && strncmp(name, last, n) == 0)
			continue;
		cli_put(c, "%s%.*s", i ? " " : "", (int)n, name);
		last = name;
		last_n = n;
	}
}

static void put_second_words(struct cli *c, const char *word, size_t n)
{
	const char *between = "";
	size_t i;

	for (i = 0; cli_command_at(i); i++) {
		const char *name = cli_command_at(i)->name;

		if (strncmp(name, word, n) == 0 && name[n] == ' ') {
			cli_put(c, "%s%s", between, name + n + 1);
			between = " ";
		}
	}
}

static void put_options(struct cli *c, const struct cli_command *cmd)
{
	const struct cli_option *o;

	for (o = cmd->options; o && o->name; o++)
		cli_put(c, "--%s ", o->name);
	for (o = cli_common_options; o->name; o++)
		cli_put(c, "--%s%s", o->name, o[1].name ? " " : "");
}

/* The command that is the first word alone, or NULL: "flows" beside "flows rehearse". */
static const struct cli_command *alone(const char *word, size_t n)
{
	for (size_t i = 0; cli_command_at(i); i++)
		if (strncmp(cli_command_at(i)->name, word, n) == 0 && cli_command_at(i)->name[n] == '\0')
			return cli_command_at(i);
	return NULL;
}

static bool has_group(const char *word)
{
	size_t n = strlen(word);

	for (size_t i = 0; cli_command_at(i); i++)
		if (strncmp(cli_command_at(i)->name, word, n) == 0 && cli_command_at(i)->name[n] == ' ')
			return true;
	return false;
}

static bool starts_group(size_t i)
{
	const char *name = cli_command_at(i)->name;
	size_t n = strcspn(name, " ");

	if (name[n] == '\0')
		return false;
	return i == 0 || strncmp(cli_command_at(i - 1)->name, name, n + 1) != 0;
}

static void bash(struct cli *c)
{
	size_t i;

	cli_put(c,
		"_aios() {\n\tlocal cur=${COMP_WORDS[COMP_CWORD]} one=${COMP_WORDS[1]} two=${COMP_WORDS[2]}\n"
		"\tlocal words=\n\tif [ \"$COMP_CWORD\" -eq 1 ]; then\n\t\twords=\"");
	put_first_words(c);
	cli_put(c, "\"\n\telse\n\t\tcase \"$one $two\" in\n");
	for (i = 0; cli_command_at(i); i++) {
		const char *name = cli_command_at(i)->name;

		if (strchr(name, ' ')) {
			cli_put(c, "\t\t\"%s\") words=\"", name);
			put_options(c, cli_command_at(i));
			cli_put(c, "\" ;;\n");
		}
	}
	for (i = 0; cli_command_at(i); i++) {
		const char *name = cli_command_at(i)->name;
		int n = (int)strcspn(name, " ");

		if (starts_group(i)) {
			cli_put(c, "\t\t\"%.*s \"*) words=\"", n, name);
			put_second_words(c, name, (size_t)n);
			if (alone(name, (size_t)n)) {
				cli_put(c, " ");
				put_options(c, alone(name, (size_t)n));
			}
			cli_put(c, "\" ;;\n");
		} else if (!strchr(name, ' ') && !has_group(name)) {
			cli_put(c, "\t\t\"%s \"*) words=\"", name);
			put_options(c, cli_command_at(i));
			cli_put(c, "\" ;;\n");
		}
	}
	cli_put(c, "\t\tesac\n\tfi\n\tCOMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
		   "\t[ ${#COMPREPLY[@]} -gt 0 ] || COMPREPLY=($(compgen -f -- \"$cur\"))\n}\ncomplete -F "
		   "_aios aios\n");
}

/* In single quotes of fish. */
static void put_quoted(struct cli *c, const char *text)
{
	cli_put(c, "'");
	for (; *text; text++)
		cli_put(c, *text == '\'' || *text == '\\' ? "\\%c" : "%c", *text);
	cli_put(c, "'\n");
}

static void fish(struct cli *c)
{
	const struct cli_option *o;
	size_t i;

	for (i = 0; cli_command_at(i); i++) {
		const struct cli_command *cmd = cli_command_at(i);
		int n = (int)strcspn(cmd->name, " ");

		if (cmd->name[n] == '\0') {
			cli_put(c, "complete -c aios -f -n __fish_use_subcommand -a %s -d ", cmd->name);
			put_quoted(c, cmd->summary);
		} else {
			if (starts_group(i))
				cli_put(c, "complete -c aios -f -n __fish_use_subcommand -a %.*s\n", n,
					cmd->name);
			cli_put(c, "complete -c aios -f -n '__fish_seen_subcommand_from %.*s' -a %s -d ", n,
				cmd->name, cmd->name + n + 1);
			put_quoted(c, cmd->summary);
		}
		for (o = cmd->options; o && o->name; o++) {
			cli_put(c, "complete -c aios -n '__fish_seen_subcommand_from %s' -l %s%s -d ",
				cmd->name[n] ? cmd->name + n + 1 : cmd->name, o->name, o->value ? " -r" : "");
			put_quoted(c, o->what);
		}
	}
}

int cmd_completion(struct cli *c)
{
	const char *shell = c->args[0];

	if (strcmp(shell, "bash") == 0) {
		bash(c);
	} else if (strcmp(shell, "zsh") == 0) {
		cli_put(c, "autoload -U +X bashcompinit && bashcompinit\n");
		bash(c);
	} else if (strcmp(shell, "fish") == 0) {
		fish(c);
	} else {
		return cli_usage(c, "completion is for bash, zsh or fish");
	}
	return CLI_OK;
}
