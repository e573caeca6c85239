#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli_int.h"

/* The command line, and the help that describes it. */

static const struct cli_option *option_named(const struct cli_command *cmd, const char *name, size_t len)
{
	const struct cli_option *lists[2] = {cmd->options, cli_common_options}, *o;
	unsigned i;

	for (i = 0; i < 2; i++)
		for (o = lists[i]; o && o->name; o++)
			if (strlen(o->name) == len && strncmp(o->name, name, len) == 0)
				return o;
	return NULL;
}

const char *cli_opt(const struct cli *c, const char *name)
{
	unsigned i = c->opt_count;

	while (i-- > 0)
		if (strcmp(c->opts[i].name, name) == 0)
			return c->opts[i].value;
	return NULL;
}

bool cli_flag(const struct cli *c, const char *name)
{
	return cli_opt(c, name) != NULL;
}

int cli_opt_u64(struct cli *c, const char *name, uint64_t *ret)
{
	const char *text = cli_opt(c, name);

	if (!text || base_str_u64(base_str_of(text), ret) == 0)
		return 0;
	return cli_usage(c, "--%s takes a whole number, not %s", name, text);
}

int cli_usage(struct cli *c, const char *fmt, ...)
{
	va_list ap;

	fputs("aios: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	if (c->command)
		fprintf(stderr, "\nusage: aios %s%s%s [OPTIONS]; see aios %s --help\n", c->command->name,
			*c->command->args ? " " : "", c->command->args, c->command->name);
	else
		fputs("; see aios --help\n", stderr);
	return CLI_USAGE;
}

static int keep(struct cli *c, struct cli_pair *list, unsigned *count, const char *name, const char *value)
{
	if (*count == CLI_OPTS_MAX)
		return cli_usage(c, "too many options");
	list[(*count)++] = (struct cli_pair){name, value};
	return 0;
}

/* "--name", "--name=value" or "--name value". */
static int long_option(struct cli *c, int argc, char **argv, int *at)
{
	const char *text = argv[*at] + 2, *eq = strchr(text, '=');
	size_t len = eq ? (size_t)(eq - text) : strlen(text);
	const struct cli_option *o = option_named(c->command, text, len);
	const char *value = eq ? eq + 1 : NULL;
	char *name;

	if (!o && !c->command->extra)
		return cli_usage(c, "there is no option --%.*s", (int)len, text);
	if (o && !o->value && eq)
		return cli_usage(c, "--%s takes no value", o->name);
	if ((!o || o->value) && !value) {
		if (*at + 1 >= argc)
			return cli_usage(c, "--%.*s needs a value", (int)len, text);
		value = argv[++*at];
	}
	if (o)
		return keep(c, c->opts, &c->opt_count, o->name, o->value ? value : "");
	name = (char *)(uintptr_t)base_arena_dup(c->arena, (struct base_str){text, len}).ptr;
	return name ? keep(c, c->extra, &c->extra_count, name, value) : CLI_FAILED;
}

static int short_option(struct cli *c, int argc, char **argv, int *at)
{
	const char *text = argv[*at];

	if (strcmp(text, "-h") == 0)
		return keep(c, c->opts, &c->opt_count, "help", "");
	if (strcmp(text, "-f") == 0 && option_named(c->command, "follow", 6))
		return keep(c, c->opts, &c->opt_count, "follow", "");
	if (strcmp(text, "-C") != 0)
		return cli_usage(c, "there is no option %s", text);
	if (*at + 1 >= argc)
		return cli_usage(c, "-C needs a folder");
	return keep(c, c->opts, &c->opt_count, "workspace", argv[++*at]);
}

/* "-1 + x" is an expression. */
static bool is_letter(char c)
{
	return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}

int cli_args_parse(struct cli *c, int argc, char **argv)
{
	bool options = true;
	int i, r;

	for (i = 0; i < argc; i++) {
		if (options && strcmp(argv[i], "--") == 0) {
			options = false;
			continue;
		}
		if (options && strncmp(argv[i], "--", 2) == 0)
			r = long_option(c, argc, argv, &i);
		else if (options && argv[i][0] == '-' && is_letter(argv[i][1]))
			r = short_option(c, argc, argv, &i);
		else if (c->arg_count == CLI_ARGS_MAX)
			r = cli_usage(c, "too many arguments");
		else {
			c->args[c->arg_count++] = argv[i];
			r = 0;
		}
		if (r != 0)
			return r;
	}
	if (cli_flag(c, "help"))
		return 0;
	if (c->arg_count < c->command->min)
		return cli_usage(c, "%s is missing", c->command->args);
	if (c->arg_count > c->command->max)
		return cli_usage(c, "%s is too much", c->args[c->command->max]);
	return 0;
}

/* --- help
 * ----------------------------------------------------------------------------------------------------------
 */

static void help_options(struct cli *c, const struct cli_option *o)
{
	for (; o && o->name; o++) {
		char text[64];

		snprintf(text, sizeof(text), "--%s%s%s", o->name, o->value ? " " : "",
			o->value ? o->value : "");
		cli_put(c, "  %-22s %s\n", text, o->what);
	}
}

static void help_line(struct cli *c, const struct cli_command *cmd)
{
	char text[80];

	snprintf(text, sizeof(text), "%s%s%s", cmd->name, *cmd->args ? " " : "", cmd->args);
	cli_put(c, "  %-24s %s\n", text, cmd->summary);
}

void cli_help_group(struct cli *c, const char *word)
{
	size_t i, n = strlen(word);

	cli_put(c, "usage: aios %s COMMAND [OPTIONS]\n\n", word);
	for (i = 0; cli_command_at(i); i++)
		if (strncmp(cli_command_at(i)->name, word, n) == 0 && cli_command_at(i)->name[n] == ' ')
			help_line(c, cli_command_at(i));
	cli_flush(c);
}

void cli_help(struct cli *c, const struct cli_command *cmd)
{
	size_t i;

	if (cmd) {
		cli_put(c, "usage: aios %s%s%s [OPTIONS]\n\n%s.\n", cmd->name, *cmd->args ? " " : "",
			cmd->args, cmd->summary);
		if (cmd->more)
			cli_put(c, "%s\n", cmd->more);
		cli_put(c, "\noptions:\n");
		help_options(c, cmd->options);
	} else {
		cli_put(c, "aios: the operating system of a one-person company\n\nusage: aios COMMAND "
			   "[OPTIONS]\n");
		for (i = 0; cli_command_at(i); i++) {
			if (cli_command_at(i)->heading)
				cli_put(c, "\n%s\n", cli_command_at(i)->heading);
			help_line(c, cli_command_at(i));
		}
		cli_put(c, "\noptions of every command:\n");
	}
	help_options(c, cli_common_options);
	if (!cmd)
		cli_put(c, "\nexit: 0 done, 1 refused or failed, 2 wrong usage, 3 aiosd does not run, 4 no "
			   "workspace\n");
	cli_flush(c);
}
