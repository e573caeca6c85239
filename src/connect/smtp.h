#pragma once

#include <curl/curl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

/*
 * Handing mails to SMTP servers, on a few threads of their own: libcurl waits for a server's word on a
 * message without going back to its caller, which would hold up everything else. A thread keeps its
 * connection while there is work and ends when there is none.
 */

enum smtp_phase {
	SMTP_BEFORE,   /* the server has not asked for the message: nothing can have happened */
	SMTP_DATA,     /* it has: the message may have been taken */
	SMTP_GIVEN_UP, /* nobody waits any more, and the message will not be handed over */
};

struct smtp_job {
	uint64_t call;
	char *url, *user, *password, *from, *to,
		*ca;		 /* user, password, ca: or NULL; addresses with angle brackets */
	struct base_str message; /* malloc'ed */
	bool starttls;
	uint32_t timeout_ms;
	_Atomic int phase;
	_Atomic bool abandoned; /* in phase SMTP_DATA: end soon, nobody listens */
	size_t sent;
	/* at the end */
	CURLcode code;
	long status; /* the server's last code, 0: none */
	char words[256], error[CURL_ERROR_SIZE];
	struct smtp_job *next;
};

/* Frees a job that was not submitted, or was taken. Wipes the password. */
void smtp_job_free(struct smtp_job *job);

struct smtp_pool;
int smtp_pool_new(struct smtp_pool **ret) __attribute__((warn_unused_result)); /* -errno */
/* Waits a moment for the threads. False: some still wait for a server and use the pool, which then stays. */
bool smtp_pool_free(struct smtp_pool *p);
int smtp_pool_fd(const struct smtp_pool *p); /* readable when jobs are through */
/* Gives the job away. -EAGAIN: too many are waiting, or no thread can be started. */
int smtp_pool_submit(struct smtp_pool *p, struct smtp_job *job) __attribute__((warn_unused_result));
/* A job that is through, which the caller frees; NULL: none. */
struct smtp_job *smtp_pool_take(struct smtp_pool *p);
/* The submitted job is wanted no more. True: its message was not and will not be handed over; false: it may
 * have been. The job must not be touched afterwards. */
bool smtp_job_give_up(struct smtp_job *job);
