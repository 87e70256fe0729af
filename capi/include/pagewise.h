/* pagewise: memory that is reserved once and commits itself when it is touched.
 *
 * A region is a range of addresses. Touching a page of it for the first time is a page fault, which
 * pagewise serves by committing the page; then the program goes on where it stopped. No more is ever
 * committed than the region's limit: beyond it, pagewise_region_read and pagewise_region_write return an
 * error that says how far they came, and a plain access ends the process after one line on stderr.
 *
 * A function that fails returns a status other than PAGEWISE_OK, or NULL, 0 or -1 where it returns
 * something else, as said below; pagewise_last_error then says why, in words. A call that succeeds leaves
 * the last error as it is. A region may be used from several threads, as any memory may.
 *
 * System calls do not fault: read(2) into pages that are not committed fails with EFAULT. Call
 * pagewise_region_commit first.
 *
 * The library installs a handler for SIGSEGV and SIGBUS (on Windows: for exceptions) with the first
 * region. Faults that are not in a region go to the handlers that were there before. It must not be
 * unloaded (dlclose keeps it where the system allows that).
 */
#ifndef PAGEWISE_H
#define PAGEWISE_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pagewise_region pagewise_region;

typedef enum pagewise_status {
    PAGEWISE_OK = 0,
    PAGEWISE_ERROR_ARGUMENT = 1, /* a null pointer, or a range that is not in the region */
    PAGEWISE_ERROR_LIMIT = 2,    /* the region's limit is used up */
    PAGEWISE_ERROR_MEMORY = 3,   /* the system has no memory, addresses or mappings left */
    PAGEWISE_ERROR_SYSTEM = 4,   /* another error of the system */
    PAGEWISE_ERROR_PANIC = 5     /* a bug in pagewise */
} pagewise_status;

/* Bytes of a page. (0 only after a bug in pagewise.) */
size_t pagewise_page_size(void);

/* Reserves at least `len` bytes, rounded up to whole pages, of which at most `limit` are ever committed
 * (SIZE_MAX: all). One fault commits `step` bytes, rounded up to whole pages (0: as pagewise thinks
 * best). NULL and an error where that is impossible. */
pagewise_region *pagewise_region_new(size_t len, size_t limit, size_t step);

/* The first byte. NULL and an error for NULL. */
void *pagewise_region_ptr(const pagewise_region *region);

/* Bytes that are reserved. 0 and an error for NULL. */
size_t pagewise_region_len(const pagewise_region *region);

/* Bytes that are committed now. 0 and an error for NULL. */
size_t pagewise_region_committed(const pagewise_region *region);

/* Page faults that committed something. 0 and an error for NULL. */
size_t pagewise_region_faults(const pagewise_region *region);

/* Copies `len` bytes out of the region, or into it, and stores how many were copied in `*copied` (which
 * may be NULL; it is written after the copy, and must be neither in the buffer nor in the range). A
 * refused page ends the copy early, with an error and an exact count.
 *
 * A range that is not in the region is an argument error, even if it is empty, and nothing is copied; so
 * is a buffer that is NULL, unless `len` is 0. The buffer may lie in this or in another region: its pages
 * are committed as the copy touches them, and one that is refused ends the copy in the same way. But it
 * must be apart from the range that is copied: overlapping it is an argument error, and nothing is
 * copied. */
pagewise_status pagewise_region_read(const pagewise_region *region, size_t offset, void *into,
                                     size_t len, size_t *copied);
pagewise_status pagewise_region_write(pagewise_region *region, size_t offset, const void *from,
                                      size_t len, size_t *copied);

/* Commits every page that the range touches, all or nothing as far as the limit goes. */
pagewise_status pagewise_region_commit(pagewise_region *region, size_t offset, size_t len);

/* Gives back every page that lies whole in the range; it reads zero when it is touched again. Nobody
 * else may be using those pages. */
pagewise_status pagewise_region_decommit(pagewise_region *region, size_t offset, size_t len);

/* Gives the addresses back. NULL is fine. Nobody may be using the region any more. */
void pagewise_region_free(pagewise_region *region);

/* Why the last call of this thread that failed did so; "" if none did. Never NULL.
 *
 * The string belongs to pagewise: do not free it. It lives until another call of the same thread fails,
 * or the thread ends; copy it to keep it longer, or to hand it to another thread. */
const char *pagewise_last_error(void);

/* Whether somebody replaced pagewise's signal handler (1 or 0; -1 and an error after a bug in pagewise);
 * and putting it back in front. */
int pagewise_is_displaced(void);
pagewise_status pagewise_reinstall(void);

#ifdef __cplusplus
}
#endif

#endif
