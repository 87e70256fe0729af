/* An arena: the nodes of a list are allocated one after the other, and freed all at once. */
#include <stdio.h>
#include <stdlib.h>

#include "pagewise.h"

struct node {
    int value;
    struct node *next;
};

static struct node *list_of(pagewise_arena *arena, int len) {
    struct node *first = NULL;
    for (int i = 0; i < len; i++) {
        void *memory;
        if (pagewise_arena_alloc(arena, sizeof(struct node), 0, &memory) != PAGEWISE_OK) break;
        struct node *node = memory;
        node->value = i;
        node->next = first;
        first = node;
    }
    return first;
}

static int length(const struct node *list) {
    int len = 0;
    for (; list; list = list->next) len++;
    return len;
}

int main(void) {
    pagewise_arena *arena;
    pagewise_options options;
    size_t checkpoint;
    pagewise_options_default(&options, sizeof options);
    options.limit = (size_t)1 << 20;
    if (pagewise_arena_new((size_t)1 << 32, &options, &arena) != PAGEWISE_OK) {
        fprintf(stderr, "%s\n", pagewise_last_error());
        return EXIT_FAILURE;
    }
    struct node *kept = list_of(arena, 100);
    pagewise_arena_checkpoint(arena, &checkpoint);
    int is_right = 1;
    for (int round = 0; round < 1000; round++) {
        is_right &= length(list_of(arena, 1000)) == 1000; /* scratch memory of one round */
        is_right &= pagewise_arena_rewind(arena, checkpoint) == PAGEWISE_OK;
    }
    is_right &= length(kept) == 100;
    printf("%d nodes in %zu bytes, %zu committed\n", length(kept), pagewise_arena_used(arena),
           pagewise_arena_committed(arena));
    int most = length(list_of(arena, 1000000));
    printf("%d more, then: %s\n", most, pagewise_last_error());
    is_right &= most > 1000 && most < 1000000;
    pagewise_arena_free(arena);
    return is_right ? EXIT_SUCCESS : EXIT_FAILURE;
}
