#include "connect/maildir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "connect/beneath.h"

enum { NAME_LEN_MAX = 128 };

struct box {
	int top, tmp, new, cur; /* descriptors of the folders */
	char name[NAME_LEN_MAX];
};

static void box_close(struct box *b)
{
	const int fds[] = {b->top, b->tmp, b->new, b->cur};

	for (size_t i = 0; i < sizeof(fds) / sizeof(*fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

static int box_open(struct box *b, int root, struct base_str dir, struct base_str name, struct base_err *err)
{
	b->top = b->tmp = b->new = b->cur = -1;
	if (name.len >= NAME_LEN_MAX)
		return base_err_set(err, -ENAMETOOLONG, "the name of the mail is too long");
	memcpy(b->name, name.ptr, name.len);
	b->name[name.len] = 0;
	b->top = beneath_mkdir(root, dir, err);
	if (b->top < 0)
		return b->top;
	b->tmp = beneath_mkdir(b->top, BASE_STR("tmp"), err);
	b->new = b->tmp < 0 ? b->tmp : beneath_mkdir(b->top, BASE_STR("new"), err);
	b->cur = b->new < 0 ? b->new : beneath_mkdir(b->top, BASE_STR("cur"), err);
	if (b->cur < 0) {
		int r = b->cur;

		box_close(b);
		return r;
	}
	return 0;
}

/* Readers move mail from new/ to cur/ and put flags behind a ':'. Looking in new/ first and then in cur/
 * misses none. */
static int box_has(const struct box *b, struct base_err *err)
{
	struct base_str name = base_str_of(b->name), base, flags;
	struct dirent *e;
	DIR *d;
	int fd, found = 0;

	if (faccessat(b->new, b->name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return 1;
	fd = beneath_open(b->cur, BASE_STR("."), O_RDONLY | O_DIRECTORY, 0, err);
	if (fd < 0)
		return fd;
	d = fdopendir(fd);
	if (!d) {
		close(fd);
		return base_err_set(err, -ENOMEM, "cur: out of memory");
	}
	while (!found && (e = readdir(d))) {
		base_str_cut(base_str_of(e->d_name), ':', &base, &flags);
		found = base_str_eq(base, name);
	}
	closedir(d);
	return found;
}

static int write_temp(const struct box *b, const char *temp, struct base_str message)
{
	struct base_str line;
	struct base_buf text;
	int fd, r;

	base_buf_init(&text, message.len + 1);
	while (message.len) {
		bool more = base_str_cut(message, '\n', &line, &message);

		if (more && line.len && line.ptr[line.len - 1] == '\r')
			line.len--;
		base_buf_str(&text, line);
		if (more)
			base_buf_char(&text, '\n');
	}
	r = base_buf_failed(&text);
	fd = r < 0 ? r : beneath_open(b->tmp, base_str_of(temp), O_WRONLY | O_CREAT | O_EXCL, 0600, NULL);
	if (fd < 0) {
		base_buf_done(&text);
		return fd;
	}
	r = beneath_write(fd, base_buf_view(&text));
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	close(fd);
	base_buf_done(&text);
	return r;
}

static int deliver(const struct box *b, struct base_str message, bool *ret_already, struct base_err *err)
{
	char temp[BENEATH_TEMP_LEN];
	bool already;
	int r = box_has(b, err);

	if (r < 0)
		return r;
	already = r == 1;
	if (!already) {
		beneath_temp(temp);
		r = write_temp(b, temp, message);
		if (r == 0 && linkat(b->tmp, temp, b->new, b->name, 0) < 0) {
			already = errno == EEXIST;
			r = already ? 0 : -errno;
		}
		unlinkat(b->tmp, temp, 0);
		if (r < 0)
			return base_err_set(err, r, "cannot be written: %s", strerror(-r));
	}
	/* Also when it was there before: the attempt that put it there may have ended before its sync. */
	if (fsync(b->new) < 0)
		return base_err_set(err, -EIO, "the folder cannot be synced: %s", strerror(errno));
	*ret_already = already;
	return 0;
}

int maildir_deliver(int root, struct base_str dir, struct base_str name, struct base_str message,
	bool *ret_already, struct base_err *err)
{
	struct box b;
	int r = box_open(&b, root, dir, name, err);

	if (r == 0) {
		r = deliver(&b, message, ret_already, err);
		box_close(&b);
	}
	if (r < 0)
		base_err_prefix(err, "Maildir %.*s", BASE_STR_ARG(dir));
	return r;
}

int maildir_has(int root, struct base_str dir, struct base_str name, struct base_err *err)
{
	struct box b;
	int r = box_open(&b, root, dir, name, err);

	if (r == 0) {
		r = box_has(&b, err);
		box_close(&b);
	}
	if (r < 0)
		base_err_prefix(err, "Maildir %.*s", BASE_STR_ARG(dir));
	return r;
}
