# The version of the package (of the ABI: see PAGEWISE_ABI_VERSION in the header). Before 1.0.0 the second number counts
# as the first one does later.
set(PACKAGE_VERSION 0.1.0)

set(PACKAGE_VERSION_COMPATIBLE FALSE)
set(PACKAGE_VERSION_EXACT FALSE)
string(REGEX MATCH "^0\\.[0-9]+|^[1-9][0-9]*" _pagewise_major "${PACKAGE_VERSION}")
string(REGEX REPLACE "\\." "\\\\." _pagewise_major "${_pagewise_major}")
if(NOT PACKAGE_FIND_VERSION VERSION_GREATER PACKAGE_VERSION)
    # A request for 0 alone is for any version before 1.
    if(PACKAGE_FIND_VERSION MATCHES "^${_pagewise_major}(\\.|$)" OR
        (PACKAGE_FIND_VERSION STREQUAL "0" AND PACKAGE_VERSION VERSION_LESS 1))
        set(PACKAGE_VERSION_COMPATIBLE TRUE)
    endif()
    if(PACKAGE_FIND_VERSION VERSION_EQUAL PACKAGE_VERSION)
        set(PACKAGE_VERSION_EXACT TRUE)
    endif()
endif()
