/* The classic, in C: reserve 80 pages, touch them, stop at the limit, give them back. */
#undef NDEBUG
#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "pagewise.h"

int main(void) {
    const size_t page = pagewise_page_size();
    size_t copied = 99;
    char buffer[16] = "0123456789abcde";

    pagewise_region *region = pagewise_region_new(80 * page, 20 * page, page);
    assert(region && pagewise_region_len(region) == 80 * page);
    volatile unsigned char *bytes = pagewise_region_ptr(region);
    for (size_t i = 0; i < 10; i++) bytes[i * page] = (unsigned char)(i + 1);
    for (size_t i = 0; i < 10; i++) assert(bytes[i * page] == i + 1);
    assert(pagewise_region_committed(region) == 10 * page && pagewise_region_faults(region) == 10);

    assert(pagewise_region_commit(region, 10 * page, 10 * page) == PAGEWISE_OK);
    assert(pagewise_region_commit(region, 20 * page, 1) == PAGEWISE_ERROR_LIMIT);
    assert(strstr(pagewise_last_error(), "refused"));
    assert(pagewise_region_write(region, 20 * page - 6, buffer, 16, &copied) == PAGEWISE_ERROR_LIMIT);
    assert(copied == 6 && memcmp((const char *)bytes + 20 * page - 6, buffer, 6) == 0);
    memset(buffer, '?', sizeof buffer);
    assert(pagewise_region_read(region, 20 * page - 6, buffer, 16, &copied) == PAGEWISE_ERROR_LIMIT);
    assert(copied == 6 && memcmp(buffer, "012345??????????", 16) == 0);

    assert(pagewise_region_decommit(region, 0, 10 * page) == PAGEWISE_OK);
    assert(pagewise_region_committed(region) == 10 * page && bytes[0] == 0);
    assert(pagewise_region_read(region, 80 * page, buffer, 1, &copied) == PAGEWISE_ERROR_ARGUMENT);
    assert(copied == 0);
    assert(pagewise_region_read(NULL, 0, buffer, 1, NULL) == PAGEWISE_ERROR_ARGUMENT);
    assert(pagewise_region_write(region, 0, NULL, 1, NULL) == PAGEWISE_ERROR_ARGUMENT);
    assert(pagewise_region_read(region, SIZE_MAX, buffer, 0, NULL) == PAGEWISE_ERROR_ARGUMENT);
    assert(pagewise_region_write(region, SIZE_MAX, buffer, 0, NULL) == PAGEWISE_ERROR_ARGUMENT);
    assert(pagewise_region_commit(region, SIZE_MAX, 2) == PAGEWISE_ERROR_ARGUMENT);
    assert(pagewise_region_new(0, SIZE_MAX, 0) == NULL && strlen(pagewise_last_error()) > 0);
    assert(!pagewise_region_ptr(NULL) && strstr(pagewise_last_error(), "NULL"));
    assert(!pagewise_region_len(NULL));
    assert(!pagewise_is_displaced() && pagewise_reinstall() == PAGEWISE_OK);
    pagewise_region_free(region);
    pagewise_region_free(NULL);
    puts("the classic works");
    return 0;
}
