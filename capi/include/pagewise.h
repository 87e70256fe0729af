/* pagewise: memory that is reserved once and committed as it is needed, explicitly or when it is touched.
 *
 * A region is a range of addresses. Touching a page of it for the first time is a page fault, which pagewise serves by
 * committing the page; then the program goes on where it stopped. No more is ever committed than the region's limit:
 * beyond it, an access is refused. In pagewise_region_read, _write and _fill a refusal is an error that says how far
 * they came; in a function that pagewise_try runs, it ends that function; anywhere else it ends the process after one
 * line on stderr. A reservation is the same without page faults. docs/c.md has more.
 *
 * Errors. A function that can fail returns a status; PAGEWISE_OK is 0. Functions that return a property of an object
 * fail only for NULL: they return 0 or NULL then. In either case pagewise_last_error says why, in words. A call that
 * succeeds leaves the last error as it is. What a function would have stored in the place for its result is not there
 * after an error, unless said otherwise below.
 *
 * Threads. Regions, reservations and budgets may be used from several threads, as any memory may; an arena by one thread
 * at a time. Lengths, offsets and limits are in bytes.
 *
 * System calls do not fault: read(2) into pages that are not committed fails with EFAULT. Call pagewise_region_commit
 * first.
 *
 * The library installs a handler for SIGSEGV and SIGBUS (on Windows: for exceptions) with the first region. Faults that
 * are not in a region go to the handlers that were there before. It must not be unloaded (dlclose keeps it where the
 * system allows that).
 */
#ifndef PAGEWISE_H
#define PAGEWISE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of this interface. It changes where a program must be compiled anew. */
#define PAGEWISE_ABI_VERSION 1

/* The version that the library has. */
unsigned pagewise_abi_version(void);

typedef struct pagewise_region pagewise_region;
typedef struct pagewise_reservation pagewise_reservation;
typedef struct pagewise_budget pagewise_budget;
typedef struct pagewise_arena pagewise_arena;
typedef struct pagewise_page_map pagewise_page_map;

typedef enum pagewise_status {
    PAGEWISE_OK = 0,
    PAGEWISE_ERROR_ARGUMENT = 1,   /* a null pointer, a bad option, or a range that is not in the object */
    PAGEWISE_ERROR_LIMIT = 2,      /* a limit or a budget is used up */
    PAGEWISE_ERROR_MEMORY = 3,     /* the system has no memory, addresses or mappings left */
    PAGEWISE_ERROR_SYSTEM = 4,     /* another error of the system */
    PAGEWISE_ERROR_PANIC = 5,      /* a bug in pagewise */
    PAGEWISE_ERROR_FILTER = 6,     /* the region's filter refused the page */
    PAGEWISE_ERROR_UNSUPPORTED = 7 /* this system, or this version of pagewise, cannot do it */
} pagewise_status;

/* Why the last call of this thread that failed did so; "" if none did. Never NULL.
 *
 * The string belongs to pagewise: do not free it. It lives until another call of the same thread fails, or the thread
 * ends; copy it to keep it longer, or to hand it to another thread. */
const char *pagewise_last_error(void);

/* Bytes of a page. (0 only after a bug in pagewise.) */
size_t pagewise_page_size(void);

/* ---- Page faults ---- */

/* What a filter sees of a page fault. */
typedef struct pagewise_fault {
    void *address; /* what was touched */
    size_t offset; /* the same from the start of the region */
    int access;    /* 0: a read, 1: a write, -1: the system does not tell */
    int reserved;
    size_t pages; /* the filter may set it: pages to commit from the one that was touched on; 0: as the step says */
} pagewise_fault;

/* What a filter answers. */
enum {
    PAGEWISE_FILTER_COMMIT = 0,  /* commit the page, or as many as fault->pages says, as far as the limit goes */
    PAGEWISE_FILTER_REFUSE = 1,  /* refuse the access, with PAGEWISE_ERROR_FILTER; so does any other number */
    PAGEWISE_FILTER_NOT_MINE = 2 /* hand the fault on to the handler before pagewise's */
};

/* A region's own decision about each page fault, what the filter expression of __except is.
 *
 * It is called by the signal handler (on Windows: the exception handler), on the thread that touched a page which is not
 * committed, possibly on several threads at once. It may read and write memory that is not in a region with a filter;
 * call async-signal-safe functions of the system, such as write(2); and pagewise_region_committed, _is_committed and
 * _stats, pagewise_budget_used and _peak, and pagewise_in_filter. It must not allocate or free memory, use stdio, take a
 * lock that the interrupted code may hold, call other functions of pagewise, or leave by longjmp or an exception. It may
 * use about a kilobyte of stack. errno is restored after it. */
typedef int (*pagewise_filter)(void *context, pagewise_fault *fault);

/* Whether the calling thread is inside a filter: 1 or 0. For assertions in functions that must not be called there, such
 * as a debug build's own malloc. Async-signal-safe. */
int pagewise_in_filter(void);

/* Why an access was refused. */
typedef struct pagewise_refusal {
    void *region;           /* the first byte of the region */
    size_t offset;          /* the byte that could not be accessed, from there */
    pagewise_status reason; /* PAGEWISE_ERROR_LIMIT, _MEMORY or _FILTER */
    int system_error;       /* the system's error code (errno, GetLastError), or 0 */
    size_t used;            /* bytes that are used of the limit or budget, or mappings of the process, or 0 */
    size_t limit;           /* how many there may be, or 0 */
} pagewise_refusal;

typedef void (*pagewise_function)(void *context);

/* Runs function(context): C's __try and __except. If a page fault of this thread in a region of this library is refused
 * inside it, however deep, control comes back from pagewise_try, with the reason as the status, and with more of it in
 * *refusal (which may be NULL). Calls may nest; the innermost one gets the refusal. The last error is not changed by a
 * refusal. Faults outside of every region go where they go without pagewise_try.
 *
 * As after longjmp, nothing between pagewise_try and the access is cleaned up: at an access that may be refused, hold no
 * lock and no memory that only a local variable knows, and be in no function (of stdio, of an allocator) that must
 * complete what it began. No C++ destructor, and no frame of a signal handler, may be skipped. function must not throw, must
 * not leave by longjmp past pagewise_try, and must not end the thread.
 *
 * The signal mask and the alternate signal stack are as they were at the access; the registers that a call preserves and
 * the control words of the floating point unit are as they were before. The first call of a thread allocates. */
pagewise_status pagewise_try(pagewise_function function, void *context, pagewise_refusal *refusal);

/* Writes a refusal in words to `text`, with a zero at the end; cut where it is longer than `room` bytes. */
pagewise_status pagewise_refusal_text(const pagewise_refusal *refusal, char *text, size_t room);

/* Installs the handler, which the first region does by itself. Nothing uninstalls it. */
pagewise_status pagewise_install(void);

/* Whether somebody replaced pagewise's signal handler (1 or 0; -1 and an error after a bug in pagewise); and putting it
 * back in front. */
int pagewise_is_displaced(void);
pagewise_status pagewise_reinstall(void);

/* Serves a fault for a host that keeps a handler of its own in front: 1 if it was pagewise's and the handler is to return
 * (on Windows: to return EXCEPTION_CONTINUE_EXECUTION), 0 if it is the host's. To be called with the handler's own
 * arguments: of a handler with SA_SIGINFO, or the EXCEPTION_POINTERS of a vectored one. Async-signal-safe. */
#ifdef _WIN32
int pagewise_try_handle(void *exception);
#else
int pagewise_try_handle(int signal, void *info, void *context);
#endif

/* ---- Options ---- */

/* Which mechanism serves the faults of a region. */
typedef enum pagewise_engine {
    PAGEWISE_ENGINE_AUTO = 0,
    PAGEWISE_ENGINE_PROTECT = 1,
    PAGEWISE_ENGINE_GUARD = 2,    /* Linux 6.13 */
    PAGEWISE_ENGINE_USERFAULT = 3 /* Linux 5.11, where it is allowed */
} pagewise_engine;

typedef enum pagewise_huge_pages {
    PAGEWISE_HUGE_PAGES_SYSTEM = 0,      /* the system's own setting */
    PAGEWISE_HUGE_PAGES_TRANSPARENT = 1, /* where it costs nothing (Linux) */
    PAGEWISE_HUGE_PAGES_EXPLICIT = 2     /* from the pool of huge pages (Linux) */
} pagewise_huge_pages;

/* Options of regions, reservations and arenas. Fill it in by pagewise_options_default, then change what you like. A later
 * version may have more fields at the end; `size` tells which ones a program knows. */
typedef struct pagewise_options {
    size_t size;                   /* sizeof(pagewise_options) */
    size_t limit;                  /* bytes that may be committed at most; SIZE_MAX: all */
    size_t at_least;               /* bytes that will do where addresses are scarce; 0: the length */
    size_t align;                  /* alignment of the first byte, a power of two; 0: a page. Not of an arena */
    size_t guard_pages;            /* inaccessible pages before and behind */
    size_t step;                   /* regions: bytes that one fault commits; 0: as pagewise thinks best */
    size_t events;                 /* regions: fault events to remember */
    const pagewise_budget *budget; /* a budget to share, or NULL. It may be freed before its users are */
    const char *name;              /* shown in /proc/self/maps, or NULL. It is copied */
    pagewise_filter filter;        /* regions: a filter, or NULL */
    void *filter_context;          /* what the filter gets; must live as long as the region */
    int engine;                    /* regions: a pagewise_engine */
    int huge_pages;                /* a pagewise_huge_pages */
    int no_dump;                   /* nonzero: core dumps leave the memory out */
    int reserved;                  /* zero */
} pagewise_options;

/* Fills in the options that NULL stands for. `size` is sizeof(pagewise_options). */
pagewise_status pagewise_options_default(pagewise_options *options, size_t size);

/* ---- Regions: memory that commits itself when it is touched ---- */

/* Reserves at least `len` bytes, rounded up to whole pages. The options may be NULL. After an error, *region is NULL. */
pagewise_status pagewise_region_new(size_t len, const pagewise_options *options,
                                    pagewise_region **region);

/* The first byte. */
void *pagewise_region_ptr(const pagewise_region *region);

/* Bytes that are reserved. */
size_t pagewise_region_len(const pagewise_region *region);

/* Bytes of a page of this region: pagewise_page_size, unless it is made of explicit huge pages. */
size_t pagewise_region_page_size(const pagewise_region *region);

/* Bytes that are committed now. */
size_t pagewise_region_committed(const pagewise_region *region);

/* Stores 1 if every byte of the range is committed, else 0. */
pagewise_status pagewise_region_is_committed(const pagewise_region *region, size_t offset,
                                             size_t len, int *answer);

typedef struct pagewise_stats {
    uint64_t faults;      /* page faults that committed something */
    uint64_t refused;     /* page faults that were refused */
    uint64_t raced;       /* page faults that found the page committed by another thread */
    uint64_t events_lost; /* events that found no room */
    size_t committed;     /* bytes that are committed now */
    size_t peak;          /* the most bytes that were ever committed at once */
    size_t limit;         /* bytes that may be committed at most */
} pagewise_stats;

/* Stores what happened so far. `size` is sizeof(pagewise_stats): a later version may have more fields. */
pagewise_status pagewise_region_stats(const pagewise_region *region, pagewise_stats *stats,
                                      size_t size);

typedef struct pagewise_event {
    size_t offset; /* the byte that was touched */
    size_t start;  /* the first byte that was committed */
    size_t len;    /* bytes that were committed; 0 for a refused fault */
    int access;    /* as in pagewise_fault */
    int refused;   /* 1 for a refused fault, else 0 */
} pagewise_event;

/* Takes at most `room` fault events out, oldest first, and stores how many. (None, unless the options made room.) */
pagewise_status pagewise_region_events(const pagewise_region *region, pagewise_event *events,
                                       size_t room, size_t *taken);

/* Copies `len` bytes out of the region, or into it, and stores how many were copied in `*copied` (which may be NULL; it
 * is written after the copy, also after an error, and must be neither in the buffer nor in the range). A refused page
 * ends the copy early, with an error and an exact count.
 *
 * A range that is not in the region is an argument error, even if it is empty, and nothing is copied; so is a buffer that
 * is NULL, unless `len` is 0. The buffer may lie in this or in another region: its pages are committed as the copy
 * touches them, and one that is refused ends the copy in the same way. But it must be apart from the range that is
 * copied: overlapping it is an argument error, and nothing is copied. */
pagewise_status pagewise_region_read(const pagewise_region *region, size_t offset, void *into,
                                     size_t len, size_t *copied);
pagewise_status pagewise_region_write(pagewise_region *region, size_t offset, const void *from,
                                      size_t len, size_t *copied);

/* Copies out of the region, and commits nothing: where no page is committed, the bytes are zero. */
pagewise_status pagewise_region_peek(const pagewise_region *region, size_t offset, void *into,
                                     size_t len);

/* Writes `byte` to the whole range, as pagewise_region_write does. Nobody else may be using the range. */
pagewise_status pagewise_region_fill(pagewise_region *region, size_t offset, size_t len, int byte,
                                     size_t *filled);

/* Commits every page that the range touches, all or nothing as far as the limit goes. */
pagewise_status pagewise_region_commit(pagewise_region *region, size_t offset, size_t len);

/* Gives back every page that lies whole in the range; it reads zero when it is touched again. Nobody else may be using
 * those pages. */
pagewise_status pagewise_region_decommit(pagewise_region *region, size_t offset, size_t len);

/* Makes exactly the bytes of the range read zero. Committed pages stay committed. Nobody else may be using the region. */
pagewise_status pagewise_region_zero(pagewise_region *region, size_t offset, size_t len);

/* Which pages are committed and resident now: see below. */
pagewise_status pagewise_region_page_map(const pagewise_region *region, pagewise_page_map **map);

/* Gives the addresses back. Nobody may be using the region any more, also after an error. _free is for those who have
 * nothing to do about an error; NULL is fine there. */
pagewise_status pagewise_region_release(pagewise_region *region);
void pagewise_region_free(pagewise_region *region);

/* ---- Reservations: memory that is committed explicitly. Touching what is not committed ends the process. ---- */

typedef enum pagewise_access {
    PAGEWISE_ACCESS_NONE = 0,
    PAGEWISE_ACCESS_READ = 1,
    PAGEWISE_ACCESS_READ_WRITE = 2, /* what a commit gives */
    PAGEWISE_ACCESS_READ_EXECUTE = 3
} pagewise_access;

/* As for regions. The options step, events, engine and filter are errors here. */
pagewise_status pagewise_reservation_new(size_t len, const pagewise_options *options,
                                         pagewise_reservation **reservation);
void *pagewise_reservation_ptr(const pagewise_reservation *reservation);
size_t pagewise_reservation_len(const pagewise_reservation *reservation);
size_t pagewise_reservation_page_size(const pagewise_reservation *reservation);
size_t pagewise_reservation_committed(const pagewise_reservation *reservation);
size_t pagewise_reservation_peak(const pagewise_reservation *reservation);
size_t pagewise_reservation_limit(const pagewise_reservation *reservation);
pagewise_status pagewise_reservation_is_committed(const pagewise_reservation *reservation,
                                                  size_t offset, size_t len, int *answer);
pagewise_status pagewise_reservation_page_map(const pagewise_reservation *reservation,
                                              pagewise_page_map **map);

/* Commit rounds outward to whole pages, and is all or nothing; decommit and discard round inward. Zero makes exactly the
 * bytes read zero; discard leaves the contents of whole pages to the system; both leave pages alone that are not
 * committed. Protect gives committed pages other access rights (a pagewise_access); prefault makes them resident; lock
 * keeps them so. Nobody else may be using a range that is decommitted, zeroed, discarded or protected. */
pagewise_status pagewise_reservation_commit(pagewise_reservation *reservation, size_t offset,
                                            size_t len);
pagewise_status pagewise_reservation_decommit(pagewise_reservation *reservation, size_t offset,
                                              size_t len);
pagewise_status pagewise_reservation_zero(pagewise_reservation *reservation, size_t offset,
                                          size_t len);
pagewise_status pagewise_reservation_discard(pagewise_reservation *reservation, size_t offset,
                                             size_t len);
pagewise_status pagewise_reservation_protect(pagewise_reservation *reservation, size_t offset,
                                             size_t len, int access);
pagewise_status pagewise_reservation_prefault(pagewise_reservation *reservation, size_t offset,
                                              size_t len);
pagewise_status pagewise_reservation_lock(pagewise_reservation *reservation, size_t offset,
                                          size_t len);
pagewise_status pagewise_reservation_unlock(pagewise_reservation *reservation, size_t offset,
                                            size_t len);
pagewise_status pagewise_reservation_release(pagewise_reservation *reservation);
void pagewise_reservation_free(pagewise_reservation *reservation);

/* ---- Page maps: a picture of one moment, as runs of neighbouring pages in the same state ---- */

/* Parts of a page's state, added up. */
enum {
    PAGEWISE_PAGE_COMMITTED = 1,
    PAGEWISE_PAGE_RESIDENT = 2, /* backed by physical memory */
    PAGEWISE_PAGE_HUGE = 4,     /* backed by a huge page */
    PAGEWISE_PAGE_SWAPPED = 8   /* in swap space */
};

typedef struct pagewise_page_run {
    size_t first; /* index of the first page */
    size_t count; /* how many pages */
    unsigned state;
} pagewise_page_run;

/* How many runs there are, and one of them. */
size_t pagewise_page_map_runs(const pagewise_page_map *map);
pagewise_status pagewise_page_map_run(const pagewise_page_map *map, size_t index,
                                      pagewise_page_run *run);
void pagewise_page_map_free(pagewise_page_map *map);

/* ---- Budgets: a commit limit that any number of reservations, regions and arenas share ---- */

pagewise_status pagewise_budget_new(size_t bytes, pagewise_budget **budget);
size_t pagewise_budget_limit(const pagewise_budget *budget);
size_t pagewise_budget_used(const pagewise_budget *budget);
size_t pagewise_budget_peak(const pagewise_budget *budget);

/* Ends the program's own use of it. What shares the budget keeps it alive. NULL is fine. */
void pagewise_budget_free(pagewise_budget *budget);

/* ---- Arenas: memory that is allocated by moving a pointer, and freed all at once. One thread at a time. ---- */

/* Reserves at most `max_bytes` bytes, and commits them as they are allocated, without page faults. */
pagewise_status pagewise_arena_new(size_t max_bytes, const pagewise_options *options,
                                   pagewise_arena **arena);

/* Allocates `size` bytes, which hold anything or are zero. `align` is a power of two; 0: as malloc aligns. It never moves
 * what is allocated. After an error, *memory is NULL. */
pagewise_status pagewise_arena_alloc(pagewise_arena *arena, size_t size, size_t align,
                                     void **memory);
pagewise_status pagewise_arena_alloc_zeroed(pagewise_arena *arena, size_t size, size_t align,
                                            void **memory);

/* Commits memory for `bytes` more bytes of allocations. */
pagewise_status pagewise_arena_reserve(pagewise_arena *arena, size_t bytes);
size_t pagewise_arena_used(const pagewise_arena *arena);
size_t pagewise_arena_committed(const pagewise_arena *arena);
size_t pagewise_arena_max_bytes(const pagewise_arena *arena);

/* Stores a number for what is allocated now; and frees everything that was allocated since. A checkpoint may be rewound
 * to again and again, until an earlier one is, or the arena is reset: then it is an argument error, or stands for a
 * newer one. */
pagewise_status pagewise_arena_checkpoint(pagewise_arena *arena, size_t *checkpoint);
pagewise_status pagewise_arena_rewind(pagewise_arena *arena, size_t checkpoint);

/* Frees everything; the memory stays committed. _shrink gives back what is committed behind the last allocation. */
pagewise_status pagewise_arena_reset(pagewise_arena *arena);
pagewise_status pagewise_arena_shrink(pagewise_arena *arena);

/* Frees everything and gives the addresses back. NULL is fine. */
void pagewise_arena_free(pagewise_arena *arena);

#ifdef __cplusplus
}
#endif

#endif
