#include "core/block.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "base/codec.h"

size_t core_block_begin(struct base_buf *block, unsigned type, int64_t time_ms)
{
	size_t mark = block->len;

	/* One byte for the length; core_block_end makes room when it needs more. */
	base_buf_char(block, 0);
	base_put_u64(block, type);
	base_put_i64(block, time_ms);
	base_put_str(block, BASE_STR_NONE);
	return mark;
}

void core_block_end(struct base_buf *block, size_t mark)
{
	size_t len = block->len - mark - 1, more = 0, left;
	unsigned char *at;

	if (base_buf_failed(block))
		return;
	for (left = len; left >= 0x80; left >>= 7)
		more++;
	if (more > 0) {
		if (!base_buf_reserve(block, more))
			return;
		memmove(block->ptr + mark + 1 + more, block->ptr + mark + 1, len);
		base_buf_commit(block, more);
	}
	at = (unsigned char *)block->ptr + mark;
	for (left = len; left >= 0x80; left >>= 7)
		*at++ = (unsigned char)(left | 0x80);
	*at = (unsigned char)left;
}

int core_block_next(struct base_str block, size_t *at, struct core_record *ret)
{
	struct base_reader r = base_reader_of(base_str_sub(block, *at, block.len));
	struct core_record rec;

	if (*at >= block.len)
		return 0;
	memset(&rec, 0, sizeof(rec));
	rec.raw = base_get_str(&r);
	if (r.failed || rec.raw.len == 0)
		return -EBADMSG;
	*at = (size_t)(r.at - block.ptr);
	r = base_reader_of(rec.raw);
	rec.type = (unsigned)base_get_uint(&r, UINT_MAX);
	rec.time_ms = base_get_i64(&r);
	rec.subject = base_get_str(&r);
	if (rec.subject.len > 0)
		rec.nonce = base_get_str(&r);
	if (r.failed || rec.type == 0)
		return -EBADMSG;
	rec.body = (struct base_str){r.at, (size_t)(r.end - r.at)};
	*ret = rec;
	return 1;
}
