#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "door/door_int.h"

/*
 * How many requests one address may send. Buckets of tokens in a table of fixed size: whoever comes from ever new
 * addresses takes the place of the bucket that is fullest, as empty as that one is, so that what churns gets no more than
 * what stays, and no memory. Of IPv6 the first 64 bits are the address: the rest is the sender's to choose.
 */

enum { WAYS = 8, SETS = DOOR_BUCKETS / WAYS };

/* 128 bits: an IPv4 address as its mapped one. */
static bool key_of(const struct sockaddr *a, uint8_t ret[16])
{
	static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

	memset(ret, 0, 16);
	if (a && a->sa_family == AF_INET) {
		memcpy(ret, mapped, sizeof(mapped));
		memcpy(ret + 12, &((const struct sockaddr_in *)(const void *)a)->sin_addr, 4);
		return true;
	}
	if (!a || a->sa_family != AF_INET6)
		return false;
	memcpy(ret, &((const struct sockaddr_in6 *)(const void *)a)->sin6_addr, 16);
	if (memcmp(ret, mapped, sizeof(mapped)) != 0)
		memset(ret + 8, 0, 8);
	return true;
}

static bool is_loopback(const uint8_t key[16])
{
	static const uint8_t none[16];

	/* ::1 is ::/64 here, from which nobody else comes. */
	return key[12] == 127 ? key[10] == 0xff : memcmp(key, none, 16) == 0;
}

/* The last that the proxy itself added, behind what its client may have made up. */
static bool key_forwarded(const char *list, uint8_t ret[16])
{
	struct sockaddr_in in = {.sin_family = AF_INET};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
	const char *last = strrchr(list, ',');

	last = last ? last + 1 : list;
	last += strspn(last, " \t");
	if (inet_pton(AF_INET, last, &in.sin_addr) == 1)
		return key_of((const struct sockaddr *)&in, ret);
	return inet_pton(AF_INET6, last, &in6.sin6_addr) == 1 && key_of((const struct sockaddr *)&in6, ret);
}

static bool is_proxy(const struct door_config *c, const uint8_t key[16])
{
	char text[INET6_ADDRSTRLEN];
	uint8_t other[16];

	for (unsigned i = 0; i < c->proxy_count; i++) {
		if (c->proxies[i].len >= sizeof(text))
			continue;
		memcpy(text, c->proxies[i].ptr, c->proxies[i].len);
		text[c->proxies[i].len] = '\0';
		if (key_forwarded(text, other) && memcmp(other, key, 16) == 0)
			return true;
	}
	return false;
}

bool door_rate_address(
	const struct door_config *c, const struct sockaddr *peer, const char *forwarded, uint8_t ret[16])
{
	if (!key_of(peer, ret))
		return false;
	/* What a proxy does not say who sent it is the proxy's own. */
	if (forwarded && is_proxy(c, ret))
		(void)key_forwarded(forwarded, ret);
	return !is_loopback(ret);
}

static void refill(struct door_bucket *b, const struct door_config *c, int64_t now)
{
	int64_t ms = now - b->at_ms, full = c->burst * 1000;

	/* In thousandths of a request: rate a second is rate thousandths a millisecond. */
	b->level = ms > full / c->rate || b->level + ms * c->rate > full ? full : b->level + ms * c->rate;
	b->at_ms = now;
}

int64_t door_rate_take(
	struct door_buckets *all, const struct door_config *c, const uint8_t key[16], int64_t now)
{
	struct door_bucket *set, *b = NULL;
	uint64_t h;

	if (c->rate <= 0)
		return 0;
	memcpy(&h,
		base_hash_of2((struct base_str){(const char *)all->secret, sizeof(all->secret)},
			(struct base_str){(const char *)key, 16})
			.b,
		sizeof(h));
	set = &all->bucket[h % SETS * WAYS];
	for (int i = 0; i < WAYS; i++) {
		if (set[i].used)
			refill(&set[i], c, now);
		if (set[i].used && memcmp(set[i].key, key, 16) == 0) {
			b = &set[i];
			break;
		}
	}
	for (int i = 0; !b && i < WAYS; i++)
		if (!set[i].used) {
			b = &set[i];
			*b = (struct door_bucket){.used = true, .level = c->burst * 1000, .at_ms = now};
		}
	if (!b) {
		b = set;
		for (int i = 1; i < WAYS; i++)
			if (set[i].level > b->level)
				b = &set[i];
	}
	memcpy(b->key, key, 16);
	if (b->level >= 1000) {
		b->level -= 1000;
		return 0;
	}
	return (1000 - b->level + c->rate - 1) / c->rate; /* ms until there is one */
}
