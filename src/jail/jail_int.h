#pragma once

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"
#include "jail/jail.h"

/* True in builds with AddressSanitizer, whose runtime needs more address space and a few more system calls.
 */
#if defined(__SANITIZE_ADDRESS__)
#define JAIL_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define JAIL_SANITIZED 1
#endif
#endif
#ifndef JAIL_SANITIZED
#define JAIL_SANITIZED 0
#endif

/* Files without which the C library's temporary names and SQLite's entropy fall back to worse. Ended by NULL. */
extern const char *const jail_devices[];

/* The ABI of this kernel's Landlock; 0: none. */
int jail_landlock_abi(void);

/* Restricts files (and, where the ABI knows them, TCP and abstract sockets and signals). Returns 1 when
 * applied, 0 where the kernel has none or it would break the profile, or a negative errno with a text. */
int jail_landlock(const struct jail_options *o, struct base_err *err) __attribute__((warn_unused_result));

/* Leaves the outer namespaces as far as the profile and the kernel allow, appends what was left to
 * ret_features, and gives up all capabilities. `foreign`: some writable folder belongs to another user, whom
 * only root's capabilities can reach; user namespace and capabilities then stay. */
int jail_namespaces(const struct jail_options *o, bool foreign, struct base_buf *ret_features,
	struct base_err *err) __attribute__((warn_unused_result));

/* Loads the allow-list. no_new_privs must be set. */
int jail_seccomp(enum jail_profile profile, struct base_err *err) __attribute__((warn_unused_result));

/* An exploited process, in builds with -Dattack=true; else nothing. `arm` before the jail is entered, the other inside. */
void jail_attack_arm(void);
void jail_attack(void);
