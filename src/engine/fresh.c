#include "core/actions.h"
#include "engine/engine_int.h"

/* An empty state that knows every action. */

int engine_core_new(struct core **ret, struct base_err *err)
{
	struct core *c;
	int rc = core_new(&c);

	if (rc < 0)
		return base_err_set(err, rc, "out of memory");
	for (size_t i = 0; i < core_actions_count; i++) {
		rc = core_catalogue_add(c, core_actions[i], err);
		if (rc < 0) {
			core_free(c);
			return rc;
		}
	}
	*ret = c;
	return 0;
}
