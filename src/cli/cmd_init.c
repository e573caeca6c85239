#include <dirent.h>
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli_int.h"

/* A new workspace: from the templates in this binary, or a copy of an example. */

enum { COPY_DEPTH = 16, COPY_FILE_MAX = 64 << 20 };

/* Makes the folders that lead to path. */
static int make_parents(const char *path)
{
	char part[PATH_MAX];
	char *slash;

	if (strlen(path) >= sizeof(part))
		return -ENAMETOOLONG;
	strcpy(part, path);
	for (slash = strchr(part + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdir(part, 0777) < 0 && errno != EEXIST)
			return -errno;
		*slash = '/';
	}
	return 0;
}

static int put_file(struct cli *c, const char *path, struct base_str text, unsigned *made)
{
	struct base_err err;
	int r = make_parents(path);

	if (r == 0)
		r = cli_write_file(path, text, 0666, &err);
	else
		base_err_set(&err, r, "%s: %s", path, strerror(-r));
	if (r == -EEXIST) {
		if (!c->json)
			fprintf(stderr, "aios: %s is there already; left as it is\n", path);
		return 0;
	}
	if (r < 0)
		return cli_fail(c, "%s", err.text);
	(*made)++;
	return 0;
}

static void put_name(struct base_buf *b, const char *name, struct base_str text)
{
	const char *at = memmem(text.ptr, text.len, "%NAME%", 6);

	if (!at) {
		base_buf_str(b, text);
		return;
	}
	base_buf_put(b, text.ptr, (size_t)(at - text.ptr));
	base_json_quote(b, base_str_of(name)); /* a JSON string is YAML too */
	base_buf_put(b, at + 6, text.len - (size_t)(at - text.ptr) - 6);
}

static int from_templates(struct cli *c, const char *dir, const char *name, unsigned *made)
{
	const struct cli_template *t;
	int r = 0;

	for (t = cli_templates; t->name && r == 0; t++) {
		const char *path = base_arena_printf(c->arena, "%s/%s", dir, t->name).ptr;
		struct base_buf text;

		base_buf_init(&text, 1 << 20);
		put_name(&text, name, (struct base_str){t->text, t->len});
		r = path ? put_file(c, path, base_buf_view(&text), made) : cli_fail(c, "out of memory");
		base_buf_done(&text);
	}
	return r;
}

/* Folders and plain files; what starts with a dot (an example's own .aios above all) stays behind. */
static int copy_folder(struct cli *c, const char *from, const char *to, unsigned depth, unsigned *made)
{
	DIR *d = opendir(from);
	struct dirent *e;
	int r = 0;

	if (!d)
		return cli_fail(c, "%s: %s", from, strerror(errno));
	while (r == 0 && (e = readdir(d))) {
		const char *a = base_arena_printf(c->arena, "%s/%s", from, e->d_name).ptr;
		const char *b = base_arena_printf(c->arena, "%s/%s", to, e->d_name).ptr;
		struct base_buf text;
		struct base_err err;
		struct stat st;

		if (e->d_name[0] == '.' || !a || !b || lstat(a, &st) < 0)
			continue;
		if (S_ISDIR(st.st_mode) && depth > 0) {
			r = copy_folder(c, a, b, depth - 1, made);
		} else if (S_ISREG(st.st_mode)) {
			base_buf_init(&text, COPY_FILE_MAX + 65536);
			if (cli_read_file(a, COPY_FILE_MAX, &text, &err) < 0)
				r = cli_fail(c, "%s", err.text);
			else
				r = put_file(c, b, base_buf_view(&text), made);
			base_buf_done(&text);
		}
	}
	closedir(d);
	return r;
}

static int write_types(struct cli *c, const char *dir, unsigned *made)
{
	const struct cli_template *t;
	const char *path = base_arena_printf(c->arena, "%s/aios.d.ts", dir).ptr;

	for (t = cli_templates; t->name; t++)
		if (path && strcmp(t->name, "aios.d.ts") == 0)
			return access(path, F_OK) == 0
				       ? 0
				       : put_file(c, path, (struct base_str){t->text, t->len}, made);
	return 0;
}

void cli_types(struct cli *c)
{
	const char *path = cli_in_workspace(c, "aios.d.ts");
	const struct cli_template *t;
	struct base_buf now;
	struct base_err err;

	for (t = cli_templates; t->name; t++) {
		if (strcmp(t->name, "aios.d.ts") != 0)
			continue;
		base_buf_init(&now, 4 << 20);
		if (cli_read_file(path, 1 << 20, &now, &err) < 0 ||
			!base_str_eq(base_buf_view(&now), (struct base_str){t->text, t->len})) {
			unlink(path);
			if (cli_write_file(path, (struct base_str){t->text, t->len}, 0666, &err) < 0)
				cli_fail(c, "%s", err.text); /* editors miss their types; nothing else does */
		}
		base_buf_done(&now);
	}
}

int cmd_init(struct cli *c)
{
	const char *from = cli_opt(c, "from"), *dir = c->args[0], *name = cli_opt(c, "name");
	char copy[PATH_MAX + 16], real[PATH_MAX];
	unsigned made = 0;
	int r;

	if (strlen(dir) + 64 >= sizeof(copy))
		return cli_usage(c, "the folder's name is too long");
	snprintf(copy, sizeof(copy), "%s/.", dir);
	if (make_parents(copy) < 0)
		return cli_fail(c, "%s: %s", dir, strerror(errno));
	if (!realpath(dir, real))
		return cli_fail(c, "%s: %s", dir, strerror(errno));
	strcpy(copy, real);
	r = from ? copy_folder(c, from, real, COPY_DEPTH, &made)
		 : from_templates(c, real, name ? name : basename(copy), &made);
	if (r == 0)
		r = write_types(c, real, &made);
	snprintf(copy, sizeof(copy), "%s/aios.yaml", real);
	if (r == 0 && access(copy, F_OK) < 0)
		return cli_fail(c, "%s holds no aios.yaml: it is no workspace", from ? from : dir);
	snprintf(copy, sizeof(copy), "%s/files/.", real);
	if (r == 0 && make_parents(copy) < 0)
		return cli_fail(c, "%s: %s", copy, strerror(errno));
	if (r != 0)
		return r;
	if (c->json) {
		struct base_jw w = base_jw_of(&c->out);

		base_jw_obj(&w);
		base_jw_mcstr(&w, "workspace", real);
		base_jw_mint(&w, "files", made);
		base_jw_end_obj(&w);
		cli_put(c, "\n");
	} else {
		cli_put(c, "%u files in ", made);
		cli_text(c, base_str_of(real));
		cli_put(c, "\nnext: cd there, then aios up, aios deploy, aios run FLOW\n");
	}
	return CLI_OK;
}
