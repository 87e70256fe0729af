"""Regions commit on fault in a Python program with faulthandler; and a real crash still gets its trace."""

import ctypes
import faulthandler
import subprocess
import sys
import threading


def load(path):
    library = ctypes.CDLL(path)
    size = ctypes.c_size_t
    library.pagewise_page_size.restype = size
    library.pagewise_region_new.argtypes = [size, ctypes.c_void_p, ctypes.c_void_p]
    for name in ["ptr", "len", "committed", "free"]:
        function = getattr(library, "pagewise_region_" + name)
        function.restype = ctypes.c_void_p if name == "ptr" else size
        function.argtypes = [ctypes.c_void_p]
    library.pagewise_region_free.restype = None
    return library


def churn(library):
    page = library.pagewise_page_size()
    region = ctypes.c_void_p()
    assert library.pagewise_region_new(256 * page, None, ctypes.byref(region)) == 0
    start = library.pagewise_region_ptr(region)
    for index in range(256):
        ctypes.memset(start + index * page, index % 255 + 1, 8)
    for index in range(256):
        assert ctypes.string_at(start + index * page, 9) == bytes([index % 255 + 1]) * 8 + b"\0"
    assert library.pagewise_region_committed(region) == 256 * page
    library.pagewise_region_free(region)


def main():
    when, path = sys.argv[1], sys.argv[2]
    if when == "before":  # faulthandler is there first, and gets what is not ours
        faulthandler.enable()
    library = load(path)
    churn(library)
    if when == "after":  # faulthandler takes our place: it must be put back
        faulthandler.enable()
        assert library.pagewise_is_displaced()
        assert library.pagewise_reinstall() == 0
    assert not library.pagewise_is_displaced()
    threads = [threading.Thread(target=churn, args=(library,)) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    subprocess.run(["true"], check=True)
    print(f"python, faulthandler {when}: fine", flush=True)
    ctypes.string_at(8)  # a real crash


main()
