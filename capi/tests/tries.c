/* A hundred thousand refused tries from each of two threads, nested two deep, from a depth of a hundred frames that have
 * arrays of their own: the stack, the memory of the process, the signal mask and the alternate stack stay as they are. */
#define _GNU_SOURCE
#undef NDEBUG
#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pagewise.h"

#ifndef ROUNDS
#define ROUNDS 50000 /* each has two refused tries */
#endif
enum { DEPTH = 100 };

static pagewise_region *region;

struct place {
    volatile char *byte;
    int depth;
};

static int deep(volatile char *byte, int depth) {
    char local[48];
    memset(local, depth, sizeof local);
    if (depth == 0) *byte = 1;
    volatile char *kept = local;
    return kept[depth % 48] + (depth > 0 ? deep(byte, depth - 1) : 0);
}

static void inner(void *context) {
    struct place *place = context;
    place->depth = deep(place->byte, DEPTH);
}

static void outer(void *context) {
    struct place *place = context;
    pagewise_refusal refusal;
    assert(pagewise_try(inner, place, &refusal) == PAGEWISE_ERROR_LIMIT);
    assert(refusal.offset == 5);
    place->depth = deep(place->byte + pagewise_page_size(), DEPTH);
}

/* Where the thread stands. (Not the address of a variable, which AddressSanitizer keeps elsewhere.) */
__attribute__((noinline)) static uintptr_t stack(void) {
    return (uintptr_t)__builtin_frame_address(0);
}

#if defined(__linux__) && !defined(UNDER_A_TOOL)
/* The process's memory, in pages that are resident. (A sanitizer or valgrind has memory of its own.) */
static long resident(void) {
    long all = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    assert(file && fscanf(file, "%ld %ld", &all, &resident) == 2);
    fclose(file);
    return resident;
}
#else
static long resident(void) { return 0; }
#endif

#ifdef _WIN32
static void signals_before(void) {}
static void signals_after(void) {}
#else
static _Thread_local stack_t signals, before;

/* A signal mask and an alternate stack that are this thread's own. */
static void signals_before(void) {
    sigset_t mask;
    signals.ss_size = 1 << 17;
    signals.ss_sp = malloc(signals.ss_size);
    assert(signals.ss_sp && sigaltstack(&signals, NULL) == 0);
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR2);
    assert(pthread_sigmask(SIG_SETMASK, &mask, NULL) == 0);
    assert(sigaltstack(NULL, &before) == 0);
}

static void signals_after(void) {
    stack_t after;
    sigset_t now;
    assert(sigaltstack(NULL, &after) == 0);
    assert(after.ss_sp == before.ss_sp && after.ss_size == before.ss_size && after.ss_flags == before.ss_flags);
    assert(pthread_sigmask(SIG_SETMASK, NULL, &now) == 0);
    for (int signal = 1; signal < 32; signal++)
        assert(sigismember(&now, signal) == (signal == SIGUSR2));
    signals.ss_flags = SS_DISABLE;
    sigaltstack(&signals, NULL);
    free(signals.ss_sp);
}
#endif

static void *work(void *unused) {
    struct place place = {(char *)pagewise_region_ptr(region) + 5, 0};
    char there = 0;
    long pages = 0;
    signals_before();
    uintptr_t bottom = stack();
    for (int round = 0; round < ROUNDS; round++) {
        pagewise_refusal refusal;
        assert(pagewise_try(outer, &place, &refusal) == PAGEWISE_ERROR_LIMIT);
        assert(refusal.offset == pagewise_page_size() + 5 && place.depth == 0);
        assert(stack() == bottom);
        if (round == ROUNDS / 10) pages = resident();
    }
    /* The kernel's count lags by dozens of pages. Sixteen bytes of each refusal would be 700 pages. */
    assert(resident() - pages < 300);
    assert(deep(&there, DEPTH) != 0); /* frames at the same addresses */
    signals_after();
    return unused;
}

int main(void) {
    pagewise_options options;
    pagewise_stats stats;
    pthread_t threads[2];
    pagewise_options_default(&options, sizeof options);
    options.limit = 0;
    assert(pagewise_region_new(8 * pagewise_page_size(), &options, &region) == PAGEWISE_OK);
    for (int i = 0; i < 2; i++) assert(pthread_create(&threads[i], NULL, work, NULL) == 0);
    for (int i = 0; i < 2; i++) assert(pthread_join(threads[i], NULL) == 0);
    assert(pagewise_region_stats(region, &stats, sizeof stats) == PAGEWISE_OK);
    assert(stats.refused == 4 * ROUNDS);
    pagewise_region_free(region);
    puts("tried");
    return 0;
}
