#pragma once

/* Which processors the workers of an aiosd run on (near.c). */
struct engine;
struct engine_near;

/* -1: out of memory. The caller frees *ret. */
int engine_near_new(struct engine_near **ret) __attribute__((warn_unused_result));
void engine_near_free(struct engine_near *n);
/* At the end of each turn: binds the workers beside aiosd, or lets them go, by what is under way. */
void engine_near_turn(struct engine *e, struct engine_near *n);
