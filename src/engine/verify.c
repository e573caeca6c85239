#include "engine/engine_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/check.h"

/*
 * POST /v1/log/verify: on a thread of its own with a reader of its own, so that the loop goes on. With
 * replay, the events up to S are folded from zero into a fresh state and its hash is compared with the live
 * state's hash at S, taken at the moment of the request, and with that of the newest snapshot.
 */

struct engine_verify {
	pthread_t thread;
	struct engine_source source;
	int efd;
	uint64_t req;
	bool replay;
	uint64_t until;	       /* S */
	struct base_hash live; /* at S */
	struct log_reader *reader;
	/* results, written by the thread */
	int rc;
	uint64_t bad;
	struct base_err err;
	struct base_hash folded;
};

static void *verify_main(void *arg)
{
	struct engine_verify *v = arg;
	struct core *c = NULL;
	uint64_t one = 1;

	v->rc = log_verify(v->reader, &v->bad, NULL, NULL, &v->err);
	if (v->rc == 0 && v->replay) {
		v->rc = engine_core_new(&c, &v->err);
		if (v->rc == 0)
			v->rc = engine_fold(c, v->reader, 0, v->until, &v->err);
		if (v->rc == 0)
			v->folded = core_state_hash(c);
		core_free(c);
	}
	if (write(v->efd, &one, sizeof(one)) < 0)
		BASE_CHECK(errno == EAGAIN);
	return NULL;
}

static void put_result(struct engine_req *q, const struct engine_verify *v)
{
	bool same = v->rc == 0 && (!v->replay || base_hash_eq(&v->live, &v->folded));
	struct base_jw w = base_jw_of(&q->reply);

	base_jw_obj(&w);
	base_jw_mbool(&w, "ok", same);
	base_jw_key(&w, "seq");
	base_jw_uint(&w, v->until);
	base_jw_mbool(&w, "replayed", v->replay && v->rc == 0);
	if (v->rc < 0) {
		base_jw_mcstr(&w, "message", v->err.text);
		if (v->rc == -EUCLEAN) {
			base_jw_key(&w, "bad");
			base_jw_uint(&w, v->bad);
		}
	}
	if (v->rc == 0 && v->replay) {
		base_jw_mhash(&w, "live", &v->live);
		base_jw_mhash(&w, "folded", &v->folded);
		if (!same)
			base_jw_mcstr(
				&w, "message", "the fold from zero gives another state than the live one");
	}
	base_jw_end_obj(&w);
}

static void free_verify(struct engine *e, struct engine_verify *v)
{
	engine_unwatch(e, v->efd);
	close(v->efd);
	log_reader_free(v->reader);
	free(v);
	e->verify = NULL;
}

static void on_done(struct engine *e, struct engine_source *s, uint32_t events)
{
	struct engine_verify *v = s->owner;
	struct engine_req *q = engine_req_of(e, v->req);

	(void)events;
	pthread_join(v->thread, NULL);
	if (q) {
		put_result(q, v);
		engine_reply_built(e, q, 200);
	}
	free_verify(e, v);
}

void engine_verify_settle(struct engine *e)
{
	if (e->verify)
		on_done(e, &e->verify->source, 0);
}

static int start(struct engine *e, struct engine_verify *v, struct base_err *err)
{
	int rc;

	v->efd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (v->efd < 0)
		return base_err_set(err, -errno, "no eventfd");
	rc = log_reader_new(e->log, &v->reader, err);
	if (rc < 0)
		return rc;
	v->source = (struct engine_source){on_done, v};
	rc = engine_watch(e, v->efd, &v->source, EPOLLIN);
	if (rc == 0)
		rc = -pthread_create(&v->thread, NULL, verify_main, v);
	return rc < 0 ? base_err_set(err, rc, "cannot start a thread") : 0;
}

void engine_op_log_verify(struct engine *e, struct engine_req *q)
{
	struct base_json *doc = engine_body_json(e, q);
	struct base_err err = {0};
	struct engine_verify *v;

	if (!doc)
		return;
	if (e->verify) {
		engine_reply_problem(e, q, 409, "busy", "a verification is running already");
		base_json_free(doc);
		return;
	}
	v = calloc(1, sizeof(*v));
	BASE_CHECK(v);
	v->efd = -1;
	v->req = q->id;
	v->replay = base_jv_bool(base_jv_get(base_json_root(doc), "replay"), false);
	base_json_free(doc);
	/* The state at S, with everything up to S in the log. */
	engine_commit_wait(e);
	v->until = e->seq;
	if (v->replay)
		v->live = core_state_hash(e->core);
	e->verify = v;
	if (start(e, v, &err) < 0) {
		engine_reply_problem(e, q, 503, "unavailable", "%s", err.text);
		free_verify(e, v);
	}
}

void engine_verify_done(struct engine *e)
{
	if (!e->verify)
		return;
	pthread_join(e->verify->thread, NULL);
	free_verify(e, e->verify);
}
