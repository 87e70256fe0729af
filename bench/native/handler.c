/* The fault handler that one would write by hand: no registry, no chaining, no accounting, no errno. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

static uintptr_t area, area_end, step;
static int populate;

static int install(int signal_number, void (*action)(int, siginfo_t *, void *)) {
    struct sigaction sa;
    memset(&sa, 0, sizeof sa);
    sa.sa_sigaction = action;
    sa.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigemptyset(&sa.sa_mask);
    return sigaction(signal_number, &sa, NULL);
}

/* Says why, and lets the access end the process. */
static void refuse(int signal_number, const char *why) {
    if (write(2, why, strlen(why)) < 0) {
        /* Nobody listens. */
    }
    signal(signal_number, SIG_DFL);
}

static void on_fault(int signal_number, siginfo_t *info, void *context) {
    (void)context;
    uintptr_t at = (uintptr_t)info->si_addr;
    if (at < area || at >= area_end) {
        signal(signal_number, SIG_DFL);
        return;
    }
    void *start = (void *)(at & ~(step - 1));
    if (mprotect(start, step, PROT_READ | PROT_WRITE) != 0) {
        refuse(signal_number, "the handler's mprotect was refused (vm.max_map_count?)\n");
        return;
    }
    if (populate)
        madvise(start, step, MADV_POPULATE_WRITE);
}

/* Each fault in the area makes the aligned block of step_bytes around it accessible, and resident if
   asked to. step_bytes is a power of two; area and length are multiples of it. */
int pagewise_bench_handle_faults(void *start, size_t len, size_t step_bytes, int and_populate) {
    area = (uintptr_t)start;
    area_end = area + len;
    step = step_bytes;
    populate = and_populate;
    return install(SIGSEGV, on_fault);
}

static void on_guard(int signal_number, siginfo_t *info, void *context) {
    (void)context;
    uintptr_t at = (uintptr_t)info->si_addr;
    if (at < area || at >= area_end) {
        signal(signal_number, SIG_DFL);
        return;
    }
    void *start = (void *)(at & ~(step - 1));
    if (madvise(start, step, MADV_GUARD_REMOVE) != 0) {
        refuse(signal_number, "the handler's MADV_GUARD_REMOVE was refused\n");
        return;
    }
    if (populate)
        madvise(start, step, MADV_POPULATE_WRITE);
}

/* The same by guard markers: the area is accessible, a marker stands in place of each of its pages, and the handler
   removes the one at the fault. Takes no mapping for a page. */
int pagewise_bench_handle_guards(void *start, size_t len, size_t page_bytes, int and_populate) {
    area = (uintptr_t)start;
    area_end = area + len;
    step = page_bytes;
    populate = and_populate;
    if (madvise(start, len, MADV_GUARD_INSTALL) != 0)
        return -1;
    return install(SIGSEGV, on_guard);
}

static int userfault = -1;
static void *zeros;

static void on_missing(int signal_number, siginfo_t *info, void *context) {
    (void)context;
    uintptr_t at = (uintptr_t)info->si_addr;
    struct uffdio_copy copy = {.dst = at & ~(step - 1), .src = (uintptr_t)zeros, .len = step};
    if (at < area || at >= area_end || ioctl(userfault, UFFDIO_COPY, &copy) != 0)
        refuse(signal_number, "the handler's UFFDIO_COPY was refused\n");
}

/* Each page of the accessible area that is missing raises SIGBUS, and is given a page of zeros by one
   call of the kernel's. */
int pagewise_bench_handle_missing(void *start, size_t len, size_t page_bytes) {
    struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_SIGBUS};
    struct uffdio_register range = {.range = {(uintptr_t)start, len},
                                    .mode = UFFDIO_REGISTER_MODE_MISSING};
    area = (uintptr_t)start;
    area_end = area + len;
    step = page_bytes;
    zeros = mmap(NULL, page_bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    userfault = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
    if (zeros == MAP_FAILED || userfault < 0 || ioctl(userfault, UFFDIO_API, &api) != 0 ||
        ioctl(userfault, UFFDIO_REGISTER, &range) != 0)
        return -1;
    return install(SIGBUS, on_missing);
}

#if defined __x86_64__ || defined __aarch64__
static void step_over(int signal_number, siginfo_t *info, void *context) {
    ucontext_t *machine = context;
    (void)signal_number;
    (void)info;
#if defined __x86_64__
    machine->uc_mcontext.gregs[REG_RIP] += 3;
#else
    machine->uc_mcontext.pc += 4;
#endif
}

/* Stores to the inaccessible page at address, count times; each time the handler does nothing but
   step over the store: what a signal costs by itself. */
int pagewise_bench_signals_alone(void *address, size_t count) {
    if (install(SIGSEGV, step_over) != 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
#if defined __x86_64__
        __asm__ volatile(".byte 0xc6, 0x00, 0x01" : : "a"(address) : "memory"); /* movb $1, (%rax) */
#else
        __asm__ volatile("strb wzr, [%0]" : : "r"(address) : "memory");
#endif
    }
    return 0;
}
#else
int pagewise_bench_signals_alone(void *address, size_t count) {
    (void)address;
    (void)count;
    return -1;
}
#endif
