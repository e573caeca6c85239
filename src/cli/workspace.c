#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli_int.h"

/* Where the workspace is, and its sources. */

enum { SOURCE_MAX = 4 << 20, SOURCES_DEPTH = 8 };

static bool holds_config(const char *dir)
{
	char path[PATH_MAX];

	return snprintf(path, sizeof(path), "%s/aios.yaml", dir) < (int)sizeof(path) &&
	       access(path, F_OK) == 0;
}

int cli_workspace_find(struct cli *c, const char *given)
{
	char dir[PATH_MAX], *slash;

	if (!given && getenv("AIOS_WORKSPACE") && *getenv("AIOS_WORKSPACE"))
		given = getenv("AIOS_WORKSPACE");
	if (!realpath(given ? given : ".", dir))
		return CLI_NO_WORKSPACE;
	while (!holds_config(dir)) {
		slash = strrchr(dir, '/');
		if (given || !slash || slash == dir)
			return CLI_NO_WORKSPACE;
		*slash = '\0';
	}
	c->workspace = strdup(dir);
	return c->workspace ? 0 : CLI_NO_WORKSPACE;
}

const char *cli_in_workspace(struct cli *c, const char *name)
{
	struct base_str path = base_arena_printf(c->arena, "%s/%s", c->workspace, name);

	return path.ptr ? path.ptr : name;
}

int cli_read_file(const char *path, size_t max, struct base_buf *ret, struct base_err *err)
{
	int fd = strcmp(path, "-") == 0 ? dup(0) : open(path, O_RDONLY | O_CLOEXEC);
	char piece[65536];
	ssize_t n;

	if (fd < 0)
		return base_err_set(err, -errno, "%s: %s", path, strerror(errno));
	while ((n = read(fd, piece, sizeof(piece))) > 0) {
		base_buf_put(ret, piece, (size_t)n);
		if (ret->len > max || base_buf_failed(ret)) {
			close(fd);
			return base_err_set(err, -EFBIG, "%s: more than %zu bytes", path, max);
		}
	}
	close(fd);
	return n < 0 ? base_err_set(err, -errno, "%s: %s", path, strerror(errno)) : 0;
}

int cli_write_file(const char *path, struct base_str text, int mode, struct base_err *err)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode), r = 0;

	if (fd < 0)
		return base_err_set(err, -errno, "%s: %s", path, strerror(errno));
	while (text.len > 0 && r == 0) {
		ssize_t n = write(fd, text.ptr, text.len);

		if (n < 0)
			r = base_err_set(err, -errno, "%s: %s", path, strerror(errno));
		else
			text = base_str_sub(text, (size_t)n, text.len);
	}
	if (close(fd) < 0 && r == 0)
		r = base_err_set(err, -errno, "%s: %s", path, strerror(errno));
	return r;
}

static int add_file(struct cli *c, struct base_jw *w, const char *name, bool needed, struct base_err *err)
{
	struct base_buf text;
	const char *path = cli_in_workspace(c, name);
	int r;

	if (!needed && access(path, F_OK) < 0)
		return 0;
	base_buf_init(&text, SOURCE_MAX + 65536);
	r = cli_read_file(path, SOURCE_MAX, &text, err);
	if (r == 0 && !base_utf8_valid(base_buf_view(&text)))
		r = base_err_set(err, -EINVAL, "%s: not UTF-8 text", name);
	if (r == 0)
		base_jw_mstr(w, name, base_buf_view(&text));
	base_buf_done(&text);
	return r;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

/* Files of a folder whose names end so, in order of their names; with the folders in it where deep. */
static int add_folder(struct cli *c, struct base_jw *w, const char *folder, const char *suffix, unsigned deep,
	struct base_err *err)
{
	struct dirent **names;
	int i, r = 0, n = scandir(cli_in_workspace(c, folder), &names, NULL, by_name);

	if (n < 0)
		return errno == ENOENT ? 0 : base_err_set(err, -errno, "%s: %s", folder, strerror(errno));
	for (i = 0; i < n; i++) {
		const char *name = names[i]->d_name;
		const char *path = base_arena_printf(c->arena, "%s/%s", folder, name).ptr;
		struct stat st;

		if (r == 0 && name[0] != '.' && path && stat(cli_in_workspace(c, path), &st) == 0) {
			if (S_ISDIR(st.st_mode) && deep > 0)
				r = add_folder(c, w, path, suffix, deep - 1, err);
			else if (S_ISREG(st.st_mode) && base_str_ends(base_str_of(name), base_str_of(suffix)))
				r = add_file(c, w, path, true, err);
		}
		free(names[i]);
	}
	free(names);
	return r;
}

int cli_sources(struct cli *c, struct base_buf *ret, struct base_err *err)
{
	struct base_jw w = base_jw_of(ret);
	int r;

	base_jw_obj(&w);
	base_jw_key(&w, "files");
	base_jw_obj(&w);
	r = add_file(c, &w, "aios.yaml", true, err);
	if (r == 0)
		r = add_file(c, &w, "policy.yaml", false, err);
	if (r == 0)
		r = add_folder(c, &w, "policy", ".yaml", 0, err);
	if (r == 0)
		r = add_folder(c, &w, "flows", ".js", 0, err);
	if (r == 0)
		r = add_folder(c, &w, "lib", ".js", SOURCES_DEPTH, err);
	if (r == 0)
		r = add_folder(c, &w, "agents", ".md", 0, err);
	base_jw_end_obj(&w);
	base_jw_mbool(&w, "whole", true);
	base_jw_end_obj(&w);
	if (r == 0 && base_buf_failed(ret))
		r = base_err_set(err, base_buf_failed(ret), "the sources are too large");
	return r;
}
