/* A hundred thousand refused tries from each of two threads, nested two deep, from a depth of a hundred frames that have
 * arrays of their own: the stack, the signal mask and the alternate stack stay as they are. */
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

enum { DEPTH = 100, ROUNDS = 50000 };

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

static void *work(void *unused) {
    struct place place = {(char *)pagewise_region_ptr(region) + 5, 0};
    stack_t signals = {0}, before, after;
    sigset_t mask, now;
    signals.ss_size = 1 << 17;
    signals.ss_sp = malloc(signals.ss_size);
    assert(signals.ss_sp && sigaltstack(&signals, NULL) == 0);
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR2);
    assert(pthread_sigmask(SIG_SETMASK, &mask, NULL) == 0);
    assert(sigaltstack(NULL, &before) == 0);
    uintptr_t bottom = stack();
    for (int round = 0; round < ROUNDS; round++) {
        pagewise_refusal refusal;
        assert(pagewise_try(outer, &place, &refusal) == PAGEWISE_ERROR_LIMIT);
        assert(refusal.offset == pagewise_page_size() + 5 && place.depth == 0);
        assert(stack() == bottom);
    }
    assert(deep((char *)&mask, DEPTH) != 0); /* frames at the same addresses */
    assert(sigaltstack(NULL, &after) == 0);
    assert(after.ss_sp == before.ss_sp && after.ss_size == before.ss_size && after.ss_flags == before.ss_flags);
    assert(pthread_sigmask(SIG_SETMASK, NULL, &now) == 0);
    for (int signal = 1; signal < 32; signal++)
        assert(sigismember(&now, signal) == (signal == SIGUSR2));
    signals.ss_flags = SS_DISABLE;
    sigaltstack(&signals, NULL);
    free(signals.ss_sp);
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
