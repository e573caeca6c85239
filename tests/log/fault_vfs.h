#pragma once

#include <stdbool.h>
#include <stdint.h>

/*
 * A layer under SQLite that fails on request and knows what a power cut could leave: per file, what was
 * synced, and the writes since. Installed as the default VFS of the program; one directory at a time.
 */
void fault_install(void);

/* The n-th sync (or write, or read) from now on fails, once (1: the next); 0: none. */
void fault_sync(unsigned n);
void fault_write(unsigned n); /* as on a full disk */
void fault_read(unsigned n);
bool fault_happened(void); /* since the last of these */

/* Writes into `dir` what may be on the disk after a power cut at this moment: of the writes since the last
 * sync of each file, chosen by `seed`, some are there, some are not, some are torn at 512 bytes, some are trashed. */
void fault_power_cut(const char *dir, uint64_t seed);
/* Files opened while this is off are not watched. */
void fault_watch(bool on);
/* Forgets all files. */
void fault_reset(void);
