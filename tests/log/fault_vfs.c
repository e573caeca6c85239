#include "fault_vfs.h"

#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/prng.h"

enum { FILES = 16, SECTOR = 512 };

struct change {
	struct change *next;
	bool truncate;
	size_t at, len; /* truncate: the new size is `at` */
	char data[];
};

struct image {
	char name[64]; /* without the folder; empty: free */
	char *data;    /* what is surely on the disk */
	size_t len, size;
	struct change *first, **last; /* since then */
};

struct file {
	sqlite3_file base;
	sqlite3_io_methods methods;
	struct image *image; /* NULL: not watched */
	sqlite3_file *real;  /* behind this struct */
};

static struct image images[FILES];
static unsigned sync_in, write_in, read_in;
static bool happened, watching = true;
static sqlite3_vfs vfs, *below;

static struct file *file_of(sqlite3_file *f)
{
	return (struct file *)(void *)f;
}

/* --- images --- */

static void image_apply(struct image *m, const struct change *c, size_t len)
{
	size_t end = c->at + (c->truncate ? 0 : len);

	if (end > m->size) {
		m->size = end * 2;
		m->data = realloc(m->data, m->size);
		assert_non_null(m->data);
	}
	if (end > m->len)
		memset(m->data + m->len, 0, end - m->len);
	if (end > m->len || c->truncate)
		m->len = end;
	if (!c->truncate)
		memcpy(m->data + c->at, c->data, len);
}

static void image_drop(struct image *m)
{
	while (m->first) {
		struct change *c = m->first;

		m->first = c->next;
		free(c);
	}
	m->last = &m->first;
}

static void image_sync(struct image *m)
{
	for (struct change *c = m->first; c; c = c->next)
		image_apply(m, c, c->len);
	image_drop(m);
}

static void image_note(struct image *m, bool truncate, size_t at, const void *data, size_t len)
{
	struct change *c = malloc(sizeof(*c) + len);

	assert_non_null(c);
	*c = (struct change){.truncate = truncate, .at = at, .len = len};
	if (len)
		memcpy(c->data, data, len);
	*m->last = c;
	m->last = &c->next;
}

static struct image *image_of(const char *path)
{
	const char *name = strrchr(path, '/');
	struct image *empty = NULL;

	name = name ? name + 1 : path;
	for (size_t i = 0; i < FILES; i++) {
		if (strcmp(images[i].name, name) == 0)
			return &images[i];
		if (!images[i].name[0] && !empty)
			empty = &images[i];
	}
	assert_non_null(empty);
	assert_true(snprintf(empty->name, sizeof(empty->name), "%s", name) < (int)sizeof(empty->name));
	empty->last = &empty->first;
	return empty;
}

void fault_reset(void)
{
	for (size_t i = 0; i < FILES; i++) {
		image_drop(&images[i]);
		free(images[i].data);
		memset(&images[i], 0, sizeof(images[i]));
	}
	sync_in = write_in = read_in = 0;
	happened = false;
}

/* The disk was in the middle of it: what stands there is neither the old nor the new. */
static void trash(struct image *m, struct change *c, struct base_prng *p)
{
	for (size_t i = 0; i < c->len; i++)
		c->data[i] = (char)base_prng_next(p);
	image_apply(m, c, c->len);
}

/* What remains of the changes: each there, gone, torn or trashed. A disk that writes in another order leaves nothing that
 * is not among these: of two writes to one place, the later one gone. */
static void cut(struct image *m, struct base_prng *p)
{
	for (struct change *c = m->first; c; c = c->next) {
		uint64_t fate = base_prng_below(p, 5);
		struct change *copy;

		if (fate == 0) {
			image_apply(m, c, (size_t)base_prng_below(p, c->len / SECTOR + 1) * SECTOR);
		} else if (fate < 3) {
			image_apply(m, c, c->len);
		} else if (fate == 3 && !c->truncate) {
			copy = malloc(sizeof(*copy) + c->len);
			assert_non_null(copy);
			*copy = *c;
			trash(m, copy, p);
			free(copy);
		}
	}
}

void fault_power_cut(const char *dir, uint64_t seed)
{
	struct base_prng p = base_prng_of_u64(seed);

	for (size_t i = 0; i < FILES; i++) {
		struct image *m = &images[i], copy = *m;
		char path[1024];
		FILE *f;

		if (!m->name[0])
			continue;
		copy.data = malloc(m->len + 1);
		copy.size = m->len + 1;
		assert_non_null(copy.data);
		if (m->len)
			memcpy(copy.data, m->data, m->len);
		cut(&copy, &p);
		assert_true(snprintf(path, sizeof(path), "%s/%s", dir, m->name) < (int)sizeof(path));
		f = fopen(path, "w");
		assert_non_null(f);
		assert_int_equal(fwrite(copy.data, 1, copy.len, f), copy.len);
		assert_int_equal(fclose(f), 0);
		free(copy.data);
	}
}

void fault_watch(bool on)
{
	watching = on;
}

/* --- failures --- */

void fault_sync(unsigned n)
{
	sync_in = n;
	happened = false;
}

void fault_write(unsigned n)
{
	write_in = n;
	happened = false;
}

void fault_read(unsigned n)
{
	read_in = n;
	happened = false;
}

bool fault_happened(void)
{
	return happened;
}

static bool due(unsigned *in)
{
	if (*in == 0 || --*in > 0)
		return false;
	happened = true;
	return true;
}

/* --- files --- */

static int f_close(sqlite3_file *f)
{
	struct file *m = file_of(f);

	return m->real->pMethods ? m->real->pMethods->xClose(m->real) : SQLITE_OK;
}

static int f_read(sqlite3_file *f, void *to, int n, sqlite3_int64 at)
{
	struct file *m = file_of(f);

	if (m->image && due(&read_in))
		return SQLITE_IOERR_READ;
	return m->real->pMethods->xRead(m->real, to, n, at);
}

static int f_write(sqlite3_file *f, const void *from, int n, sqlite3_int64 at)
{
	struct file *m = file_of(f);
	int rc;

	if (m->image && due(&write_in))
		return SQLITE_FULL;
	rc = m->real->pMethods->xWrite(m->real, from, n, at);
	if (rc == SQLITE_OK && m->image)
		image_note(m->image, false, (size_t)at, from, (size_t)n);
	return rc;
}

static int f_truncate(sqlite3_file *f, sqlite3_int64 size)
{
	struct file *m = file_of(f);
	int rc = m->real->pMethods->xTruncate(m->real, size);

	if (rc == SQLITE_OK && m->image)
		image_note(m->image, true, (size_t)size, NULL, 0);
	return rc;
}

/* The real disk is not made to sync: the images are the disk here. */
static int f_sync(sqlite3_file *f, int flags)
{
	struct file *m = file_of(f);

	(void)flags;
	if (m->image && due(&sync_in))
		return SQLITE_IOERR_FSYNC;
	if (m->image)
		image_sync(m->image);
	return SQLITE_OK;
}

static int f_size(sqlite3_file *f, sqlite3_int64 *ret)
{
	struct file *m = file_of(f);

	return m->real->pMethods->xFileSize(m->real, ret);
}

static int f_lock(sqlite3_file *f, int level)
{
	struct file *m = file_of(f);

	return m->real->pMethods->xLock(m->real, level);
}

static int f_unlock(sqlite3_file *f, int level)
{
	struct file *m = file_of(f);

	return m->real->pMethods->xUnlock(m->real, level);
}

static int f_reserved(sqlite3_file *f, int *ret)
{
	struct file *m = file_of(f);

	return m->real->pMethods->xCheckReservedLock(m->real, ret);
}

/* Growing by chunks goes behind xWrite: not passed on, so that the images see every byte. */
static int f_control(sqlite3_file *f, int op, void *arg)
{
	struct file *m = file_of(f);

	if (op == SQLITE_FCNTL_CHUNK_SIZE || op == SQLITE_FCNTL_SIZE_HINT)
		return SQLITE_OK;
	return m->real->pMethods->xFileControl(m->real, op, arg);
}

static int f_sector(sqlite3_file *f)
{
	struct file *m = file_of(f);

	return m->real->pMethods->xSectorSize(m->real);
}

static int f_device(sqlite3_file *f)
{
	struct file *m = file_of(f);

	return m->real->pMethods->xDeviceCharacteristics(m->real);
}

static int f_shm_map(sqlite3_file *f, int page, int size, int extend, void volatile **ret)
{
	struct file *m = file_of(f);

	return m->real->pMethods->xShmMap(m->real, page, size, extend, ret);
}

static int f_shm_lock(sqlite3_file *f, int at, int n, int flags)
{
	struct file *m = file_of(f);

	return m->real->pMethods->xShmLock(m->real, at, n, flags);
}

static void f_shm_barrier(sqlite3_file *f)
{
	struct file *m = file_of(f);

	m->real->pMethods->xShmBarrier(m->real);
}

static int f_shm_unmap(sqlite3_file *f, int remove)
{
	struct file *m = file_of(f);

	return m->real->pMethods->xShmUnmap(m->real, remove);
}

static const sqlite3_io_methods methods = {
	.iVersion = 2,
	.xClose = f_close,
	.xRead = f_read,
	.xWrite = f_write,
	.xTruncate = f_truncate,
	.xSync = f_sync,
	.xFileSize = f_size,
	.xLock = f_lock,
	.xUnlock = f_unlock,
	.xCheckReservedLock = f_reserved,
	.xFileControl = f_control,
	.xSectorSize = f_sector,
	.xDeviceCharacteristics = f_device,
	.xShmMap = f_shm_map,
	.xShmLock = f_shm_lock,
	.xShmBarrier = f_shm_barrier,
	.xShmUnmap = f_shm_unmap,
};

static int v_open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *ret_flags)
{
	struct file *m = file_of(f);
	int rc;

	(void)v;
	memset(m, 0, sizeof(*m));
	m->real = (sqlite3_file *)(void *)(m + 1);
	rc = below->xOpen(below, name, m->real, flags, ret_flags);
	if (rc != SQLITE_OK)
		return rc;
	m->base.pMethods = &methods;
	if (watching && name && flags & (SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_WAL))
		m->image = image_of(name);
	return SQLITE_OK;
}

void fault_install(void)
{
	below = sqlite3_vfs_find(NULL);
	assert_non_null(below);
	vfs = *below;
	vfs.zName = "fault";
	vfs.szOsFile = (int)sizeof(struct file) + below->szOsFile;
	vfs.pNext = NULL;
	vfs.xOpen = v_open;
	assert_int_equal(sqlite3_vfs_register(&vfs, 1), SQLITE_OK);
}
