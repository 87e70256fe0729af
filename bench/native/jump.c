/* What a program does in place of `pagewise_try`: it leaves the handler by siglongjmp. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static sigjmp_buf back;
static uintptr_t area, area_end;

static void jump(int signal_number, siginfo_t *info, void *context) {
    uintptr_t at = (uintptr_t)info->si_addr;
    (void)context;
    if (at >= area && at < area_end)
        siglongjmp(back, 1);
    signal(signal_number, SIG_DFL);
}

/* Calls work(context) count times, each time after a sigsetjmp that saves the signal mask. Returns how often it was
   left by a jump: because of an access to the inaccessible area. */
size_t pagewise_bench_jumps(void *start, size_t len, void (*work)(void *), void *context,
                            size_t count) {
    volatile size_t jumps = 0;
    struct sigaction sa;
    memset(&sa, 0, sizeof sa);
    sa.sa_sigaction = jump;
    sa.sa_flags = SA_SIGINFO;
    sigemptyset(&sa.sa_mask);
    area = (uintptr_t)start;
    area_end = area + len;
    if (sigaction(SIGSEGV, &sa, NULL) != 0)
        return 0;
    for (volatile size_t i = 0; i < count; i++) {
        if (sigsetjmp(back, 1) == 0)
            work(context);
        else
            jumps++;
    }
    return jumps;
}
