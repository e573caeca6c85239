/* Preloaded into aiosd by a test: syncs fail while the file that FAILSYNC names is there, and take half a second while
 * the one that SLOWSYNC names is. */
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static int sync_or_fail(const char *name, int fd)
{
	const char *file = getenv("FAILSYNC"), *slow = getenv("SLOWSYNC");
	union {
		void *symbol;
		int (*call)(int fd);
	} next = {dlsym(RTLD_NEXT, name)};

	if (file && access(file, F_OK) == 0) {
		errno = EIO;
		return -1;
	}
	if (slow && access(slow, F_OK) == 0)
		usleep(500000);
	return next.call(fd);
}

__attribute__((visibility("default"))) int fsync(int fd)
{
	return sync_or_fail("fsync", fd);
}

__attribute__((visibility("default"))) int fdatasync(int fd)
{
	return sync_or_fail("fdatasync", fd);
}
