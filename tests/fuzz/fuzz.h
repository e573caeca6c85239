#pragma once

#include <stddef.h>
#include <stdint.h>

/* What every target defines. Always returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
