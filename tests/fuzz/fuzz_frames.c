/* A stream of frames as a hostile process sends it: cutting it up, and each decoder that aiosd applies to it.
 */
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "fuzz.h"
#include "wire/conn.h"
#include "wire/frames.h"

enum { SENT_MAX = 64 << 10 };

/* What reaches aiosd. Returns 0 or -EBADMSG. */
static int decode(unsigned type, struct base_str body)
{
	union {
		struct wire_hello hello;
		struct wire_note note;
		struct wire_flow_inspected inspected;
		struct wire_flow_call call;
		struct wire_flow_idle idle;
		struct wire_flow_done done;
		struct wire_flow_failed failed;
		struct wire_effect_result result;
		struct wire_parsed parsed;
		struct wire_vault_reply reply;
		struct wire_door_request request;
		struct wire_door_gone gone;
		struct wire_views_at at;
		struct wire_views_answer answer;
	} any;
	switch (type) {
	case WIRE_HELLO:
		return wire_hello_get(body, &any.hello);
	case WIRE_NOTE:
		return wire_note_get(body, &any.note);
	case WIRE_FLOW_INSPECTED:
		return wire_flow_inspected_get(body, &any.inspected);
	case WIRE_FLOW_CALL:
		return wire_flow_call_get(body, &any.call);
	case WIRE_FLOW_IDLE:
		return wire_flow_idle_get(body, &any.idle);
	case WIRE_FLOW_DONE:
		return wire_flow_done_get(body, &any.done);
	case WIRE_FLOW_FAILED:
		return wire_flow_failed_get(body, &any.failed);
	case WIRE_EFFECT_RESULT:
		return wire_effect_result_get(body, &any.result);
	case WIRE_PARSED:
		return wire_parsed_get(body, &any.parsed);
	case WIRE_VAULT_REPLY:
		return wire_vault_reply_get(body, &any.reply);
	case WIRE_DOOR_REQUEST:
		return wire_door_request_get(body, &any.request);
	case WIRE_DOOR_GONE:
		return wire_door_gone_get(body, &any.gone);
	case WIRE_VIEWS_AT:
		return wire_views_at_get(body, &any.at);
	case WIRE_VIEWS_ANSWER:
		return wire_views_answer_get(body, &any.answer);
	default:
		return 0;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int pair[2];
	struct wire_conn *c = NULL;
	struct base_str body;
	unsigned type;
	size_t sent = size < SENT_MAX ? size : SENT_MAX;
	BASE_CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	BASE_CHECK(wire_conn_new(pair[0], &c) == 0);
	BASE_CHECK(send(pair[1], data, sent, MSG_DONTWAIT) >= 0 || sent == 0);
	BASE_CHECK(close(pair[1]) == 0);
	int rc = 0;
	while (rc == 0) {
		rc = wire_conn_fill(c);
		int got;
		while ((got = wire_conn_next(c, &type, &body)) == 1)
			(void)decode(type, body);
		if (got < 0)
			break;
	}
	wire_conn_free(c);
	/* And each decoder by itself, with the first byte as the type. */
	if (size > 0)
		(void)decode(data[0], (struct base_str){(const char *)data + 1, size - 1});
	return 0;
}
