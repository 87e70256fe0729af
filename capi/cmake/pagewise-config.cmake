# For find_package(pagewise). Targets:
#   pagewise::shared, pagewise::static   the two libraries, each where it is installed
#   pagewise::pagewise                   the shared one, or the static one where there is no other
#
# This file is the same in every installation. It finds the library and the headers from its own place, which is
# PREFIX/share/cmake/pagewise or LIBDIR/cmake/pagewise, so that an installation may be moved as a whole.

set(_pagewise_libdirs "")
set(_pagewise_includedirs "")
set(_pagewise_above "${CMAKE_CURRENT_LIST_DIR}")
# Up to PREFIX from PREFIX/lib/ARCHITECTURE/cmake/pagewise.
foreach(_pagewise_step RANGE 3)
    get_filename_component(_pagewise_above "${_pagewise_above}" DIRECTORY)
    list(APPEND _pagewise_includedirs "${_pagewise_above}/include")
    list(APPEND _pagewise_libdirs "${_pagewise_above}")
    foreach(_pagewise_folder "lib/${CMAKE_LIBRARY_ARCHITECTURE}" lib64 lib)
        list(APPEND _pagewise_libdirs "${_pagewise_above}/${_pagewise_folder}")
    endforeach()
endforeach()

find_path(pagewise_INCLUDE_DIR pagewise.h PATHS ${_pagewise_includedirs} NO_DEFAULT_PATH)
mark_as_advanced(pagewise_INCLUDE_DIR)

if(WIN32)
    set(_pagewise_shared_names libpagewise.dll.a pagewise.dll.lib)
    set(_pagewise_static_names libpagewise.a pagewise.lib)
else()
    set(_pagewise_shared_names "libpagewise${CMAKE_SHARED_LIBRARY_SUFFIX}")
    set(_pagewise_static_names libpagewise.a)
endif()
foreach(_pagewise_kind shared static)
    string(TOUPPER "${_pagewise_kind}" _pagewise_upper)
    find_library(pagewise_${_pagewise_upper}_LIBRARY NAMES ${_pagewise_${_pagewise_kind}_names}
        PATHS ${_pagewise_libdirs} NO_DEFAULT_PATH)
    mark_as_advanced(pagewise_${_pagewise_upper}_LIBRARY)
    if(pagewise_INCLUDE_DIR AND pagewise_${_pagewise_upper}_LIBRARY AND NOT TARGET pagewise::${_pagewise_kind})
        add_library(pagewise::${_pagewise_kind} UNKNOWN IMPORTED)
        set_target_properties(pagewise::${_pagewise_kind} PROPERTIES
            IMPORTED_LOCATION "${pagewise_${_pagewise_upper}_LIBRARY}"
            INTERFACE_INCLUDE_DIRECTORIES "${pagewise_INCLUDE_DIR}")
    endif()
endforeach()

# What Rust's standard library needs.
if(TARGET pagewise::static)
    if(WIN32)
        set(_pagewise_needs kernel32 ntdll userenv ws2_32 dbghelp)
    else()
        include(CMakeFindDependencyMacro)
        find_dependency(Threads)
        set(_pagewise_needs Threads::Threads ${CMAKE_DL_LIBS} m)
    endif()
    set_property(TARGET pagewise::static PROPERTY INTERFACE_LINK_LIBRARIES ${_pagewise_needs})
endif()

if(NOT TARGET pagewise::pagewise)
    foreach(_pagewise_kind shared static)
        if(TARGET pagewise::${_pagewise_kind})
            add_library(pagewise::pagewise INTERFACE IMPORTED)
            set_property(TARGET pagewise::pagewise PROPERTY INTERFACE_LINK_LIBRARIES pagewise::${_pagewise_kind})
            break()
        endif()
    endforeach()
endif()

if(NOT TARGET pagewise::pagewise)
    set(pagewise_FOUND FALSE)
    set(pagewise_NOT_FOUND_MESSAGE "no header, or no library, of pagewise around ${CMAKE_CURRENT_LIST_DIR}")
endif()
