/* Paths that try to leave their folder, also while somebody exchanges folders for links behind the back of who looks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "connect/beneath.h"

struct folders {
	char top[64];
	int top_fd, root;
	atomic_bool stop;
	atomic_uint exchanged;
};

static void put(int dir, const char *path, const char *text)
{
	int fd = openat(dir, path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

/* TOP/root/real/f says in; TOP/outside/f says out; TOP/root/link leads to TOP/outside. */
static int set_up(void **state)
{
	struct folders *f = calloc(1, sizeof(*f));

	strcpy(f->top, "/tmp/beneath-XXXXXX");
	assert_non_null(mkdtemp(f->top));
	f->top_fd = open(f->top, O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(mkdirat(f->top_fd, "root", 0700), 0);
	assert_int_equal(mkdirat(f->top_fd, "outside", 0700), 0);
	assert_int_equal(mkdirat(f->top_fd, "root/real", 0700), 0);
	put(f->top_fd, "root/real/f", "in");
	put(f->top_fd, "outside/f", "out");
	assert_int_equal(symlinkat("../outside", f->top_fd, "root/link"), 0);
	f->root = openat(f->top_fd, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct folders *f = *state;
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", f->top);
	close(f->root);
	close(f->top_fd);
	assert_int_equal(system(command), 0);
	free(f);
	return 0;
}

static void *exchange(void *arg)
{
	struct folders *f = arg;

	while (!atomic_load(&f->stop))
		if (renameat2(f->root, "real", f->root, "link", RENAME_EXCHANGE) == 0)
			atomic_fetch_add(&f->exchanged, 1);
	return NULL;
}

/* What was opened is always within, or nothing. Until both have happened often. */
static void test_fault_67_symlink_race(void **state)
{
	struct folders *f = *state;
	unsigned opened = 0, refused = 0;
	struct base_err err;
	pthread_t thread;
	char text[8];

	assert_int_equal(pthread_create(&thread, NULL, exchange, f), 0);
	for (unsigned i = 0; i < 20000 || ((opened < 100 || refused < 100) && i < 2000000); i++) {
		int fd = beneath_open(f->root, BASE_STR("real/f"), O_RDONLY, 0, &err);

		if (fd < 0) {
			refused++;
			continue;
		}
		memset(text, 0, sizeof(text));
		assert_int_equal(read(fd, text, sizeof(text) - 1), 2);
		assert_string_equal(text, "in");
		close(fd);
		opened++;
		/* Writing and making folders neither. */
		fd = beneath_open(f->root, BASE_STR("real/new"), O_WRONLY | O_CREAT, 0600, &err);
		if (fd >= 0)
			close(fd);
		fd = beneath_mkdir(f->root, BASE_STR("real/a/b"), &err);
		if (fd >= 0)
			close(fd);
	}
	atomic_store(&f->stop, true);
	pthread_join(thread, NULL);
	assert_true(opened > 0 && refused > 0 && atomic_load(&f->exchanged) > 100);
	assert_int_equal(faccessat(f->top_fd, "outside/new", F_OK, 0), -1);
	assert_int_equal(faccessat(f->top_fd, "outside/a", F_OK, 0), -1);
}

static void test_fault_67_traversal(void **state)
{
	static const char *const paths[] = {"../outside/f", "real/../../outside/f", "link/f", "/etc/passwd",
		"real/../link/f", "./../outside/f", "link", "..", "real/f/../../../outside/f", "//etc/passwd",
		"/proc/self/root/etc/passwd"};
	struct folders *f = *state;
	struct base_err err;

	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		int fd = beneath_open(f->root, base_str_of(paths[i]), O_RDONLY, 0, &err);

		assert_true(fd < 0);
		fd = beneath_open(f->root, base_str_of(paths[i]), O_WRONLY | O_CREAT, 0600, &err);
		assert_true(fd < 0);
	}
	assert_true(beneath_open(f->root, (struct base_str){"real/f\0/x", 9}, O_RDONLY, 0, &err) < 0);
	assert_true(beneath_mkdir(f->root, BASE_STR("../made"), &err) < 0);
	assert_true(beneath_mkdir(f->root, BASE_STR("link/made"), &err) < 0);
	assert_int_equal(faccessat(f->top_fd, "made", F_OK, 0), -1);
	assert_int_equal(faccessat(f->top_fd, "outside/made", F_OK, 0), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_fault_67_traversal, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_fault_67_symlink_race, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
