/* What the header says, asserted: regions, reservations, arenas, budgets, page maps, events, options, errors. */
#undef NDEBUG
#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "pagewise.h"

static void regions(size_t page) {
    pagewise_options options;
    pagewise_region *region;
    pagewise_stats stats;
    pagewise_event events[8];
    size_t copied = 99, taken = 99;
    char buffer[16] = "0123456789abcde";
    int answer = 9;

    assert(pagewise_options_default(&options, sizeof options) == PAGEWISE_OK);
    assert(options.size == sizeof options && options.limit == SIZE_MAX && !options.filter);
    options.limit = 20 * page;
    options.step = page;
    options.events = 8;
    assert(pagewise_region_new(80 * page, &options, &region) == PAGEWISE_OK);
    assert(pagewise_region_len(region) == 80 * page && pagewise_region_page_size(region) == page);
    volatile unsigned char *bytes = pagewise_region_ptr(region);
    for (size_t i = 0; i < 10; i++) bytes[i * page] = (unsigned char)(i + 1);
    for (size_t i = 0; i < 10; i++) assert(bytes[i * page] == i + 1);
    assert(pagewise_region_committed(region) == 10 * page);
    assert(pagewise_region_events(region, events, 3, &taken) == PAGEWISE_OK && taken == 3);
    assert(events[2].offset == 2 * page && events[2].start == 2 * page && events[2].len == page);
    assert(!events[2].refused && events[2].access != 0);
    assert(pagewise_region_events(region, events, 8, &taken) == PAGEWISE_OK && taken == 5);
    assert(pagewise_region_events(region, NULL, 8, &taken) == PAGEWISE_ERROR_ARGUMENT);

    assert(pagewise_region_commit(region, 10 * page, 10 * page) == PAGEWISE_OK);
    assert(pagewise_region_commit(region, 20 * page, 1) == PAGEWISE_ERROR_LIMIT);
    assert(strstr(pagewise_last_error(), "refused"));
    assert(pagewise_region_write(region, 20 * page - 6, buffer, 16, &copied) == PAGEWISE_ERROR_LIMIT);
    assert(copied == 6 && memcmp((const char *)bytes + 20 * page - 6, buffer, 6) == 0);
    memset(buffer, '?', sizeof buffer);
    assert(pagewise_region_read(region, 20 * page - 6, buffer, 16, &copied) == PAGEWISE_ERROR_LIMIT);
    assert(copied == 6 && memcmp(buffer, "012345??????????", 16) == 0);
    assert(pagewise_region_peek(region, 20 * page - 6, buffer, 16) == PAGEWISE_OK);
    assert(memcmp(buffer, "012345\0\0\0\0\0\0\0\0\0\0", 16) == 0);
    assert(pagewise_region_stats(region, &stats, sizeof stats) == PAGEWISE_OK);
    assert(stats.faults == 10 && stats.refused == 2 && stats.limit == 20 * page);
    assert(stats.committed == 20 * page && stats.peak == 20 * page && stats.events_lost == 2);

    assert(pagewise_region_is_committed(region, 0, 20 * page, &answer) == PAGEWISE_OK && answer == 1);
    assert(pagewise_region_is_committed(region, 0, 20 * page + 1, &answer) == PAGEWISE_OK && !answer);
    assert(pagewise_region_zero(region, 1, 2 * page) == PAGEWISE_OK);
    assert(bytes[0] == 1 && bytes[page] == 0 && bytes[2 * page] == 0 && bytes[3 * page] == 4);
    assert(pagewise_region_decommit(region, 0, 10 * page) == PAGEWISE_OK);
    assert(pagewise_region_committed(region) == 10 * page && bytes[0] == 0);
    assert(pagewise_region_fill(region, 30 * page, 20 * page, 'x', &copied) == PAGEWISE_ERROR_LIMIT);
    assert(copied == 9 * page && bytes[39 * page - 1] == 'x');
    assert(pagewise_region_read(region, 80 * page, buffer, 1, &copied) == PAGEWISE_ERROR_ARGUMENT);
    assert(copied == 0);
    assert(pagewise_region_read(NULL, 0, buffer, 1, NULL) == PAGEWISE_ERROR_ARGUMENT);
    assert(pagewise_region_write(region, 0, NULL, 1, NULL) == PAGEWISE_ERROR_ARGUMENT);
    assert(pagewise_region_read(region, SIZE_MAX, buffer, 0, NULL) == PAGEWISE_ERROR_ARGUMENT);
    assert(pagewise_region_write(region, SIZE_MAX, buffer, 0, NULL) == PAGEWISE_ERROR_ARGUMENT);
    assert(pagewise_region_commit(region, SIZE_MAX, 2) == PAGEWISE_ERROR_ARGUMENT);
    assert(pagewise_region_release(region) == PAGEWISE_OK);
    assert(pagewise_region_new(0, NULL, &region) == PAGEWISE_ERROR_ARGUMENT && !region);
    assert(strlen(pagewise_last_error()) > 0);
    assert(pagewise_region_new(1, NULL, NULL) == PAGEWISE_ERROR_ARGUMENT);
    assert(!pagewise_region_ptr(NULL) && strstr(pagewise_last_error(), "NULL"));
    assert(!pagewise_region_len(NULL));
    pagewise_region_free(NULL);
}

static void options_of_other_versions(size_t page) {
    pagewise_options options;
    pagewise_region *region;
    struct {
        pagewise_options known;
        size_t unknown;
    } longer;

    pagewise_options_default(&options, sizeof options);
    options.engine = 77;
    assert(pagewise_region_new(page, &options, &region) == PAGEWISE_ERROR_ARGUMENT);
    pagewise_options_default(&options, sizeof options);
    options.reserved = 1;
    assert(pagewise_region_new(page, &options, &region) == PAGEWISE_ERROR_UNSUPPORTED);
    /* Compiled with an older header: what comes after `limit` is as by default. */
    memset(&options, 0xff, sizeof options);
    assert(pagewise_options_default(&options, offsetof(pagewise_options, at_least)) == PAGEWISE_OK);
    assert(options.at_least == SIZE_MAX);
    options.limit = page;
    assert(pagewise_region_new(4 * page, &options, &region) == PAGEWISE_OK);
    assert(pagewise_region_commit(region, 0, 2 * page) == PAGEWISE_ERROR_LIMIT);
    pagewise_region_free(region);
    options.size = 3;
    assert(pagewise_region_new(page, &options, &region) == PAGEWISE_ERROR_ARGUMENT);
    /* With a newer one. */
    memset(&longer, 0, sizeof longer);
    assert(pagewise_options_default(&longer.known, sizeof longer) == PAGEWISE_OK);
    longer.known.size = sizeof longer;
    assert(pagewise_region_new(page, &longer.known, &region) == PAGEWISE_OK);
    pagewise_region_free(region);
    longer.unknown = 1;
    assert(pagewise_region_new(page, &longer.known, &region) == PAGEWISE_ERROR_UNSUPPORTED);
}

static void reservations(size_t page) {
    pagewise_options options;
    pagewise_reservation *memory;
    pagewise_page_map *map;
    pagewise_page_run run;
    int answer = 9;

    pagewise_options_default(&options, sizeof options);
    options.align = 1 << 21;
    options.name = "classic";
    options.guard_pages = 1;
    options.limit = 4 * page;
    assert(pagewise_reservation_new(8 * page, &options, &memory) == PAGEWISE_OK);
    unsigned char *bytes = pagewise_reservation_ptr(memory);
    assert((uintptr_t)bytes % (1 << 21) == 0 && pagewise_reservation_len(memory) == 8 * page);
    assert(pagewise_reservation_limit(memory) == 4 * page);
    assert(pagewise_reservation_commit(memory, 2 * page, 2 * page) == PAGEWISE_OK);
    assert(pagewise_reservation_commit(memory, 4 * page, 3 * page) == PAGEWISE_ERROR_LIMIT);
    memset(bytes + 2 * page, 7, 2 * page);
    assert(pagewise_reservation_zero(memory, 2 * page, 1) == PAGEWISE_OK);
    assert(bytes[2 * page] == 0 && bytes[2 * page + 1] == 7);
    assert(pagewise_reservation_protect(memory, 0, page, PAGEWISE_ACCESS_READ) == PAGEWISE_ERROR_ARGUMENT);
    assert(pagewise_reservation_is_committed(memory, 2 * page, 2 * page, &answer) == PAGEWISE_OK);
    assert(answer == 1);
    assert(pagewise_reservation_prefault(memory, 2 * page, 2 * page) == PAGEWISE_OK);
    assert(pagewise_reservation_discard(memory, 3 * page, page) == PAGEWISE_OK);
    assert(pagewise_reservation_protect(memory, 2 * page, page, PAGEWISE_ACCESS_READ) == PAGEWISE_OK);
    assert(bytes[2 * page + 1] == 7);
    assert(pagewise_reservation_protect(memory, 2 * page, page, 9) == PAGEWISE_ERROR_ARGUMENT);

    assert(pagewise_reservation_page_map(memory, &map) == PAGEWISE_OK);
    size_t runs = pagewise_page_map_runs(map), pages = 0, committed = 0;
    for (size_t i = 0; i < runs; i++) {
        assert(pagewise_page_map_run(map, i, &run) == PAGEWISE_OK && run.first == pages);
        pages += run.count;
        if (run.state & PAGEWISE_PAGE_COMMITTED) committed += run.count;
    }
    assert(pages == 8 && committed == 2 && runs >= 3);
    assert(pagewise_page_map_run(map, runs, &run) == PAGEWISE_ERROR_ARGUMENT);
    pagewise_page_map_free(map);

    assert(pagewise_reservation_decommit(memory, 0, 8 * page) == PAGEWISE_OK);
    assert(!pagewise_reservation_committed(memory) && pagewise_reservation_peak(memory) == 2 * page);
    assert(pagewise_reservation_release(memory) == PAGEWISE_OK);
    options.events = 1;
    assert(pagewise_reservation_new(page, &options, &memory) == PAGEWISE_ERROR_ARGUMENT && !memory);
    assert(strstr(pagewise_last_error(), "regions only"));
}

static void arenas(size_t page) {
    pagewise_options options;
    pagewise_arena *arena;
    size_t first, second, third;
    void *memory = &arena;

    pagewise_options_default(&options, sizeof options);
    options.limit = 8 * page;
    assert(pagewise_arena_new(64 * page, &options, &arena) == PAGEWISE_OK);
    assert(pagewise_arena_max_bytes(arena) == 64 * page && pagewise_arena_used(arena) == 0);
    assert(pagewise_arena_alloc(arena, 10, 0, &memory) == PAGEWISE_OK && (uintptr_t)memory % 16 == 0);
    memset(memory, 1, 10);
    assert(pagewise_arena_checkpoint(arena, &first) == PAGEWISE_OK);
    assert(pagewise_arena_alloc(arena, 100, 64, &memory) == PAGEWISE_OK && (uintptr_t)memory % 64 == 0);
    assert(pagewise_arena_checkpoint(arena, &second) == PAGEWISE_OK && second != first);
    assert(pagewise_arena_checkpoint(arena, &third) == PAGEWISE_OK && third == second);
    for (int i = 0; i < 3; i++) {
        assert(pagewise_arena_alloc_zeroed(arena, page, 0, &memory) == PAGEWISE_OK);
        for (size_t at = 0; at < page; at++) assert(((unsigned char *)memory)[at] == 0);
        memset(memory, 1, page);
        assert(pagewise_arena_rewind(arena, second) == PAGEWISE_OK);
    }
    assert(pagewise_arena_rewind(arena, first) == PAGEWISE_OK && pagewise_arena_used(arena) == 10);
    assert(pagewise_arena_rewind(arena, second) == PAGEWISE_ERROR_ARGUMENT);
    assert(pagewise_arena_alloc(arena, 9 * page, 0, &memory) == PAGEWISE_ERROR_LIMIT && !memory);
    assert(pagewise_arena_alloc(arena, 1, 3, &memory) == PAGEWISE_ERROR_ARGUMENT);
    assert(pagewise_arena_alloc(arena, SIZE_MAX, 8, &memory) == PAGEWISE_ERROR_ARGUMENT);
    assert(pagewise_arena_reserve(arena, 4 * page) == PAGEWISE_OK);
    assert(pagewise_arena_committed(arena) >= 4 * page);
    assert(pagewise_arena_shrink(arena) == PAGEWISE_OK && pagewise_arena_committed(arena) == page);
    assert(pagewise_arena_reset(arena) == PAGEWISE_OK && pagewise_arena_used(arena) == 0);
    assert(pagewise_arena_rewind(arena, first) == PAGEWISE_ERROR_ARGUMENT);
    pagewise_arena_free(arena);
}

static int seen_in_a_filter, in_a_filter;
static size_t seen_offset;

static int filter(void *context, pagewise_fault *fault) {
    seen_in_a_filter++;
    in_a_filter = pagewise_in_filter();
    seen_offset = fault->offset;
    assert(context == &seen_offset && fault->pages == 0 && fault->access != 0);
    if (fault->offset >= 3 * pagewise_page_size()) return PAGEWISE_FILTER_REFUSE;
    fault->pages = 2;
    return PAGEWISE_FILTER_COMMIT;
}

static void touch(void *byte) {
    *(volatile char *)byte = 1;
}

static void nested(void *byte) {
    pagewise_refusal refusal;
    assert(pagewise_try(touch, (char *)byte + 1, &refusal) == PAGEWISE_ERROR_FILTER);
    assert(refusal.offset % pagewise_page_size() == 1);
    touch((char *)byte + 2);
}

static void tries(size_t page) {
    pagewise_options options;
    pagewise_region *region, *limited;
    pagewise_refusal refusal;
    char text[200], little[10];

    pagewise_options_default(&options, sizeof options);
    options.filter = filter;
    options.filter_context = &seen_offset;
    assert(pagewise_region_new(8 * page, &options, &region) == PAGEWISE_OK);
    char *bytes = pagewise_region_ptr(region);
    assert(pagewise_try(touch, bytes + 5, &refusal) == PAGEWISE_OK);
    assert(seen_in_a_filter == 1 && in_a_filter && !pagewise_in_filter() && seen_offset == 5);
    assert(pagewise_region_committed(region) == 2 * page);
    assert(pagewise_try(touch, bytes + 4 * page + 7, &refusal) == PAGEWISE_ERROR_FILTER);
    assert(refusal.region == bytes && refusal.offset == 4 * page + 7);
    assert(refusal.reason == PAGEWISE_ERROR_FILTER);
    assert(pagewise_refusal_text(&refusal, text, sizeof text) == PAGEWISE_OK);
    assert(strstr(text, "filter") && strstr(text, "offset 0x"));
    assert(pagewise_refusal_text(&refusal, little, sizeof little) == PAGEWISE_OK);
    assert(strcmp(little, "page at o") == 0);
    assert(pagewise_refusal_text(&refusal, little, 0) == PAGEWISE_ERROR_ARGUMENT);
    assert(pagewise_try(nested, bytes + 5 * page, &refusal) == PAGEWISE_ERROR_FILTER);
    assert(refusal.offset == 5 * page + 2);
    assert(pagewise_try(NULL, NULL, NULL) == PAGEWISE_ERROR_ARGUMENT);

    pagewise_options_default(&options, sizeof options);
    options.limit = 3 * page;
    options.step = page;
    assert(pagewise_region_new(8 * page, &options, &limited) == PAGEWISE_OK);
    assert(pagewise_region_commit(limited, 0, 3 * page) == PAGEWISE_OK);
    assert(pagewise_try(touch, (char *)pagewise_region_ptr(limited) + 3 * page, &refusal) ==
           PAGEWISE_ERROR_LIMIT);
    assert(refusal.used == 3 * page && refusal.limit == 3 * page && !refusal.system_error);
    pagewise_region_free(limited);
    pagewise_region_free(region);
}

int main(void) {
    const size_t page = pagewise_page_size();
    assert(pagewise_abi_version() == PAGEWISE_ABI_VERSION);
    assert(strcmp(pagewise_last_error(), "") == 0);
    regions(page);
    options_of_other_versions(page);
    reservations(page);
    arenas(page);
    tries(page);
    assert(pagewise_install() == PAGEWISE_OK);
    assert(!pagewise_is_displaced() && pagewise_reinstall() == PAGEWISE_OK);
    puts("the classic works");
    return 0;
}
