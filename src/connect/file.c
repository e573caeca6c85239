#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "connect/beneath.h"
#include "connect/connect_int.h"

/* file.read, file.write, file.list: only below the workspace's files folder (beneath.h). */

enum { FILE_MAX = 8 << 20, FILE_DEFAULT = 4 << 20, LIST_MAX = 10000 };

/* A full disk or a failing one may be better later; everything else stays as it is. */
static void fail_errno(struct connect_call *call, int code, const char *text)
{
	bool later = code == -EIO || code == -ENOSPC || code == -EDQUOT || code == -EMFILE ||
		     code == -ENFILE || code == -ENOMEM || code == -EAGAIN;
	const char *name = code == -ENOENT		      ? "not_found"
			   : code == -EXDEV || code == -ELOOP ? "denied"
							      : "failed";

	connect_fail(call, later ? WIRE_RETRY : WIRE_FAILED, name, "%s", text);
}

static bool root_of(struct connect_call *call, int *ret)
{
	if (call->c->files_fd < 0) {
		connect_fail(
			call, WIRE_FAILED, "failed", "the workspace has no files folder that can be opened");
		return false;
	}
	*ret = call->c->files_fd;
	return true;
}

/* Reads a regular file of at most `max` bytes. */
static int read_all(
	int fd, struct base_str path, struct base_buf *ret, struct stat *ret_stat, struct base_err *err)
{
	if (fstat(fd, ret_stat) < 0)
		return base_err_set(err, -errno, "%.*s: %s", BASE_STR_ARG(path), strerror(errno));
	if (!S_ISREG(ret_stat->st_mode))
		return base_err_set(err, -EINVAL, "%.*s: not a regular file", BASE_STR_ARG(path));
	if ((uint64_t)ret_stat->st_size > ret->cap)
		return base_err_set(err, -EFBIG, "%.*s: %lld bytes, more than the limit of %zu",
			BASE_STR_ARG(path), (long long)ret_stat->st_size, ret->cap);
	for (;;) {
		char chunk[65536];
		ssize_t n = read(fd, chunk, sizeof(chunk));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return base_err_set(err, -errno, "%.*s: %s", BASE_STR_ARG(path), strerror(errno));
		if (n == 0)
			return 0;
		base_buf_put(ret, chunk, (size_t)n);
		if (base_buf_failed(ret))
			return base_err_set(err, -EFBIG, "%.*s: larger than the limit of %zu bytes",
				BASE_STR_ARG(path), ret->cap);
	}
}

/* Fills `ret` (initialised with its cap) or ends the call. */
static bool load(struct connect_call *call, struct base_str path, struct base_buf *ret, struct stat *ret_stat)
{
	struct base_err err = {0};
	int root, fd, r;

	if (!root_of(call, &root))
		return false;
	fd = beneath_open(root, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, &err);
	if (fd < 0) {
		fail_errno(call, fd, err.text);
		return false;
	}
	r = read_all(fd, path, ret, ret_stat, &err);
	close(fd);
	if (r < 0)
		fail_errno(call, r, err.text);
	return r == 0;
}

static int64_t modified_ms(const struct stat *st)
{
	return (int64_t)st->st_mtim.tv_sec * 1000 + st->st_mtim.tv_nsec / 1000000;
}

void connect_file_read(struct connect_call *call)
{
	struct base_str path = base_jv_str(base_jv_get(call->args, "path"));
	int64_t max = base_jv_int(base_jv_get(call->args, "max_bytes"), FILE_DEFAULT);
	struct base_buf bytes, value;
	struct base_jw w;
	struct stat st;

	base_buf_init(&bytes, max < 1 || max > FILE_MAX ? FILE_MAX : (size_t)max);
	if (!load(call, path, &bytes, &st)) {
		base_buf_done(&bytes);
		return;
	}
	base_buf_init(&value, CONNECT_VALUE_MAX);
	w = base_jw_of(&value);
	base_jw_obj(&w);
	base_jw_mstr(&w, "path", path);
	if (base_utf8_valid(base_buf_view(&bytes))) {
		base_jw_mstr(&w, "text", base_buf_view(&bytes));
		base_jw_mbool(&w, "base64", false);
	} else {
		base_jw_key(&w, "text");
		base_jw_raw(&w, BASE_STR("\""));
		base_b64_put(&value, base_buf_view(&bytes));
		base_buf_char(&value, '"');
		base_jw_mbool(&w, "base64", true);
	}
	base_jw_mint(&w, "size", (int64_t)bytes.len);
	base_jw_mint(&w, "modified_ms", modified_ms(&st));
	base_jw_end_obj(&w);
	base_buf_done(&bytes);
	connect_done(call, &value);
	base_buf_done(&value);
}

/* The bytes go to aios-parse. */
static void read_feed_file(struct connect_call *call, struct base_str path)
{
	struct base_buf bytes;
	struct stat st;

	base_buf_init(&bytes, FILE_MAX);
	if (load(call, path, &bytes, &st))
		connect_finish(call, &(struct connect_result){.outcome = WIRE_DONE,
					     .value = BASE_STR("{}"),
					     .parse = "feed",
					     .raw = base_buf_view(&bytes)});
	base_buf_done(&bytes);
}

void connect_feed_read(struct connect_call *call)
{
	struct base_jv file = base_jv_get(call->args, "file");

	if (base_jv_kind(file) == BASE_JSON_STR)
		read_feed_file(call, base_jv_str(file));
	else
		connect_http_get(call);
}

void connect_file_write(struct connect_call *call)
{
	struct base_str path = base_jv_str(base_jv_get(call->args, "path"));
	struct base_str text = base_jv_str(base_jv_get(call->args, "text"));
	struct base_str parent, leaf;
	struct base_err err = {0};
	struct base_buf value;
	char name[NAME_MAX + 1];
	int root, dir, r;

	if (!root_of(call, &root))
		return;
	r = beneath_split(path, &parent, &leaf, &err);
	dir = r < 0 ? r : beneath_mkdir(root, parent, &err);
	if (dir < 0) {
		fail_errno(call, dir, err.text);
		return;
	}
	memcpy(name, leaf.ptr, leaf.len);
	name[leaf.len] = 0;
	r = beneath_replace(dir, name, text);
	close(dir);
	if (r < 0) {
		base_err_set(&err, r, "%.*s: %s", BASE_STR_ARG(path), strerror(-r));
		fail_errno(call, r, err.text);
		return;
	}
	base_buf_init(&value, 64 << 10);
	base_buf_cstr(&value, "{\"path\":");
	base_json_quote(&value, path);
	base_buf_printf(&value, ",\"size\":%zu}", text.len);
	connect_done(call, &value);
	base_buf_done(&value);
}

static int is_shown(const struct dirent *e)
{
	struct base_str name = base_str_of(e->d_name);

	return !base_str_is(name, ".") && !base_str_is(name, "..") &&
	       !base_str_starts(name, BASE_STR(".aios-")) && base_utf8_valid(name);
}

static void put_entry(struct base_jw *w, int dir, const char *name)
{
	struct stat st;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return; /* gone meanwhile */
	base_jw_obj(w);
	base_jw_mcstr(w, "name", name);
	base_jw_mcstr(w, "kind", S_ISREG(st.st_mode) ? "file" : S_ISDIR(st.st_mode) ? "dir" : "other");
	base_jw_mint(w, "size", S_ISREG(st.st_mode) ? (int64_t)st.st_size : 0);
	base_jw_mint(w, "modified_ms", modified_ms(&st));
	base_jw_end_obj(w);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The names in `dir` in bytewise order. -EFBIG over LIST_MAX; the arena owns them. */
static int names_of(struct connect_call *call, int dir, char ***ret, size_t *ret_count)
{
	char **names = base_arena_array(call->arena, LIST_MAX, sizeof(*names));
	DIR *d = fdopendir(dup(dir));
	struct dirent *e;
	size_t count = 0;
	int r = 0;

	if (!d || !names)
		return -ENOMEM;
	while (r == 0 && (e = readdir(d))) {
		if (!is_shown(e))
			continue;
		if (count == LIST_MAX)
			r = -EFBIG;
		else if (!(names[count++] = (char *)(uintptr_t)base_arena_dup(
				   call->arena, base_str_of(e->d_name))
						    .ptr))
			r = -ENOMEM;
	}
	closedir(d);
	if (r < 0)
		return r;
	qsort(names, count, sizeof(*names), by_name);
	*ret = names;
	*ret_count = count;
	return 0;
}

void connect_file_list(struct connect_call *call)
{
	struct base_str path = base_jv_str(base_jv_get(call->args, "path"));
	struct base_err err = {0};
	struct base_buf value;
	struct base_jw w;
	char **names;
	size_t count;
	int root, dir, r;

	if (!root_of(call, &root))
		return;
	dir = beneath_open(root, path.len ? path : BASE_STR("."), O_RDONLY | O_DIRECTORY, 0, &err);
	if (dir < 0) {
		fail_errno(call, dir, err.text);
		return;
	}
	r = names_of(call, dir, &names, &count);
	if (r < 0) {
		close(dir);
		base_err_set(&err, r, "%.*s: %s", BASE_STR_ARG(path),
			r == -EFBIG ? "holds more than 10,000 files; list a smaller folder" : strerror(-r));
		fail_errno(call, r, err.text);
		return;
	}
	base_buf_init(&value, CONNECT_VALUE_MAX);
	w = base_jw_of(&value);
	base_jw_obj(&w);
	base_jw_mstr(&w, "path", path);
	base_jw_key(&w, "items");
	base_jw_arr(&w);
	for (size_t i = 0; i < count; i++)
		put_entry(&w, dir, names[i]);
	base_jw_end_arr(&w);
	base_jw_end_obj(&w);
	close(dir);
	connect_done(call, &value);
	base_buf_done(&value);
}
