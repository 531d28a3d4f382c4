// What the two halves of bench_codes share. It looks into the room index/codes on purpose: there is nothing public of it
// to measure.
#ifndef RAGD_BENCH_CODES_H
#define RAGD_BENCH_CODES_H

#include "index/codes/codes_internal.h"

int bench_recall(int path_count, char **paths); // recall.c

void *bench_alloc(size_t size); // 64-byte aligned; exits when there is none
uint64_t bench_random(uint64_t *state);
double bench_cpu_us(void); // of this thread: what other programs take of the core does not count

#endif
