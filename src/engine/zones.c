#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/engine_int.h"

/*
 * The rules of time zones, as this machine's files have them: read when something is deployed that names a zone, and when
 * aiosd starts. They go into the log with what was decided by them; the core reads nothing else.
 */

enum { ZONE_FILE_MAX = 64 << 10 };

static int read_zone(struct base_str name, struct base_buf *ret)
{
	const char *folder = getenv("TZDIR");
	char path[512], *room;
	ssize_t n = 1;
	int fd;

	if (snprintf(path, sizeof(path), "%s/%.*s", folder && *folder ? folder : "/usr/share/zoneinfo",
		    BASE_STR_ARG(name)) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	while (n > 0 && (room = base_buf_reserve(ret, 4096))) {
		n = read(fd, room, 4096);
		if (n > 0)
			base_buf_commit(ret, (size_t)n);
	}
	(void)close(fd);
	return n < 0 ? -EIO : base_buf_failed(ret);
}

void engine_zones_add(struct engine_zones *z, struct base_str name)
{
	struct base_buf *b = &z->text[z->count];

	if (z->count == ENGINE_ZONES_MAX || !core_zone_name_valid(name) || base_str_is(name, "UTC"))
		return;
	for (size_t i = 0; i < z->count; i++)
		if (base_str_eq(z->file[i].name, name))
			return;
	base_buf_init(b, ZONE_FILE_MAX);
	if (read_zone(name, b) < 0)
		base_buf_clear(b); /* the core says what is wrong, where it knows no better */
	z->file[z->count++] = (struct core_zone_file){.name = name, .file = base_buf_view(b)};
}

void engine_zones_add_spec(struct engine_zones *z, struct base_jv spec)
{
	struct base_jv_iter it = {0};
	struct base_str none;
	struct base_jv v;

	while (base_jv_next(base_jv_get(spec, "on"), &it, &none, &v))
		engine_zones_add(z, base_jv_str(base_jv_get(v, "tz")));
}

void engine_zones_done(struct engine_zones *z)
{
	for (size_t i = 0; i < z->count; i++)
		base_buf_done(&z->text[i]);
	z->count = 0;
}
