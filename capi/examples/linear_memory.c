/* The linear memory of a virtual machine (WebAssembly has one): 4 GiB of addresses, so that a 32-bit index needs no check.
 * The filter commits what lies inside the memory's current size, and refuses the rest: pagewise_try makes that a trap. */
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "pagewise.h"

#define VM_PAGE ((size_t)65536)

struct machine {
    pagewise_region *memory;
    unsigned char *base;
    _Atomic size_t size; /* bytes that the program may use; the filter reads it */
    uint32_t from, to;   /* of the running program */
    uint64_t sum;
};

static int inside(void *context, pagewise_fault *fault) {
    struct machine *machine = context;
    int is_inside = fault->offset < atomic_load(&machine->size);
    return is_inside ? PAGEWISE_FILTER_COMMIT : PAGEWISE_FILTER_REFUSE;
}

static int machine_new(struct machine *machine, size_t pages) {
    pagewise_options options;
    pagewise_options_default(&options, sizeof options);
    options.filter = inside;
    options.filter_context = machine;
    options.step = VM_PAGE;
    atomic_init(&machine->size, pages * VM_PAGE);
    /* An access of eight bytes at the last index ends behind the 4 GiB. */
    if (pagewise_region_new(((size_t)1 << 32) + VM_PAGE, &options, &machine->memory) != PAGEWISE_OK)
        return 0;
    machine->base = pagewise_region_ptr(machine->memory);
    return 1;
}

/* The instruction memory.grow: returns the size before, in pages. */
static size_t machine_grow(struct machine *machine, size_t pages) {
    return atomic_fetch_add(&machine->size, pages * VM_PAGE) / VM_PAGE;
}

/* What compiled code does: plain loads and stores, with no checks. */
static void program(void *context) {
    struct machine *machine = context;
    machine->sum = 0;
    for (uint32_t at = machine->from; at < machine->to; at += 4096) {
        ((volatile unsigned char *)machine->base)[at] = 3;
        machine->sum += machine->base[at];
    }
}

/* Runs the program on a range. Returns 1, or 0 for a trap. */
static int run(struct machine *machine, uint32_t from, uint32_t to) {
    pagewise_refusal trap;
    machine->from = from;
    machine->to = to;
    pagewise_status status = pagewise_try(program, machine, &trap);
    if (status == PAGEWISE_OK) {
        printf("%08" PRIx32 "..%08" PRIx32 ": %" PRIu64 "\n", from, to, machine->sum);
        return 1;
    }
    printf("%08" PRIx32 "..%08" PRIx32 ": trap at %08zx\n", from, to, trap.offset);
    return 0;
}

int main(void) {
    struct machine machine;
    if (!machine_new(&machine, 2)) {
        fprintf(stderr, "%s\n", pagewise_last_error());
        return EXIT_FAILURE;
    }
    int is_right = run(&machine, 0, 2 * 65536);
    is_right &= !run(&machine, 65536, 3 * 65536);
    is_right &= !run(&machine, UINT32_MAX - 70000, UINT32_MAX - 8);
    is_right &= machine_grow(&machine, 1) == 2;
    is_right &= run(&machine, 65536, 3 * 65536);
    is_right &= !run(&machine, 65536, 4 * 65536);
    /* Traps by the thousand cost nothing that stays. */
    for (int i = 0; i < 10000; i++) {
        machine.from = 5 * 65536;
        machine.to = 6 * 65536;
        is_right &= pagewise_try(program, &machine, NULL) == PAGEWISE_ERROR_FILTER;
    }
    is_right &= pagewise_region_committed(machine.memory) == 3 * VM_PAGE;
    pagewise_region_free(machine.memory);
    return is_right ? EXIT_SUCCESS : EXIT_FAILURE;
}
