#pragma once

#include "cli/cli_int.h"

/* Reads and checks the files of the arguments from `from` on, without any: policy.yaml and policy/ of the workspace. 0 with
 * {"policy","tests"?,"problem"?}, which the caller frees, or an exit code after saying why. */
int cli_policy_read(struct cli *c, unsigned from, struct base_json **ret);
/* Says FILE:LINE:COLUMN: why. CLI_FAILED. */
int cli_policy_problem(struct cli *c, struct base_jv problem);
