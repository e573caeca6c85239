#include "connect/smtp.h"

#include <errno.h>
#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

/*
 * Invariants:
 *  1. A job is with the submitter, waiting, with one thread, or through; it is freed by whoever has it.
 *  2. The message is handed to libcurl only after the phase went from SMTP_BEFORE to SMTP_DATA, which cannot
 * happen once smtp_job_give_up has returned true.
 */

enum { THREADS_MAX = 8, WAITING_MAX = 4096, IDLE_S = 5, CONNECT_MS = 15000, ANSWER_MS = 120000 };

struct queue {
	struct smtp_job *first, **end;
};

struct smtp_pool {
	pthread_mutex_t lock;
	pthread_cond_t work, ended;
	struct queue waiting, through;
	size_t waiting_count, threads, idle;
	bool quit;
	int event_fd;
};

static void queue_put(struct queue *q, struct smtp_job *job)
{
	job->next = NULL;
	*q->end = job;
	q->end = &job->next;
}

static struct smtp_job *queue_take(struct queue *q)
{
	struct smtp_job *job = q->first;

	if (job) {
		q->first = job->next;
		if (!q->first)
			q->end = &q->first;
	}
	return job;
}

void smtp_job_free(struct smtp_job *job)
{
	if (!job)
		return;
	free(job->url);
	free(job->user);
	sodium_free(job->password); /* wipes */
	free(job->from);
	free(job->to);
	free(job->ca);
	free((void *)(uintptr_t)job->message.ptr);
	free(job);
}

bool smtp_job_give_up(struct smtp_job *job)
{
	int before = SMTP_BEFORE;

	if (atomic_compare_exchange_strong(&job->phase, &before, SMTP_GIVEN_UP))
		return true;
	atomic_store(&job->abandoned, true);
	return false;
}

/* --- one mail --- */

/* libcurl asks for the message only once the server has answered DATA with 354. */
static size_t on_read(char *buffer, size_t size, size_t count, void *userdata)
{
	struct smtp_job *job = userdata;
	struct base_str piece = base_str_sub(job->message, job->sent, size * count);
	int phase = SMTP_BEFORE;

	if (!atomic_compare_exchange_strong(&job->phase, &phase, SMTP_DATA) && phase != SMTP_DATA)
		return CURL_READFUNC_ABORT;
	if (piece.len)
		memcpy(buffer, piece.ptr, piece.len);
	job->sent += piece.len;
	return piece.len;
}

/* The server's last line, for people. */
static size_t on_line(char *data, size_t size, size_t count, void *userdata)
{
	struct smtp_job *job = userdata;
	size_t len = size * count;

	while (len && (unsigned char)data[len - 1] <= ' ')
		len--;
	if (len > sizeof(job->words) - 1)
		len = sizeof(job->words) - 1;
	memcpy(job->words, data, len);
	job->words[len] = 0;
	return size * count;
}

static size_t on_body(char *data, size_t size, size_t count, void *userdata)
{
	(void)data;
	(void)userdata;
	return size * count;
}

static int on_progress(void *userdata, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
	struct smtp_job *job = userdata;

	(void)a;
	(void)b;
	(void)c;
	(void)d;
	return atomic_load(&job->abandoned) || atomic_load(&job->phase) == SMTP_GIVEN_UP;
}

static void set_options(CURL *e, struct smtp_job *job, struct curl_slist *to)
{
	struct curl_blob ca = {
		.data = job->ca, .len = job->ca ? strlen(job->ca) : 0, .flags = CURL_BLOB_COPY};

	curl_easy_reset(e); /* keeps the connection */
	curl_easy_setopt(e, CURLOPT_URL, job->url);
	curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "smtp,smtps");
	curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(e, CURLOPT_PROXY, "");
	curl_easy_setopt(e, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
	curl_easy_setopt(e, CURLOPT_SERVER_RESPONSE_TIMEOUT, (long)ANSWER_MS / 1000);
	curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, (long)job->timeout_ms);
	curl_easy_setopt(e, CURLOPT_USE_SSL, (long)(job->starttls ? CURLUSESSL_ALL : CURLUSESSL_NONE));
	if (job->ca)
		curl_easy_setopt(e, CURLOPT_CAINFO_BLOB, &ca);
	if (job->user && job->password) {
		curl_easy_setopt(e, CURLOPT_USERNAME, job->user);
		curl_easy_setopt(e, CURLOPT_PASSWORD, job->password);
	}
	curl_easy_setopt(e, CURLOPT_MAIL_FROM, job->from);
	curl_easy_setopt(e, CURLOPT_MAIL_RCPT, to);
	curl_easy_setopt(e, CURLOPT_UPLOAD, 1L);
	curl_easy_setopt(e, CURLOPT_INFILESIZE_LARGE, (curl_off_t)job->message.len);
	curl_easy_setopt(e, CURLOPT_READFUNCTION, on_read);
	curl_easy_setopt(e, CURLOPT_READDATA, job);
	curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_line);
	curl_easy_setopt(e, CURLOPT_HEADERDATA, job);
	curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(e, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(e, CURLOPT_XFERINFOFUNCTION, on_progress);
	curl_easy_setopt(e, CURLOPT_XFERINFODATA, job);
	curl_easy_setopt(e, CURLOPT_ERRORBUFFER, job->error);
}

static void perform(CURL *e, struct smtp_job *job)
{
	struct curl_slist *to = curl_slist_append(NULL, job->to);

	if (!to || atomic_load(&job->phase) == SMTP_GIVEN_UP) {
		job->code = to ? CURLE_ABORTED_BY_CALLBACK : CURLE_OUT_OF_MEMORY;
	} else {
		set_options(e, job, to);
		job->code = curl_easy_perform(e);
		curl_easy_getinfo(e, CURLINFO_RESPONSE_CODE, &job->status);
		curl_easy_setopt(e, CURLOPT_ERRORBUFFER, NULL); /* lies in the job */
	}
	curl_slist_free_all(to);
}

/* --- threads --- */

/* The next job, after at most IDLE_S seconds; NULL: the thread ends. Called and returns with the lock held.
 */
static struct smtp_job *next_job(struct smtp_pool *p)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += IDLE_S;
	p->idle++;
	while (!p->waiting.first && !p->quit && pthread_cond_timedwait(&p->work, &p->lock, &until) == 0)
		;
	p->idle--;
	if (!p->waiting.first)
		return NULL;
	p->waiting_count--;
	return queue_take(&p->waiting);
}

static void *run(void *userdata)
{
	struct smtp_pool *p = userdata;
	CURL *e = curl_easy_init();
	struct smtp_job *job;
	const uint64_t one = 1;

	pthread_mutex_lock(&p->lock);
	while ((job = next_job(p))) {
		pthread_mutex_unlock(&p->lock);
		if (e)
			perform(e, job);
		else
			job->code = CURLE_OUT_OF_MEMORY;
		pthread_mutex_lock(&p->lock);
		queue_put(&p->through, job);
		if (write(p->event_fd, &one, sizeof(one)) < 0)
			continue; /* cannot be: the counter has room for 2^64 */
	}
	pthread_mutex_unlock(&p->lock);
	curl_easy_cleanup(e); /* says goodbye to the server, which may take a while */
	pthread_mutex_lock(&p->lock);
	p->threads--;
	pthread_cond_signal(&p->ended);
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

static int start_thread(struct smtp_pool *p)
{
	pthread_attr_t attr;
	pthread_t thread;
	int r = pthread_attr_init(&attr);

	if (r)
		return -r;
	pthread_attr_setstacksize(&attr, 512 << 10);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	r = pthread_create(&thread, &attr, run, p);
	pthread_attr_destroy(&attr);
	p->threads += r == 0;
	return -r;
}

int smtp_pool_new(struct smtp_pool **ret)
{
	struct smtp_pool *p = calloc(1, sizeof(*p));
	pthread_condattr_t attr;

	if (!p)
		return -ENOMEM;
	p->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (p->event_fd < 0) {
		free(p);
		return -errno;
	}
	p->waiting.end = &p->waiting.first;
	p->through.end = &p->through.first;
	pthread_mutex_init(&p->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&p->work, &attr);
	pthread_cond_init(&p->ended, &attr);
	pthread_condattr_destroy(&attr);
	*ret = p;
	return 0;
}

bool smtp_pool_free(struct smtp_pool *p)
{
	struct smtp_job *job;
	struct timespec until;
	bool all;

	if (!p)
		return true;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += 1;
	pthread_mutex_lock(&p->lock);
	p->quit = true;
	pthread_cond_broadcast(&p->work);
	while (p->threads && pthread_cond_timedwait(&p->ended, &p->lock, &until) == 0)
		;
	all = p->threads == 0;
	pthread_mutex_unlock(&p->lock);
	if (!all)
		return false;
	while ((job = queue_take(&p->waiting)) || (job = queue_take(&p->through)))
		smtp_job_free(job);
	close(p->event_fd);
	pthread_cond_destroy(&p->work);
	pthread_cond_destroy(&p->ended);
	pthread_mutex_destroy(&p->lock);
	free(p);
	return true;
}

int smtp_pool_fd(const struct smtp_pool *p)
{
	return p->event_fd;
}

int smtp_pool_submit(struct smtp_pool *p, struct smtp_job *job)
{
	int r = 0;

	pthread_mutex_lock(&p->lock);
	if (p->waiting_count >= WAITING_MAX)
		r = -EAGAIN;
	else if (p->idle <= p->waiting_count && p->threads < THREADS_MAX && start_thread(p) < 0 &&
		 !p->threads)
		r = -EAGAIN;
	if (r == 0) {
		queue_put(&p->waiting, job);
		p->waiting_count++;
		pthread_cond_signal(&p->work);
	}
	pthread_mutex_unlock(&p->lock);
	return r;
}

struct smtp_job *smtp_pool_take(struct smtp_pool *p)
{
	struct smtp_job *job;
	uint64_t count;

	if (read(p->event_fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		return NULL;
	pthread_mutex_lock(&p->lock);
	job = queue_take(&p->through);
	pthread_mutex_unlock(&p->lock);
	return job;
}
