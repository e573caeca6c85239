/* What must go on working: each process's real libraries, inside its own sandbox. */
#include <arpa/inet.h>
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <sodium.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cell.h"

#include <cmocka.h>

enum { ORDINARY_USER = 12345 };

/* Runs it as whoever we are and, for root, as an ordinary user; both must end with 0. */
static void must_work(struct cell *c)
{
	char features[CELL_FEATURES_MAX];
	assert_int_equal(cell_run(c, features), 0);
	assert_true(cell_has(features, "seccomp"));
	if (geteuid() == 0) {
		c->uid = ORDINARY_USER;
		assert_int_equal(cell_run(c, NULL), 0);
	}
}

static int do_pure(void *arg)
{
	const int *pair = arg;
	char *big = malloc(32 << 20);
	if (!big)
		return ENOMEM;
	memset(big, 1, 32 << 20);
	big = realloc(big, 64 << 20);
	free(big);
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	time_t t = 1700000000;
	struct tm tm;
	if (!localtime_r(&t, &tm) || tm.tm_hour != 22)
		return EINVAL;
	char c;
	struct pollfd p = {.fd = pair[1], .events = POLLIN};
	if (poll(&p, 1, 5000) != 1 || read(pair[1], &c, 1) != 1 || c != 'q')
		return EPIPE;
	fprintf(stderr, "%s", "");
	return write(pair[1], "a", 1) == 1 ? 0 : errno;
}

static void feed_pure(void *arg)
{
	const int *pair = arg;
	char c = 0;
	assert_int_equal(write(pair[0], "q", 1), 1);
	assert_int_equal(read(pair[0], &c, 1), 1);
	assert_int_equal(c, 'a');
}

static void test_pure(void **state)
{
	(void)state;
	int pair[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	const int keep[] = {pair[1], -1};
	struct cell c = {.jail = {.profile = JAIL_PURE, .keep = keep},
		.act = do_pure,
		.arg = pair,
		.meanwhile = feed_pure};
	must_work(&c);
	close(pair[0]);
	close(pair[1]);
}

static int do_check_house(void *arg)
{
	const int *fds = arg;
	struct rlimit core;
	if (fcntl(fds[0], F_GETFD) >= 0 || errno != EBADF)
		return 1;
	if (fcntl(fds[1], F_GETFD) < 0)
		return 2;
	if (getenv("SECRET_KEY") || !getenv("TZ") || strcmp(getenv("TZ"), "UTC") != 0)
		return 3;
	return getrlimit(RLIMIT_CORE, &core) == 0 && core.rlim_cur <= 1 ? 0 : 4;
}

static void test_descriptors_and_environment(void **state)
{
	(void)state;
	int fds[2];
	assert_int_equal(pipe(fds), 0);
	/* Away from 3, which every process keeps. */
	for (int i = 0; i < 2; i++) {
		int high = fcntl(fds[i], F_DUPFD, 100);
		close(fds[i]);
		fds[i] = high;
	}
	assert_int_equal(setenv("SECRET_KEY", "hunter2", 1), 0);
	const int keep[] = {fds[1], -1};
	struct cell c = {.jail = {.profile = JAIL_NET, .keep = keep}, .act = do_check_house, .arg = fds};
	must_work(&c);
	assert_string_equal(getenv("SECRET_KEY"), "hunter2");
	close(fds[0]);
	close(fds[1]);
}

static int do_exhaust(void *arg)
{
	(void)arg;
	volatile char *p = malloc(512 << 20);
	return p ? 1 : 0;
}

static void test_memory_limit(void **state)
{
	(void)state;
#ifdef __SANITIZE_ADDRESS__
	skip(); /* the sanitizer reserves terabytes of address space */
#endif
	struct cell c = {.jail = {.profile = JAIL_PURE, .memory_max = 256 << 20}, .act = do_exhaust};
	must_work(&c);
}

static int do_sqlite(void *arg)
{
	char path[300];
	snprintf(path, sizeof(path), "%s/%u.db", (const char *)arg, (unsigned)getuid());
	sqlite3 *db;
	if (sqlite3_open(path, &db) != SQLITE_OK)
		return 1;
	const char *sql =
		"PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE t(a,b);"
		"CREATE VIRTUAL TABLE f USING fts5(x); BEGIN; INSERT INTO t VALUES(1,randomblob(100000));"
		"INSERT INTO f VALUES('a needle'); COMMIT; PRAGMA wal_checkpoint(TRUNCATE); VACUUM;";
	char *text = NULL;
	if (sqlite3_exec(db, sql, NULL, NULL, &text) != SQLITE_OK) {
		fprintf(stderr, "%s\n", text);
		return 2;
	}
	if (sqlite3_close(db) != SQLITE_OK)
		return 3;
	return unlink(path) == 0 ? 0 : 4;
}

/* Whether a mount namespace is granted at all is what the purest profile says. */
static int do_nothing(void *arg)
{
	(void)arg;
	return 0;
}

static bool grants_mounts(unsigned uid)
{
	char features[CELL_FEATURES_MAX];
	struct cell c = {.jail = {.profile = JAIL_PURE}, .act = do_nothing, .uid = uid};
	assert_int_equal(cell_run(&c, features), 0);
	return cell_has(features, "mntns");
}

/* Its folder is there, at its own path, and writable; nothing else is, and nothing can be made beside it. */
static int do_look_around(void *arg)
{
	const char *dir = arg;
	char path[300];
	struct stat st;
	static const char *const gone[] = {
		"/etc", "/usr", "/proc", "/proc/self", "/dev/zero", "/root", "/home"};
	for (size_t i = 0; i < sizeof(gone) / sizeof(*gone); i++) {
		if (stat(gone[i], &st) == 0 || errno != ENOENT)
			return 10 + (int)i;
	}
	if (stat("/dev/urandom", &st) < 0 || !S_ISCHR(st.st_mode) || stat(dir, &st) < 0)
		return 1;
	if (mkdir("/beside", 0700) == 0 || (errno != EROFS && errno != EACCES))
		return 2;
	snprintf(path, sizeof(path), "%s/%u.txt", dir, (unsigned)getuid());
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, "x", 1) != 1 || close(fd) < 0)
		return 3;
	return unlink(path) == 0 ? 0 : 4;
}

static void test_views(void **state)
{
	(void)state;
	char dir[200], features[CELL_FEATURES_MAX];
	cell_make_dir(dir, sizeof(dir));
	const char *dirs[] = {dir, NULL};
	struct cell c = {.jail = {.profile = JAIL_VIEWS, .dirs_rw = dirs}, .act = do_sqlite, .arg = dir};
	must_work(&c);
	for (unsigned uid = 0; uid <= ORDINARY_USER; uid += ORDINARY_USER) {
		if ((uid != 0 && geteuid() != 0) || !grants_mounts(uid))
			continue;
		c = (struct cell){.jail = {.profile = JAIL_VIEWS, .dirs_rw = dirs},
			.act = do_look_around,
			.arg = dir,
			.uid = uid};
		assert_int_equal(cell_run(&c, features), 0);
		assert_true(cell_has(features, "mntns"));
	}
	cell_remove_dir(dir);
}

static int do_vault(void *arg)
{
	char path[300], other[320];
	unsigned char key[32];
	if (sodium_init() < 0 || sodium_mlock(key, sizeof(key)) < 0)
		return 1;
	randombytes_buf(key, sizeof(key));
	void *guarded = sodium_malloc(32);
	if (!guarded || sodium_mprotect_noaccess(guarded) < 0)
		return 2;
	snprintf(path, sizeof(path), "%s/key.%u", (const char *)arg, (unsigned)getuid());
	snprintf(other, sizeof(other), "%s.new", path);
	int fd = open(other, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, key, sizeof(key)) != sizeof(key) || fsync(fd) < 0 || close(fd) < 0)
		return 3;
	if (rename(other, path) < 0 || access(path, R_OK) < 0)
		return 4;
	return unlink(path) == 0 ? 0 : 5;
}

static void test_vault(void **state)
{
	(void)state;
	char dir[200];
	cell_make_dir(dir, sizeof(dir));
	const char *dirs[] = {dir, NULL};
	struct cell c = {.jail = {.profile = JAIL_VAULT, .dirs_rw = dirs}, .act = do_vault, .arg = dir};
	must_work(&c);
	cell_remove_dir(dir);
}

/* A listening socket on loopback. */
static int listen_on(uint16_t *ret_port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(fd, 8), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	*ret_port = ntohs(a.sin_port);
	return fd;
}

struct net {
	int listener;
	uint16_t port;
	const char *dir;
};

static void *in_thread(void *arg)
{
	int *n = arg;
	*n = 1;
	return NULL;
}

static int do_net(void *arg)
{
	const struct net *net = arg;
	pthread_t thread;
	int ran = 0;
	if (pthread_create(&thread, NULL, in_thread, &ran) != 0 || pthread_join(thread, NULL) != 0 || !ran)
		return 1;
	char path[300], other[320], url[64];
	snprintf(path, sizeof(path), "%s/mail.%u", net->dir, (unsigned)getuid());
	snprintf(other, sizeof(other), "%s/new.%u", net->dir, (unsigned)getuid());
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || fsync(fd) < 0 || close(fd) < 0 || link(path, other) < 0 || unlink(path) < 0 ||
		unlink(other) < 0)
		return 2;
	CURL *curl = curl_easy_init();
	snprintf(url, sizeof(url), "http://localhost:%u/", (unsigned)net->port);
	curl_easy_setopt(curl, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_PROXY, "");
	CURLcode rc = curl_easy_perform(curl);
	long status = 0;
	curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_cleanup(curl);
	if (rc != CURLE_OK || status != 204) {
		fprintf(stderr, "%s\n", curl_easy_strerror(rc));
		return 3;
	}
	return 0;
}

static void answer_net(void *arg)
{
	const struct net *net = arg;
	struct pollfd p = {.fd = net->listener, .events = POLLIN};
	assert_int_equal(poll(&p, 1, 20000), 1);
	int fd = accept(net->listener, NULL, NULL);
	char buf[4096];
	assert_true(read(fd, buf, sizeof(buf)) > 0);
	const char *text = "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static void test_net(void **state)
{
	(void)state;
	char dir[200];
	cell_make_dir(dir, sizeof(dir));
	const char *dirs[] = {dir, NULL};
	struct net net = {.dir = dir};
	net.listener = listen_on(&net.port);
	struct cell c = {.jail = {.profile = JAIL_NET, .dirs_rw = dirs},
		.act = do_net,
		.arg = &net,
		.meanwhile = answer_net};
	must_work(&c);
	close(net.listener);
	cell_remove_dir(dir);
}

/* TLS as far as it goes without a peer: the context with the system's certificates is made before the
 * handshake. */
static int do_tls(void *arg)
{
	const struct net *net = arg;
	char url[64];
	CURL *curl = curl_easy_init();
	snprintf(url, sizeof(url), "https://127.0.0.1:%u/", (unsigned)net->port);
	curl_easy_setopt(curl, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_PROXY, "");
	CURLcode rc = curl_easy_perform(curl);
	curl_easy_cleanup(curl);
	/* The stand-in answers plain text: the handshake began and failed, the certificates were found. */
	return rc == CURLE_SSL_CONNECT_ERROR ? 0 : (int)rc;
}

static void test_tls(void **state)
{
	(void)state;
	struct net net = {0};
	net.listener = listen_on(&net.port);
	struct cell c = {.jail = {.profile = JAIL_NET}, .act = do_tls, .arg = &net, .meanwhile = answer_net};
	must_work(&c);
	close(net.listener);
}

static enum MHD_Result answer_request(void *cls, struct MHD_Connection *connection, const char *url,
	const char *method, const char *version, const char *data, size_t *size, void **state)
{
	(void)url, (void)method, (void)version, (void)data, (void)size, (void)state;
	static char text[] = "good";
	struct MHD_Response *r = MHD_create_response_from_buffer(4, text, MHD_RESPMEM_PERSISTENT);
	enum MHD_Result rc = MHD_queue_response(connection, 200, r);
	MHD_destroy_response(r);
	*(int *)cls = 1;
	return rc;
}

static int do_door(void *arg)
{
	const struct net *net = arg;
	int answered = 0;
	struct MHD_Daemon *d = MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, answer_request, &answered,
		MHD_OPTION_LISTEN_SOCKET, net->listener, MHD_OPTION_END);
	if (!d)
		return 1;
	int inner = MHD_get_daemon_info(d, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
	int outer = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event ev = {.events = EPOLLIN};
	if (outer < 0 || epoll_ctl(outer, EPOLL_CTL_ADD, inner, &ev) < 0)
		return 2;
	for (int turns = 0; !answered && turns < 100; turns++) {
		if (epoll_wait(outer, &ev, 1, 5000) < 0)
			return 3;
		MHD_run(d);
	}
	MHD_run(d);
	return answered ? 0 : 4;
}

static void ask_door(void *arg)
{
	const struct net *net = arg;
	struct sockaddr_in a = {
		.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_port = htons(net->port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	const char *text = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	char buf[4096];
	size_t len = 0;
	ssize_t n;
	while (len < sizeof(buf) - 1 && (n = read(fd, buf + len, sizeof(buf) - 1 - len)) > 0)
		len += (size_t)n;
	buf[len] = '\0';
	close(fd);
	assert_non_null(strstr(buf, "good"));
}

static void test_door(void **state)
{
	(void)state;
	struct net net = {0};
	net.listener = listen_on(&net.port);
	const int keep[] = {net.listener, -1};
	struct cell c = {.jail = {.profile = JAIL_DOOR, .keep = keep},
		.act = do_door,
		.arg = &net,
		.meanwhile = ask_door};
	must_work(&c);
	close(net.listener);
}

static void test_probe(void **state)
{
	(void)state;
	struct base_buf text;
	base_buf_init(&text, 4096);
	jail_probe(&text);
	char *all = base_buf_take(&text, NULL);
	assert_non_null(strstr(all, "sandbox of aios-flow, aios-parse and aios-pass: seccomp"));
	assert_non_null(strstr(all, "sandbox of aios-door: seccomp"));
	print_message("%s", all);
	free(all);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pure),
		cmocka_unit_test(test_descriptors_and_environment),
		cmocka_unit_test(test_memory_limit),
		cmocka_unit_test(test_views),
		cmocka_unit_test(test_vault),
		cmocka_unit_test(test_net),
		cmocka_unit_test(test_tls),
		cmocka_unit_test(test_door),
		cmocka_unit_test(test_probe),
	};
	curl_global_init(CURL_GLOBAL_DEFAULT);
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	curl_global_cleanup();
	return failed;
}
