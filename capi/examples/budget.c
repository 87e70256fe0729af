/* A budget: two regions and an arena share 64 pages, and none of them has a limit of its own. */
#include <stdio.h>
#include <stdlib.h>

#include "pagewise.h"

int main(void) {
    const size_t page = pagewise_page_size();
    pagewise_budget *budget;
    pagewise_region *first, *second;
    pagewise_arena *arena;
    pagewise_options options;
    size_t filled;
    void *memory;

    pagewise_options_default(&options, sizeof options);
    if (pagewise_budget_new(64 * page, &budget) != PAGEWISE_OK) return EXIT_FAILURE;
    options.budget = budget;
    if (pagewise_region_new(1000 * page, &options, &first) != PAGEWISE_OK ||
        pagewise_region_new(1000 * page, &options, &second) != PAGEWISE_OK ||
        pagewise_arena_new(1000 * page, &options, &arena) != PAGEWISE_OK) {
        fprintf(stderr, "%s\n", pagewise_last_error());
        return EXIT_FAILURE;
    }
    pagewise_region_fill(first, 0, 20 * page, 1, NULL);
    int is_right = pagewise_arena_alloc(arena, 4 * page, 0, &memory) == PAGEWISE_OK;
    pagewise_status status = pagewise_region_fill(second, 0, 1000 * page, 1, &filled);
    printf("the second region got %zu pages: %s\n", filled / page, pagewise_last_error());
    is_right &= status == PAGEWISE_ERROR_LIMIT && filled > 0 && filled <= 40 * page;
    is_right &= pagewise_budget_used(budget) == 64 * page;

    /* What one gives back, another may take. */
    pagewise_region_decommit(first, 0, 20 * page);
    status = pagewise_region_commit(second, 100 * page, 10 * page);
    printf("%zu of %zu bytes are used\n", pagewise_budget_used(budget),
           pagewise_budget_limit(budget));
    is_right &= status == PAGEWISE_OK && pagewise_budget_peak(budget) == 64 * page;

    pagewise_region_free(first);
    pagewise_region_free(second);
    pagewise_arena_free(arena);
    is_right &= pagewise_budget_used(budget) == 0;
    pagewise_budget_free(budget);
    return is_right ? EXIT_SUCCESS : EXIT_FAILURE;
}
