# With GANTRY_PCH the libraries share one precompiled header, the unit tests another: half of a compiler's time for a
# file of ours goes into libstdc++ and Catch2. Only such headers belong here, none of our own. Presets for working on
# the code leave it off, so that a missing #include is noticed and one change does not rebuild everything.
function(gantry_precompile name)
  cmake_parse_arguments(arg "" "" "HEADERS;OPTIONS" ${ARGN})
  if(NOT GANTRY_PCH)
    return()
  endif()
  set(source ${CMAKE_BINARY_DIR}/pch/${name}.cc)
  if(NOT EXISTS ${source})
    file(WRITE ${source} "")
  endif()
  add_library(${name} OBJECT ${source})
  target_link_libraries(${name} PRIVATE gantry_flags)
  target_compile_options(${name} PRIVATE ${arg_OPTIONS})
  target_precompile_headers(${name} PRIVATE ${arg_HEADERS})
  if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    # A header without a time in it is the same in the next build, for the compiler cache.
    target_compile_options(${name} PRIVATE "SHELL:-Xclang -fno-pch-timestamp")
  endif()
endfunction()

# The target's files are compiled with the header made by gantry_precompile(name).
function(gantry_reuse target name)
  if(GANTRY_PCH)
    target_precompile_headers(${target} REUSE_FROM ${name})
    add_dependencies(${target} ${name})
  endif()
endfunction()

set(headers <algorithm> <array> <charconv> <coroutine> <cstdint> <expected> <functional> <map> <memory> <optional> <span>
  <string> <string_view> <utility> <vector>)
gantry_precompile(gantry_pch HEADERS ${headers})
if(GANTRY_SANITIZE)
  gantry_precompile(gantry_pch_flow HEADERS ${headers} OPTIONS -O0)
endif()

# For libraries of flow, not of parsing: coroutines take twice as long to compile when they are both sanitized and
# optimised, and it is not their speed that lets a fuzzer try more.
function(gantry_flow target)
  if(GANTRY_SANITIZE)
    target_compile_options(${target} PRIVATE -O0)
    gantry_reuse(${target} gantry_pch_flow)
  else()
    gantry_reuse(${target} gantry_pch)
  endif()
endfunction()
