#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "connect/connect_int.h"
#include "connect/xfer.h"

enum { EVENTS_MAX = 64, CONNECTIONS_PER_HOST = 32 };

struct connect_net {
	int epoll_fd;
	int wire_fd;
	uint32_t wire_events;
	CURLM *multi;
	int watch_fd;
	void (*on_watch)(void *userdata);
	void *watch_userdata;
	int64_t due_ms; /* when libcurl wants to be called; -1: not */
};

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *userdata, void *socketp)
{
	struct connect_net *n = userdata;
	struct epoll_event ev = {.data.fd = fd};

	(void)easy;
	(void)socketp;
	if (what == CURL_POLL_REMOVE) {
		epoll_ctl(n->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
		return 0;
	}
	if (what & CURL_POLL_IN)
		ev.events |= EPOLLIN;
	if (what & CURL_POLL_OUT)
		ev.events |= EPOLLOUT;
	if (epoll_ctl(n->epoll_fd, EPOLL_CTL_MOD, fd, &ev) < 0 && errno == ENOENT)
		epoll_ctl(n->epoll_fd, EPOLL_CTL_ADD, fd, &ev);
	return 0;
}

static int on_curl_timer(CURLM *multi, long timeout_ms, void *userdata)
{
	struct connect_net *n = userdata;

	(void)multi;
	n->due_ms = timeout_ms < 0 ? -1 : connect_clock_ms() + timeout_ms;
	return 0;
}

int connect_net_new(int wire_fd, struct connect_net **ret)
{
	struct connect_net *n = calloc(1, sizeof(*n));
	struct epoll_event ev = {.events = EPOLLIN, .data.fd = wire_fd};

	if (!n)
		return -ENOMEM;
	n->due_ms = -1;
	n->wire_fd = wire_fd;
	n->watch_fd = -1;
	n->wire_events = EPOLLIN;
	n->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	n->multi = curl_multi_init();
	if (n->epoll_fd < 0 || !n->multi || epoll_ctl(n->epoll_fd, EPOLL_CTL_ADD, wire_fd, &ev) < 0) {
		connect_net_free(n);
		return -ENOMEM;
	}
	curl_multi_setopt(n->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(n->multi, CURLMOPT_SOCKETDATA, n);
	curl_multi_setopt(n->multi, CURLMOPT_TIMERFUNCTION, on_curl_timer);
	curl_multi_setopt(n->multi, CURLMOPT_TIMERDATA, n);
	curl_multi_setopt(n->multi, CURLMOPT_MAX_HOST_CONNECTIONS, (long)CONNECTIONS_PER_HOST);
	*ret = n;
	return 0;
}

void connect_net_free(struct connect_net *n)
{
	if (!n)
		return;
	if (n->multi)
		curl_multi_cleanup(n->multi);
	if (n->epoll_fd >= 0)
		close(n->epoll_fd);
	free(n);
}

CURLM *connect_net_multi(struct connect_net *n)
{
	return n->multi;
}

int connect_net_watch(struct connect_net *n, int fd, void (*fn)(void *userdata), void *userdata)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};

	if (epoll_ctl(n->epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0)
		return -errno;
	n->watch_fd = fd;
	n->on_watch = fn;
	n->watch_userdata = userdata;
	return 0;
}

/* Ends the transfers that are through: each finishes its call. */
static void reap(struct connect_net *n)
{
	struct CURLMsg *msg;
	int left;

	while ((msg = curl_multi_info_read(n->multi, &left))) {
		struct connect_xfer *x = NULL;
		CURLcode code = msg->data.result;

		if (msg->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &x);
		curl_multi_remove_handle(n->multi, x->easy);
		x->running = false;
		x->on_done(x->call, code);
	}
}

static void watch_wire(struct connect_net *n, bool want_read, bool want_write)
{
	struct epoll_event ev = {
		.events = (want_read ? EPOLLIN : 0u) | (want_write ? EPOLLOUT : 0u), .data.fd = n->wire_fd};

	if (ev.events != n->wire_events && epoll_ctl(n->epoll_fd, EPOLL_CTL_MOD, n->wire_fd, &ev) == 0)
		n->wire_events = ev.events;
}

int connect_net_wait(struct connect_net *n, int timeout_ms, bool want_read, bool want_write)
{
	struct epoll_event events[EVENTS_MAX];
	int64_t now;
	int count, running, wire = 0;

	watch_wire(n, want_read, want_write);
	if (n->due_ms >= 0) {
		int64_t left = n->due_ms - connect_clock_ms();

		left = left < 0 ? 0 : left;
		if (timeout_ms < 0 || left < timeout_ms)
			timeout_ms = left > 3600000 ? 3600000 : (int)left;
	}
	count = epoll_wait(n->epoll_fd, events, EVENTS_MAX, timeout_ms);
	if (count < 0)
		return errno == EINTR ? 0 : -errno;
	for (int i = 0; i < count; i++) {
		uint32_t got = events[i].events;
		int mask = (got & EPOLLIN ? CURL_CSELECT_IN : 0) | (got & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
			   (got & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);

		if (events[i].data.fd == n->wire_fd)
			wire = 1;
		else if (events[i].data.fd == n->watch_fd)
			n->on_watch(n->watch_userdata);
		else
			curl_multi_socket_action(n->multi, events[i].data.fd, mask, &running);
	}
	now = n->due_ms >= 0 ? connect_clock_ms() : 0;
	if (n->due_ms >= 0 && now >= n->due_ms) {
		n->due_ms = -1;
		curl_multi_socket_action(n->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	}
	reap(n);
	return wire;
}
