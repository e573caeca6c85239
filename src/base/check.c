#include "base/check.h"

#include <stdio.h>
#include <stdlib.h>

void base_check_failed(const char *what, const char *file, int line)
{
	fprintf(stderr, "aios: broken invariant: %s (%s:%d)\n", what, file, line);
	abort();
}
