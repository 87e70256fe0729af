/* An array that grows in place: pointers to its elements stay valid, and it has no capacity to run out of before the
 * limit. Appending writes to memory that commits itself. */
#include <stdio.h>
#include <stdlib.h>

#include "pagewise.h"

struct array {
    pagewise_region *region;
    double *elements;
    size_t len;
};

static pagewise_status array_new(struct array *array, size_t most_bytes) {
    pagewise_options options;
    pagewise_options_default(&options, sizeof options);
    options.limit = most_bytes;
    array->len = 0;
    /* Addresses for more than anybody needs cost nothing. */
    pagewise_status status = pagewise_region_new((size_t)1 << 34, &options, &array->region);
    array->elements = status == PAGEWISE_OK ? pagewise_region_ptr(array->region) : NULL;
    return status;
}

static pagewise_status array_push(struct array *array, double value) {
    /* Where a refusal is possible, the copy returns it. (A plain store would end the process.) */
    pagewise_status status = pagewise_region_write(array->region, array->len * sizeof value, &value,
                                                   sizeof value, NULL);
    if (status == PAGEWISE_OK) array->len++;
    return status;
}

int main(void) {
    struct array array;
    if (array_new(&array, (size_t)8 << 20) != PAGEWISE_OK) {
        fprintf(stderr, "%s\n", pagewise_last_error());
        return EXIT_FAILURE;
    }
    array_push(&array, 0.5);
    const double *first = &array.elements[0];
    while (array_push(&array, (double)array.len) == PAGEWISE_OK) {
    }
    printf("%zu elements in %zu bytes; then: %s\n", array.len,
           pagewise_region_committed(array.region), pagewise_last_error());
    int is_right = first == &array.elements[0] && *first == 0.5 &&
                   array.len == ((size_t)8 << 20) / sizeof(double) &&
                   array.elements[array.len - 1] == (double)(array.len - 1);
    pagewise_region_free(array.region);
    return is_right ? EXIT_SUCCESS : EXIT_FAILURE;
}
