#pragma once

#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"
#include "base/str.h"

/* A mail message (RFC 5322, MIME): what goes in is checked, so that nothing in it can add a header or a part.
 */
struct mime_mail {
	struct base_str from, to,
		reply_to; /* "Ada <ada@example.org>" or the bare address; reply_to may be empty */
	struct base_str subject;
	struct base_str markdown, text, html; /* at least one; markdown gives what is missing of the others */
	struct base_str unsubscribe;	      /* an address (https, mailto) for List-Unsubscribe, or empty */
	struct base_jv headers;		      /* further ones: {"List-Id": "…"}, or nothing */
	struct base_str key;		      /* gives the Message-ID: the same key, the same message */
	int64_t date_ms;
};

struct mime_envelope {
	struct base_str from, to;   /* bare addresses */
	struct base_str message_id; /* with its angle brackets */
};

/* Appends the message, lines ending in CRLF. *ret points into `arena` and `m`. -EINVAL with what cannot stand
 * in a mail, -ENOMEM. */
int mime_build(const struct mime_mail *m, struct base_arena *arena, struct base_buf *out,
	struct mime_envelope *ret, struct base_err *err) __attribute__((warn_unused_result));

/* "Ada <ada@example.org>" into name (may be empty) and address, views into `s`. -EINVAL for what is no
 * address that SMTP can carry without extensions. `what` names it in the message. */
int mime_address(struct base_str s, const char *what, struct base_str *ret_name, struct base_str *ret_addr,
	struct base_err *err) __attribute__((warn_unused_result));

/* Appends `data` as quoted-printable; any line break in it becomes CRLF. */
void mime_quoted_printable(struct base_str data, struct base_buf *out);
