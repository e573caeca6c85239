#pragma once

#include <stdint.h>

#include "base/codec.h"

/* What the vault seals to the process that makes a call (reply to vault_release): good for this call, towards
 * this host, by this action, and nothing else. */
struct wire_secret {
	uint64_t call;
	struct base_str host, action;
	struct base_str name;  /* of the secret: stands where its value is redacted */
	struct base_str value; /* what is used */
	struct base_str old;   /* within the overlap of a rotation: what was used before; else empty */
};

/* Appends it. Errors stick in the buffer. */
static inline void wire_secret_put(struct base_buf *b, const struct wire_secret *s)
{
	base_put_u64(b, s->call);
	base_put_str(b, s->host);
	base_put_str(b, s->action);
	base_put_str(b, s->name);
	base_put_str(b, s->value);
	base_put_str(b, s->old);
}

/* Views into `plain`. -EBADMSG for what is none. */
static inline int wire_secret_get(struct base_str plain, struct wire_secret *ret)
{
	struct base_reader r = base_reader_of(plain);
	struct wire_secret s;
	int rc;

	s.call = base_get_u64(&r);
	s.host = base_get_str(&r);
	s.action = base_get_str(&r);
	s.name = base_get_str(&r);
	s.value = base_get_str(&r);
	s.old = base_get_str(&r);
	rc = base_reader_end(&r);
	if (rc == 0)
		*ret = s;
	return rc;
}
