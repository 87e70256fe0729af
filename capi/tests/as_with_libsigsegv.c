/* What programs use libsigsegv for, on this API: a handler that is told the address and lets the access go on; a handler
 * for each area of memory; a handler that is left by a jump, again and again; a program's own fault handler beside all
 * that, for stack overflows and for a write barrier; and system calls, which do not fault. docs/c.md has a table of it. */
#define _GNU_SOURCE
#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "pagewise.h"

static size_t page;

/* A filter that notes what it sees, and lets the first `pages` pages have memory. */
struct area {
    pagewise_region *region;
    char *start;
    size_t pages;
    volatile int calls;
    void *volatile address;
    volatile size_t offset;
    volatile int access;
};

static struct area *volatile last_area;

static int note(void *context, pagewise_fault *fault) {
    struct area *area = context;
    area->calls++;
    area->address = fault->address;
    area->offset = fault->offset;
    area->access = fault->access;
    last_area = area;
    return fault->offset < area->pages * page ? PAGEWISE_FILTER_COMMIT : PAGEWISE_FILTER_REFUSE;
}

static void area_new(struct area *area, size_t all_pages, size_t pages) {
    pagewise_options options;
    memset(area, 0, sizeof *area);
    area->pages = pages;
    pagewise_options_default(&options, sizeof options);
    options.step = page;
    options.filter = note;
    options.filter_context = area;
    assert(pagewise_region_new(all_pages * page, &options, &area->region) == PAGEWISE_OK);
    area->start = pagewise_region_ptr(area->region);
}

/* sigsegv_install_handler: the handler gets the address; the access goes on, and is not seen again. */
static void a_handler_is_told_the_address_once(void) {
    struct area area;
    area_new(&area, 4, 4);
    volatile char *place = area.start + page + 0x67b;
    *place = 42;
    assert(area.calls == 1 && area.address == (void *)place && area.offset == page + 0x67b);
    assert(area.access == 1);
    *place = 43;
    assert(area.calls == 1 && *place == 43);
    assert(*(volatile int *)(area.start + 2 * page) == 0);
    assert(area.calls == 2 && area.access == 0);
    pagewise_region_free(area.region);
}

/* sigsegv_register and sigsegv_unregister: each area has a handler and an argument of its own. */
static void each_area_has_its_handler(void) {
    struct area areas[3];
    struct area *seen[4];
    for (int i = 0; i < 3; i++) area_new(&areas[i], 4, 4);
    static const int order[] = {1, 2, 0, 1};
    for (int i = 0; i < 4; i++) {
        last_area = NULL;
        areas[order[i]].start[(size_t)i * page + 230] = 22; /* the area 1 twice, in different pages */
        seen[i] = last_area;
    }
    for (int i = 0; i < 4; i++) assert(seen[i] == &areas[order[i]]);
    last_area = NULL;
    areas[1].start[135] = 22;
    assert(!last_area && areas[0].calls == 1 && areas[1].calls == 2 && areas[2].calls == 1);
    pagewise_region_free(areas[2].region);
    areas[0].start[0] = areas[1].start[3 * page] = 1;
    assert(areas[0].start[2 * page + 230] == 22 && areas[1].start[3 * page + 230] == 22);
    pagewise_region_free(areas[0].region);
    pagewise_region_free(areas[1].region);
}

static void write_there(void *byte) {
    *(volatile char *)byte = 42;
}

/* sigsegv_leave_handler and longjmp: pagewise_try comes back, with the signal mask as it was, and may be used again. */
static void a_fault_is_left_again_and_again(void) {
    struct area area;
    sigset_t mask, now;
    area_new(&area, 4, 0);
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR1);
    assert(pthread_sigmask(SIG_SETMASK, &mask, NULL) == 0);
    for (int pass = 0; pass < 5; pass++) {
        pagewise_refusal refusal;
        char *place = area.start + 0x678 + 7 * pass;
        assert(pagewise_try(write_there, place, &refusal) == PAGEWISE_ERROR_FILTER);
        assert(refusal.region == area.start && area.address == place && area.calls == pass + 1);
        assert(pthread_sigmask(SIG_SETMASK, NULL, &now) == 0);
        for (int signal = 1; signal < 32; signal++)
            assert(sigismember(&now, signal) == (signal == SIGUSR1));
    }
    sigemptyset(&mask);
    assert(pthread_sigmask(SIG_SETMASK, &mask, NULL) == 0);
    pagewise_region_free(area.region);
}

/* System calls do not call the handler: they fail. The pages are committed before the call. */
static void system_calls_fail(void) {
    struct area area;
    area_new(&area, 4, 4);
    int zeros = open("/dev/zero", O_RDONLY);
    assert(zeros >= 0);
    errno = 0;
    assert(read(zeros, area.start, 100) == -1 && errno == EFAULT && area.calls == 0);
    assert(pagewise_region_commit(area.region, 0, 100) == PAGEWISE_OK);
    assert(read(zeros, area.start, 100) == 100 && area.calls == 0);
    close(zeros);
    pagewise_region_free(area.region);
}

/* ---- The program's own handler, which was there before pagewise's ---- */

static sigjmp_buf back;
static volatile int calls_of_the_host;
static void *volatile address_of_the_host;
static char *volatile barrier; /* a page of the program's own, which may be written after the first attempt */

static void host(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)context;
    calls_of_the_host++;
    address_of_the_host = info->si_addr;
    if (barrier && (char *)info->si_addr >= barrier && (char *)info->si_addr < barrier + page) {
        if (mprotect(barrier, page, PROT_READ | PROT_WRITE) == 0) return;
        abort();
    }
    siglongjmp(back, 1);
}

/* The frames must stay: what is done after the call, and the volatile array, keep them. */
static int overflow(int depth) {
    volatile char frame[512];
    frame[0] = (char)depth;
    return depth < 0 ? 0 : overflow(depth + 1) + frame[0];
}

static int an_overflow_came_to_the_host(void) {
    char *volatile here = (char *)__builtin_frame_address(0);
    if (sigsetjmp(back, 1) == 0) {
        overflow(0);
        return 0;
    }
    /* Below this frame by about the stack's limit. */
    ptrdiff_t distance = here - (char *)address_of_the_host;
    return distance > 256 * 1024 && distance < 64 * 1024 * 1024;
}

static void overflow_in_a_try(void *answer) {
    *(int *)answer = an_overflow_came_to_the_host();
}

/* stackoverflow_install_handler: overflows are no business of pagewise's. They come to the program's own handler on its
 * alternate stack, also inside of pagewise_try (where the jump stays inside, too); a refusal does not. */
static void stack_overflows_come_to_the_host(void) {
    struct area area;
    int in_a_try = 0;
    area_new(&area, 4, 1);
    calls_of_the_host = 0;
    assert(an_overflow_came_to_the_host() && calls_of_the_host == 1);
    assert(an_overflow_came_to_the_host() && calls_of_the_host == 2);
    assert(pagewise_try(overflow_in_a_try, &in_a_try, NULL) == PAGEWISE_OK);
    assert(in_a_try && calls_of_the_host == 3);
    assert(pagewise_try(write_there, area.start, NULL) == PAGEWISE_OK);
    assert(pagewise_try(write_there, area.start + 2 * page, NULL) == PAGEWISE_ERROR_FILTER);
    assert(area.calls == 2 && calls_of_the_host == 3);
    pagewise_region_free(area.region);
    /* The addresses of a region that is gone are nobody's. */
    if (sigsetjmp(back, 1) == 0) {
        *(volatile char *)area.start = 1;
        assert(!"the access went on");
    }
    assert(calls_of_the_host == 4 && address_of_the_host == area.start && area.calls == 2);
}

/* A write barrier on a page that can be read: pagewise has none, and one of the program's own works beside it. */
static void a_write_barrier_of_the_host(void) {
    struct area area;
    area_new(&area, 4, 4);
    char *mapped = mmap(NULL, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert(mapped != MAP_FAILED);
    barrier = mapped;
    calls_of_the_host = 0;
    assert(*(volatile char *)(mapped + 0x678) == 0 && calls_of_the_host == 0);
    *(volatile char *)(mapped + 0x678) = area.start[0x678] = 1;
    assert(calls_of_the_host == 1 && address_of_the_host == mapped + 0x678 && area.calls == 1);
    *(volatile char *)(mapped + 0x679) = 1;
    assert(calls_of_the_host == 1 && mapped[0x678] == 1);
    barrier = NULL;
    munmap(mapped, page);
    pagewise_region_free(area.region);
}

int main(void) {
    struct rlimit stack;
    struct sigaction action;
    stack_t signals = {0};
    page = pagewise_page_size();

    assert(getrlimit(RLIMIT_STACK, &stack) == 0);
    stack.rlim_cur = 1 << 20;
    assert(setrlimit(RLIMIT_STACK, &stack) == 0);
    signals.ss_size = 1 << 17;
    signals.ss_sp = malloc(signals.ss_size);
    assert(signals.ss_sp && sigaltstack(&signals, NULL) == 0);
    memset(&action, 0, sizeof action);
    action.sa_sigaction = host;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    assert(sigaction(SIGSEGV, &action, NULL) == 0 && sigaction(SIGBUS, &action, NULL) == 0);

    a_handler_is_told_the_address_once();
    each_area_has_its_handler();
    a_fault_is_left_again_and_again();
    system_calls_fail();
    assert(calls_of_the_host == 0);
    stack_overflows_come_to_the_host();
    a_write_barrier_of_the_host();

    signals.ss_flags = SS_DISABLE;
    sigaltstack(&signals, NULL);
    free(signals.ss_sp);
    puts("as with libsigsegv");
    return 0;
}
