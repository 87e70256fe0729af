"""A region as memory of a Python program, by ctypes: a buffer that grows in place, and an OSError for a refusal.

python3 grow_in_place.py path/to/libpagewise_c.so
"""

import ctypes
import errno
import sys

SIZE = ctypes.c_size_t
LIMIT = 2  # PAGEWISE_ERROR_LIMIT


class Options(ctypes.Structure):
    _fields_ = [
        ("size", SIZE), ("limit", SIZE), ("at_least", SIZE), ("align", SIZE), ("guard_pages", SIZE),
        ("step", SIZE), ("events", SIZE), ("budget", ctypes.c_void_p), ("name", ctypes.c_char_p),
        ("filter", ctypes.c_void_p), ("filter_context", ctypes.c_void_p), ("engine", ctypes.c_int),
        ("huge_pages", ctypes.c_int), ("no_dump", ctypes.c_int), ("reserved", ctypes.c_int),
    ]


class Pagewise:
    """The functions of the library that this program needs."""

    def __init__(self, path):
        self.library = ctypes.CDLL(path)
        pointer, out = ctypes.c_void_p, ctypes.c_void_p
        self.declare("pagewise_page_size", SIZE)
        self.declare("pagewise_last_error", ctypes.c_char_p)
        self.declare("pagewise_options_default", ctypes.c_int, out, SIZE)
        self.declare("pagewise_region_new", ctypes.c_int, SIZE, pointer, out)
        self.declare("pagewise_region_ptr", pointer, pointer)
        self.declare("pagewise_region_committed", SIZE, pointer)
        self.declare("pagewise_region_commit", ctypes.c_int, pointer, SIZE, SIZE)
        self.declare("pagewise_region_free", None, pointer)

    def declare(self, name, result, *arguments):
        function = getattr(self.library, name)
        function.restype, function.argtypes = result, arguments
        setattr(self, name, function)

    def check(self, status):
        if status == LIMIT:
            raise OSError(errno.ENOMEM, self.pagewise_last_error().decode())
        if status != 0:
            raise OSError(errno.EINVAL, self.pagewise_last_error().decode())


class Buffer:
    """Bytes that grow in place: a view of them stays valid while the buffer grows."""

    def __init__(self, pagewise, limit):
        self.pagewise, self.len = pagewise, 0
        options, region = Options(), ctypes.c_void_p()
        pagewise.check(pagewise.pagewise_options_default(ctypes.byref(options), ctypes.sizeof(options)))
        options.limit = limit
        status = pagewise.pagewise_region_new(1 << 34, ctypes.byref(options), ctypes.byref(region))
        pagewise.check(status)
        self.region = region
        self.start = pagewise.pagewise_region_ptr(region)

    def grow(self, by):
        # Committed before it is used, so that a refusal is an error here, not a crash at the first touch.
        if by > 0:
            self.pagewise.check(self.pagewise.pagewise_region_commit(self.region, self.len, by))
        self.len += by

    def view(self):
        return memoryview((ctypes.c_ubyte * self.len).from_address(self.start)).cast("B")

    def close(self):
        self.pagewise.pagewise_region_free(self.region)


def main():
    pagewise = Pagewise(sys.argv[1])
    page = pagewise.pagewise_page_size()
    buffer = Buffer(pagewise, limit=8 * page)
    buffer.grow(2 * page)
    first = buffer.view()
    first[:5] = b"hello"
    buffer.grow(6 * page)
    assert buffer.view()[:5] == b"hello" and len(buffer.view()) == 8 * page
    first[0] = ord("j")
    assert bytes(buffer.view()[:5]) == b"jello"  # the same memory
    try:
        import numpy
    except ImportError:
        print("no NumPy here: the array over the region is left out")
    else:
        array = numpy.frombuffer(buffer.view(), dtype=numpy.uint8)
        array[page:] = 7
        assert int(array[page:].sum()) == 7 * 7 * page and first[page] == 7
    try:
        buffer.grow(1)
    except OSError as error:
        assert error.errno == errno.ENOMEM
        print(error)
    else:
        raise AssertionError("the limit did not refuse")
    assert pagewise.pagewise_region_committed(buffer.region) == 8 * page
    buffer.close()
    print("grown in place")


main()
