/*
 * Closed-loop HTTP load on loopback: one request in flight per connection, keep-alive.
 *
 *   load PORT CONNECTIONS SECONDS WARM_UP PATH TOKEN [BODY]     prints one JSON line
 *   load --sync FILE SECONDS                                    fdatasync of 4 KiB overwriting a zeroed file
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ANSWER_MAX = 64 << 10, SYNC_BLOCKS = 64, BLOCK = 4096 };

struct client {
	int fd;
	int64_t sent_ns;
	size_t have;
	char answer[ANSWER_MAX];
};

struct load {
	const char *request;
	size_t request_len;
	int64_t count_from_ns, end_ns;
	int64_t *latency;
	size_t count, size;
	uint64_t errors;
	char first_error[256];
};

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void die(const char *what)
{
	fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int by_value(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return x < y ? -1 : x > y;
}

static double quantile_ms(int64_t *v, size_t n, double q)
{
	return n ? (double)v[(size_t)((double)(n - 1) * q)] / 1e6 : 0;
}

static void note(struct load *l, int64_t ns)
{
	if (l->count == l->size) {
		l->size = l->size ? l->size * 2 : 1 << 16;
		l->latency = realloc(l->latency, l->size * sizeof(*l->latency));
		if (!l->latency)
			die("memory");
	}
	l->latency[l->count++] = ns;
}

static void send_request(struct load *l, struct client *c)
{
	c->have = 0;
	c->sent_ns = now_ns();
	if (write(c->fd, l->request, l->request_len) != (ssize_t)l->request_len)
		die("write");
}

/* The whole answer is there: its length, else 0. */
static size_t answer_length(const struct client *c)
{
	const char *end = memmem(c->answer, c->have, "\r\n\r\n", 4), *field;
	size_t head, body = 0;

	if (!end)
		return 0;
	head = (size_t)(end - c->answer) + 4;
	field = memmem(c->answer, head, "Content-Length: ", 16);
	if (field)
		body = strtoul(field + 16, NULL, 10);
	return head + body <= c->have ? head + body : 0;
}

static void on_answer(struct load *l, struct client *c)
{
	int64_t at = now_ns();
	bool ok = memcmp(c->answer, "HTTP/1.1 20", 11) == 0 && memmem(c->answer, c->have, "\"done\"", 6);

	if (!ok) {
		if (!l->errors)
			snprintf(l->first_error, sizeof(l->first_error), "%.*s",
				(int)(c->have < 250 ? c->have : 250), c->answer);
		l->errors++;
	} else if (c->sent_ns >= l->count_from_ns && at <= l->end_ns) {
		note(l, at - c->sent_ns);
	}
}

static void on_readable(struct load *l, struct client *c)
{
	ssize_t n = read(c->fd, c->answer + c->have, sizeof(c->answer) - c->have);

	if (n <= 0)
		die("the server closed a connection");
	c->have += (size_t)n;
	if (!answer_length(c)) {
		if (c->have == sizeof(c->answer))
			die("an answer is too long");
		return;
	}
	on_answer(l, c);
	if (now_ns() < l->end_ns)
		send_request(l, c);
	else
		c->sent_ns = 0;
}

static int dial(unsigned port)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		die("connect");
	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) < 0)
		die("TCP_NODELAY");
	return fd;
}

static void run(struct load *l, struct client *clients, size_t count, int ep)
{
	struct epoll_event events[256];
	size_t busy = count;

	for (size_t i = 0; i < count; i++)
		send_request(l, &clients[i]);
	while (busy && now_ns() < l->end_ns + 30LL * 1000000000) {
		int n = epoll_wait(ep, events, 256, 1000);

		for (int i = 0; i < n; i++) {
			struct client *c = events[i].data.ptr;

			on_readable(l, c);
			if (!c->sent_ns)
				busy--;
		}
	}
}

static int load_main(char **argv)
{
	unsigned port = (unsigned)atoi(argv[1]);
	size_t count = strtoul(argv[2], NULL, 10);
	double seconds = atof(argv[3]), warm = atof(argv[4]);
	const char *body = argv[7] ? argv[7] : "{}";
	struct client *clients = calloc(count, sizeof(*clients));
	int ep = epoll_create1(EPOLL_CLOEXEC);
	struct load l = {.count_from_ns = now_ns() + (int64_t)(warm * 1e9)};
	char *request;
	int len;

	len = asprintf(&request,
		"POST %s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nAuthorization: Bearer %s\r\n"
		"Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
		argv[5], port, argv[6], strlen(body), body);
	if (!clients || ep < 0 || len < 0)
		die("set-up");
	l.request = request;
	l.request_len = (size_t)len;
	l.end_ns = l.count_from_ns + (int64_t)(seconds * 1e9);
	for (size_t i = 0; i < count; i++) {
		struct epoll_event ev = {.events = EPOLLIN, .data.ptr = &clients[i]};

		clients[i].fd = dial(port);
		if (epoll_ctl(ep, EPOLL_CTL_ADD, clients[i].fd, &ev) < 0)
			die("epoll_ctl");
	}
	run(&l, clients, count, ep);
	qsort(l.latency, l.count, sizeof(*l.latency), by_value);
	printf("{\"connections\":%zu,\"runs\":%zu,\"runs_per_s\":%.1f,\"p50_ms\":%.3f,\"p99_ms\":%.3f,"
	       "\"errors\":%llu}\n",
		count, l.count, (double)l.count / seconds, quantile_ms(l.latency, l.count, 0.5),
		quantile_ms(l.latency, l.count, 0.99), (unsigned long long)l.errors);
	if (l.errors)
		fprintf(stderr, "load: %s\n", l.first_error);
	free(request);
	free(clients);
	free(l.latency);
	return l.errors || !l.count ? 1 : 0;
}

static int sync_main(char **argv)
{
	static char block[BLOCK];
	int fd = open(argv[2], O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int64_t end = now_ns() + (int64_t)(atof(argv[3]) * 1e9);
	struct load l = {0};

	if (fd < 0)
		die(argv[2]);
	for (int i = 0; i < SYNC_BLOCKS; i++)
		if (pwrite(fd, block, BLOCK, (off_t)i * BLOCK) != BLOCK)
			die("write");
	if (fsync(fd) < 0)
		die("fsync");
	for (uint64_t i = 0; now_ns() < end; i++) {
		int64_t at = now_ns();

		memset(block, (int)(i & 0xff), 64);
		if (pwrite(fd, block, BLOCK, (off_t)(i % SYNC_BLOCKS) * BLOCK) != BLOCK || fdatasync(fd) < 0)
			die("fdatasync");
		note(&l, now_ns() - at);
	}
	close(fd);
	unlink(argv[2]);
	qsort(l.latency, l.count, sizeof(*l.latency), by_value);
	printf("{\"syncs\":%zu,\"p50_ms\":%.4f,\"p99_ms\":%.4f}\n", l.count,
		quantile_ms(l.latency, l.count, 0.5), quantile_ms(l.latency, l.count, 0.99));
	free(l.latency);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "--sync") == 0)
		return sync_main(argv);
	if (argc == 7 || argc == 8)
		return load_main(argv);
	fprintf(stderr, "usage: load PORT CONNECTIONS SECONDS WARM_UP PATH TOKEN [BODY]\n       load --sync "
			"FILE SECONDS\n");
	return 2;
}
