# FAISS with its C library.
#
# Looks under, in this order: -DFAISS_ROOT=, the prefix that tools/setup has prepared, the system.
#
# Sets
#   FaissC_FOUND, FaissC_VERSION (from the headers), FaissC_INCLUDE_DIR, FaissC_LIBRARY, FaissC_CORE_LIBRARY
# Defines
#   FaissC::FaissC   include as <faiss/c_api/Index_c.h>; links from C and from C++
#
# Static libraries are preferred, so that a program carries the FAISS it was tested with.

# The prefix is asked for at every configure, and what was found under another one is forgotten: setup may have run,
# or rebuilt FAISS, since the last time.
set(_faissc_root "${FAISS_ROOT}")
if(NOT _faissc_root)
  execute_process(COMMAND ${CMAKE_CURRENT_LIST_DIR}/../tools/setup --print-faiss-root
                  OUTPUT_VARIABLE _faissc_root OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
if(NOT "${_faissc_root}" STREQUAL "${FaissC_ROOT_USED}")
  unset(FaissC_INCLUDE_DIR CACHE)
  unset(FaissC_LIBRARY CACHE)
  unset(FaissC_CORE_LIBRARY CACHE)
endif()
set(FaissC_ROOT_USED "${_faissc_root}" CACHE INTERNAL "the prefix that FaissC was looked for under")

# A named prefix is the only place to look: headers of one FAISS with the library of another crash at run time.
set(_faissc_where)
if(_faissc_root)
  set(_faissc_where PATHS ${_faissc_root} NO_DEFAULT_PATH)
endif()
set(_faissc_lib_dirs lib lib64)
if(CMAKE_LIBRARY_ARCHITECTURE)
  list(APPEND _faissc_lib_dirs lib/${CMAKE_LIBRARY_ARCHITECTURE})
endif()
find_path(FaissC_INCLUDE_DIR faiss/c_api/Index_c.h ${_faissc_where} PATH_SUFFIXES include)
find_library(FaissC_LIBRARY NAMES libfaiss_c.a faiss_c ${_faissc_where} PATH_SUFFIXES ${_faissc_lib_dirs})
find_library(FaissC_CORE_LIBRARY NAMES libfaiss.a faiss ${_faissc_where} PATH_SUFFIXES ${_faissc_lib_dirs})
# OpenBLAS carries LAPACK as well.
find_library(FaissC_BLAS_LIBRARY NAMES openblas)
mark_as_advanced(FaissC_INCLUDE_DIR FaissC_LIBRARY FaissC_CORE_LIBRARY FaissC_BLAS_LIBRARY)

if(FaissC_INCLUDE_DIR AND EXISTS ${FaissC_INCLUDE_DIR}/faiss/Index.h)
  set(_faissc_numbers)
  foreach(_faissc_part IN ITEMS MAJOR MINOR PATCH)
    file(STRINGS ${FaissC_INCLUDE_DIR}/faiss/Index.h _faissc_line REGEX "define FAISS_VERSION_${_faissc_part} [0-9]+")
    string(REGEX MATCH "[0-9]+" _faissc_number "${_faissc_line}")
    list(APPEND _faissc_numbers "${_faissc_number}")
  endforeach()
  list(JOIN _faissc_numbers "." FaissC_VERSION)
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(FaissC
  REQUIRED_VARS FaissC_LIBRARY FaissC_CORE_LIBRARY FaissC_INCLUDE_DIR FaissC_BLAS_LIBRARY
  VERSION_VAR FaissC_VERSION
  REASON_FAILURE_MESSAGE "run tools/setup, or give a FAISS that was built with its C library as -DFAISS_ROOT=")

if(FaissC_FOUND AND NOT TARGET FaissC::FaissC)
  find_package(Threads REQUIRED)
  add_library(FaissC::Core UNKNOWN IMPORTED)
  # gomp and stdc++ by name: they live in the compiler's own folder, which gcc and clang search and CMake does not.
  set_target_properties(FaissC::Core PROPERTIES
    IMPORTED_LOCATION ${FaissC_CORE_LIBRARY}
    INTERFACE_LINK_LIBRARIES "${FaissC_BLAS_LIBRARY};gomp;stdc++;m;Threads::Threads")
  add_library(FaissC::FaissC UNKNOWN IMPORTED)
  set_target_properties(FaissC::FaissC PROPERTIES
    IMPORTED_LOCATION ${FaissC_LIBRARY}
    INTERFACE_INCLUDE_DIRECTORIES ${FaissC_INCLUDE_DIR}
    INTERFACE_LINK_LIBRARIES FaissC::Core)
endif()
