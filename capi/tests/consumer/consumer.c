/* A program of somebody else: it has the installed header and library, and nothing of this folder's project. */
#include <stdio.h>
#include <stdlib.h>

#include <pagewise.h>

int main(void) {
    pagewise_region *region;
    const size_t page = pagewise_page_size();
    if (pagewise_abi_version() != PAGEWISE_ABI_VERSION) {
        fprintf(stderr, "the header has version %d of the interface, the library %u\n",
                PAGEWISE_ABI_VERSION, pagewise_abi_version());
        return EXIT_FAILURE;
    }
    if (pagewise_region_new(80 * page, NULL, &region) != PAGEWISE_OK) {
        fprintf(stderr, "%s\n", pagewise_last_error());
        return EXIT_FAILURE;
    }
    volatile char *bytes = pagewise_region_ptr(region);
    for (size_t at = 0; at < 20 * page; at += page) bytes[at] = 'a';
    printf("consumed: %zu of %zu bytes are committed\n", pagewise_region_committed(region),
           pagewise_region_len(region));
    int is_right = pagewise_region_committed(region) >= 20 * page;
    pagewise_region_free(region);
    return is_right ? EXIT_SUCCESS : EXIT_FAILURE;
}
