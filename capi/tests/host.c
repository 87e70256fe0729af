/* A host that keeps its own signal handler in front: it asks pagewise about each fault, and leaves refused ones and those
 * that are not pagewise's by a jump of its own. And a report function in place of stderr. */
#define _GNU_SOURCE
#undef NDEBUG
#include <assert.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "pagewise.h"

static sigjmp_buf back;
static pagewise_refusal refusal;
static char line[400];
static volatile size_t lines;

static void host(int signal, siginfo_t *info, void *context) {
    int handled = pagewise_try_handle(signal, info, context, &refusal);
    if (handled != PAGEWISE_HANDLED_SERVED) siglongjmp(back, 10 + handled);
}

static void report(const char *text, size_t len) {
    lines++;
    if (len < sizeof line) memcpy(line, text, len);
}

static int touch(volatile char *byte) {
    int jumped = sigsetjmp(back, 1);
    if (jumped == 0) *byte = 1;
    return jumped;
}

/* Leaves the last page to the host. */
static int not_mine(void *context, pagewise_fault *fault) {
    (void)context;
    if (fault->offset >= 7 * pagewise_page_size()) return PAGEWISE_FILTER_NOT_MINE;
    return PAGEWISE_FILTER_COMMIT;
}

static void touch_refused(void *byte) {
    *(volatile char *)byte = 1;
}

int main(void) {
    const size_t page = pagewise_page_size();
    pagewise_options options;
    pagewise_region *region;
    struct sigaction action;
    pagewise_refusal tried;

    pagewise_options_default(&options, sizeof options);
    options.limit = page;
    assert(pagewise_region_new(8 * page, &options, &region) == PAGEWISE_OK);
    memset(&action, 0, sizeof action);
    action.sa_sigaction = host;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    assert(sigaction(SIGSEGV, &action, NULL) == 0 && sigaction(SIGBUS, &action, NULL) == 0);
    assert(pagewise_is_displaced() == 1);
    pagewise_report_to(report);

    volatile char *bytes = pagewise_region_ptr(region);
    assert(touch(bytes + 3) == 0 && bytes[3] == 1);
    assert(touch(bytes + 5 * page + 1) == 10 + PAGEWISE_HANDLED_REFUSED);
    assert(refusal.offset == 5 * page + 1 && refusal.reason == PAGEWISE_ERROR_LIMIT);
    assert(lines == 1 && strstr(line, "refused an access") && strstr(line, "limit of"));
    assert(touch((char *)8) == 10 + PAGEWISE_HANDLED_NOT_OURS);
    /* A try needs nothing of the host: its refusal is served. */
    assert(pagewise_try(touch_refused, (char *)bytes + 6 * page, &tried) == PAGEWISE_ERROR_LIMIT);
    assert(tried.offset == 6 * page && lines == 1);
    pagewise_report_to(NULL);
    assert(touch(bytes + 7 * page) == 10 + PAGEWISE_HANDLED_REFUSED && lines == 1);
    pagewise_report_to_stderr();
    pagewise_region_free(region);

    options.limit = 8 * page;
    options.filter = not_mine;
    assert(pagewise_region_new(8 * page, &options, &region) == PAGEWISE_OK);
    bytes = pagewise_region_ptr(region);
    assert(touch(bytes + 6 * page) == 0 && bytes[6 * page] == 1);
    assert(touch(bytes + 7 * page) == 10 + PAGEWISE_HANDLED_NOT_OURS);
    pagewise_region_free(region);
    puts("the host goes on");
    return 0;
}
