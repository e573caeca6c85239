#include "fold/fold.h"

#include <errno.h>
#include <stdlib.h>

#include "core/actions.h"
#include "core/block.h"
#include "core/core.h"

enum { SNAPSHOT_MAX = 1 << 30 };

struct fold {
	struct core *core;
	struct base_buf start; /* the snapshot's pieces, until the first block */
	bool begun;
};

int fold_new(struct fold **ret, struct base_err *err)
{
	struct fold *f = calloc(1, sizeof(*f));
	int rc = f ? core_new(&f->core) : -ENOMEM;

	for (size_t i = 0; rc == 0 && i < core_actions_count; i++)
		rc = core_catalogue_add(f->core, core_actions[i], err);
	if (rc < 0) {
		fold_free(f);
		return rc;
	}
	base_buf_init(&f->start, SNAPSHOT_MAX);
	*ret = f;
	return 0;
}

void fold_free(struct fold *f)
{
	if (!f)
		return;
	core_free(f->core);
	base_buf_done(&f->start);
	free(f);
}

int fold_state(struct fold *f, struct base_str data)
{
	if (f->begun)
		return -EINVAL;
	base_buf_str(&f->start, data);
	return base_buf_failed(&f->start);
}

static int begin(struct fold *f, struct base_err *err)
{
	int rc = 0;

	if (f->begun)
		return 0;
	f->begun = true;
	if (f->start.len)
		rc = core_restore(f->core, base_buf_view(&f->start), err);
	base_buf_done(&f->start);
	return rc;
}

int fold_block(struct fold *f, uint64_t first_seq, struct base_str block, struct base_err *err)
{
	struct core_record rec;
	uint64_t seq = first_seq;
	size_t at = 0;
	int rc = begin(f, err);

	if (rc < 0)
		return rc;
	while ((rc = core_block_next(block, &at, &rec)) == 1) {
		if (seq > core_seq(f->core) + 1)
			return base_err_set(err, -EBADMSG, "event %llu comes after %llu",
				(unsigned long long)seq, (unsigned long long)core_seq(f->core));
		if (seq == core_seq(f->core) + 1)
			core_apply(f->core, seq, &rec, NULL, NULL);
		seq++;
	}
	return rc < 0 ? base_err_set(err, rc, "the block at %llu is damaged", (unsigned long long)first_seq)
		      : 0;
}

int fold_take(struct fold *f, uint64_t seq, struct base_buf *ret, struct base_err *err)
{
	int rc = begin(f, err);

	if (rc < 0)
		return rc;
	if (core_seq(f->core) != seq)
		return base_err_set(err, -EBADMSG, "the events lead to %llu, not to %llu",
			(unsigned long long)core_seq(f->core), (unsigned long long)seq);
	return core_snapshot(f->core, ret);
}
