#include "fixture.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/codec.h"

void fixture_dir(char *ret, size_t size)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(ret, size, "%s/aios-test-XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(ret));
}

void fixture_remove(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *e;

	while (d && (e = readdir(d))) {
		char below[600];

		if (unlinkat(dirfd(d), e->d_name, 0) == 0 || e->d_name[0] == '.')
			continue;
		snprintf(below, sizeof(below), "%s/%s", dir, e->d_name);
		fixture_remove(below);
	}
	if (d)
		closedir(d);
	rmdir(dir);
}

void fixture_event(struct base_buf *block, uint64_t seq, size_t len)
{
	struct base_buf event;

	base_buf_init(&event, SIZE_MAX);
	base_buf_printf(&event, "event %llu ", (unsigned long long)seq);
	for (size_t i = event.len; i < len; i++)
		base_buf_char(&event, (char)(seq + i * 7));
	base_put_str(block, base_buf_view(&event));
	base_buf_done(&event);
}

int fixture_append(struct log *l, unsigned count, size_t len, const struct log_body *bodies,
	size_t body_count, struct base_err *err)
{
	struct log_commit c = {.first_seq = log_last_seq(l) + 1, .count = count};
	struct base_buf block;
	int r;

	base_buf_init(&block, SIZE_MAX);
	for (unsigned i = 0; i < count; i++)
		fixture_event(&block, c.first_seq + i, len);
	c.time_ms = (int64_t)c.first_seq * 1000;
	c.block = base_buf_view(&block);
	r = log_append(l, &c, bodies, body_count, err);
	base_buf_done(&block);
	return r;
}

void fixture_check(const struct log_commit *c, size_t len)
{
	struct base_buf block;

	base_buf_init(&block, SIZE_MAX);
	for (unsigned i = 0; i < c->count; i++)
		fixture_event(&block, c->first_seq + i, len);
	assert_int_equal(block.len, c->block.len);
	assert_memory_equal(block.ptr, c->block.ptr, block.len);
	assert_int_equal(c->time_ms, (int64_t)c->first_seq * 1000);
	base_buf_done(&block);
}

struct log_body fixture_body(struct base_str data)
{
	return (struct log_body){.hash = base_hash_of(data), .data = data};
}
