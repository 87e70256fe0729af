/* Reserving and committing memory: 80 pages are reserved, and written to a byte at a time. Each page is committed by the
 * page fault of its first byte, as a filter decides: "page fault", or "out of pages" at its limit, where the program takes
 * the other path. It runs twice: without a limit below the 80 pages, and with one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pagewise.h"

#ifdef _WIN32
#include <io.h>
#define write _write
#else
#include <unistd.h>
#endif

#define PAGES 80 /* pages that are reserved */

/* What the filter knows. */
struct pages {
    int committed;
    int limit;
};

/* printf is not for a filter: it may be called in the middle of one. */
static void say(const char *text) {
    if (write(1, text, (unsigned)strlen(text)) < 0) abort();
}

/* Decides about a page fault: commit another page, or refuse. */
static int page_fault_filter(void *context, pagewise_fault *fault) {
    struct pages *pages = context;
    say("page fault: ");
    if (pages->committed >= pages->limit) {
        say("out of pages\n");
        return PAGEWISE_FILTER_REFUSE;
    }
    say("committing another page\n");
    pages->committed++;
    fault->pages = 1; /* the one that was touched */
    return PAGEWISE_FILTER_COMMIT;
}

/* The guarded statement. */
static void write_a_byte(void *byte) {
    *(volatile char *)byte = 'a';
}

static void fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, pagewise_last_error());
    exit(EXIT_FAILURE);
}

/* Writes to all pages, as far as the limit goes. Returns how many bytes were written. */
static size_t run(int limit) {
    const size_t page_size = pagewise_page_size();
    struct pages pages = {0, limit};
    pagewise_options options;
    pagewise_region *region;
    pagewise_refusal refusal;
    char text[160], *bytes;
    size_t i;

    /* Reserve pages in the address space of the process. */
    pagewise_options_default(&options, sizeof options);
    options.filter = page_fault_filter;
    options.filter_context = &pages;
    if (pagewise_region_new(PAGES * page_size, &options, &region) != PAGEWISE_OK) fail("reserve");
    bytes = pagewise_region_ptr(region);

    /* Use the pages: a page fault for each of them. */
    for (i = 0; i < PAGES * page_size; i++) {
        if (pagewise_try(write_a_byte, bytes + i, &refusal) != PAGEWISE_OK) {
            pagewise_refusal_text(&refusal, text, sizeof text);
            printf("stopped: %s\n", text);
            break;
        }
    }
    printf("%d pages are committed, %zu bytes written\n", pages.committed, i);

    /* Give the memory back: it reads zero when it is touched again. */
    if (pagewise_region_decommit(region, 0, PAGES * page_size) != PAGEWISE_OK) fail("decommit");
    printf("%zu bytes are committed after the decommit\n", pagewise_region_committed(region));

    /* Give the addresses back. */
    if (pagewise_region_release(region) != PAGEWISE_OK) fail("release");
    return i;
}

int main(void) {
    const size_t page_size = pagewise_page_size();
    setvbuf(stdout, NULL, _IONBF, 0);
    printf("This computer has pages of %zu bytes.\n", page_size);
    if (run(PAGES) != PAGES * page_size) return EXIT_FAILURE;
    puts("And with a limit of 20 pages:");
    if (run(20) != 20 * page_size) return EXIT_FAILURE;
    return EXIT_SUCCESS;
}
