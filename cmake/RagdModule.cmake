# Helpers shared by every folder's CMakeLists.txt.

# Warnings are errors in our own code; generated and foreign code is compiled without them.
add_library(ragd_flags INTERFACE)
target_include_directories(ragd_flags INTERFACE ${CMAKE_SOURCE_DIR})
target_compile_definitions(ragd_flags INTERFACE _GNU_SOURCE RAGD_VERSION="${PROJECT_VERSION}")
# -ffp-contract=off: a fused multiply-add happens where the source says so and nowhere else, so that
# scores have the same bits on every CPU and compiler.
target_compile_options(ragd_flags INTERFACE -Wall -Wextra -Wshadow -Wconversion -Werror -ffp-contract=off
                                            -fno-omit-frame-pointer $<$<COMPILE_LANGUAGE:C>:-Wvla>
                                            $<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes>)
if(RAGD_SANITIZE)
  target_compile_options(ragd_flags INTERFACE -fsanitize=${RAGD_SANITIZE} -fno-sanitize-recover=all)
  target_link_options(ragd_flags INTERFACE -fsanitize=${RAGD_SANITIZE})
endif()
target_link_libraries(ragd_flags INTERFACE Threads::Threads m)

# ragd_module(NAME [LINK libs...]): a static library rag_NAME of every .c and .cpp file of the folder
# (and its sub-folders but cuda/, which needs nvcc).
function(ragd_module name)
  cmake_parse_arguments(ARG "" "" "LINK;EXCLUDE" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.c ${CMAKE_CURRENT_SOURCE_DIR}/*.cpp)
  list(FILTER sources EXCLUDE REGEX "/cuda/")
  foreach(pattern IN LISTS ARG_EXCLUDE)
    list(FILTER sources EXCLUDE REGEX "${pattern}")
  endforeach()
  if(NOT sources)
    add_library(rag_${name} INTERFACE)
    target_link_libraries(rag_${name} INTERFACE ragd_flags ${ARG_LINK})
    return()
  endif()
  add_library(rag_${name} STATIC ${sources})
  target_link_libraries(rag_${name} PUBLIC ragd_flags ${ARG_LINK})
endfunction()

# CUDA is optional: found or not, everything builds; without it the CPU engines serve.
macro(ragd_find_cuda)
  set(RAGD_HAVE_CUDA OFF)
  if(NOT RAGD_CUDA STREQUAL "OFF")
    include(CheckLanguage)
    if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
      find_program(RAGD_NVCC nvcc HINTS /usr/local/cuda/bin)
      if(RAGD_NVCC)
        set(CMAKE_CUDA_COMPILER ${RAGD_NVCC})
      endif()
    endif()
    check_language(CUDA)
    if(CMAKE_CUDA_COMPILER)
      set(RAGD_HAVE_CUDA ON)
    elseif(RAGD_CUDA STREQUAL "ON")
      message(FATAL_ERROR "RAGD_CUDA=ON, but no CUDA compiler was found; set CUDACXX or RAGD_CUDA=OFF")
    endif()
  endif()
  message(STATUS "ragd: CUDA toolkit found: ${RAGD_HAVE_CUDA}")
endmacro()

# ragd_tests(MODULE LINK libs... [EXCLUDE regexes...]): every tests/MODULE/test_NAME.c becomes the ctest MODULE_NAME.
function(ragd_tests module)
  cmake_parse_arguments(ARG "" "" "LINK;EXCLUDE" ${ARGN})
  file(GLOB tests CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${module}/test_*.c)
  foreach(pattern IN LISTS ARG_EXCLUDE)
    list(FILTER tests EXCLUDE REGEX "${pattern}")
  endforeach()
  foreach(source IN LISTS tests)
    get_filename_component(base ${source} NAME_WE)
    string(REPLACE "test_" "${module}_" target ${base})
    add_executable(${target} ${source})
    target_link_libraries(${target} PRIVATE ${ARG_LINK} ragd_cmocka)
    add_test(NAME ${target} COMMAND ${target})
    set_tests_properties(${target} PROPERTIES LABELS ${module} TIMEOUT 900)
    # Libraries that are not instrumented: each line there has its reason.
    if(RAGD_SANITIZE STREQUAL "thread")
      set_tests_properties(${target} PROPERTIES TIMEOUT 1500 ENVIRONMENT
                           "TSAN_OPTIONS=suppressions=${CMAKE_SOURCE_DIR}/tests/tsan.supp")
    endif()
  endforeach()
endfunction()
