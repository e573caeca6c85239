#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "engine/keep.h"

void engine_put_checkpoint(struct base_jw *w, const struct core_checkpoint_signed *k)
{
	struct base_buf b;

	base_buf_init(&b, 1024);
	base_jw_key(w, "checkpoint");
	base_jw_uint(w, k->seq);
	base_jw_mstr(w, "log", k->log);
	base_jw_mhash(w, "chain", &k->root);
	base_jw_mint(w, "time", k->signed_ms);
	base_hex_put(&b, k->public_key);
	base_jw_mstr(w, "public_key", base_buf_view(&b));
	base_buf_clear(&b);
	base_hex_put(&b, k->signature);
	base_jw_mstr(w, "signature", base_buf_view(&b));
	base_buf_done(&b);
}
