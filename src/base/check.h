#pragma once

/* Assertions that stay on in release: a broken invariant ends the process, which is restarted from the log.
 */
void base_check_failed(const char *what, const char *file, int line) __attribute__((noreturn, cold));
#define BASE_CHECK(cond) ((cond) ? (void)0 : base_check_failed(#cond, __FILE__, __LINE__))
