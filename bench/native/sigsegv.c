/* GNU libsigsegv, used as its manual shows: a dispatcher, a registered area, its handler. */
#include <sigsegv.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

static sigsegv_dispatcher dispatcher;
static uintptr_t page;

static int on_area_fault(void *address, void *argument) {
    (void)argument;
    return mprotect((void *)((uintptr_t)address & ~(page - 1)), page, PROT_READ | PROT_WRITE) == 0;
}

static int on_fault(void *address, int serious) {
    (void)serious;
    return sigsegv_dispatch(&dispatcher, address);
}

int pagewise_bench_sigsegv_area(void *start, size_t len, size_t page_bytes) {
    page = page_bytes;
    sigsegv_init(&dispatcher);
    sigsegv_register(&dispatcher, start, len, on_area_fault, NULL);
    return sigsegv_install_handler(on_fault);
}
