# Libraries from Debian. What has a static archive is linked statically, so that a command loads only libc: every
# shared object costs start-up time. simdjson has none in Debian; scripts/static-deps builds one from its source
# package. Without it the shared one is used, and libstdc++ then stays shared too (two copies would clash).
find_package(PkgConfig REQUIRED)
pkg_check_modules(UV REQUIRED IMPORTED_TARGET libuv-static)
pkg_check_modules(SECCOMP REQUIRED libseccomp)
pkg_check_modules(CAP REQUIRED libcap)
find_path(RAPIDJSON_INCLUDE rapidjson/writer.h REQUIRED)
find_path(SPDLOG_INCLUDE spdlog/spdlog.h REQUIRED)

function(gantry_archive target archive)
  find_library(${target}_FILE NAMES ${archive} REQUIRED)
  add_library(${target} UNKNOWN IMPORTED)
  set_target_properties(${target} PROPERTIES IMPORTED_LOCATION ${${target}_FILE})
endfunction()

gantry_archive(dep_uv libuv_a.a)
gantry_archive(dep_seccomp libseccomp.a)
gantry_archive(dep_cap libcap.a)

set(GANTRY_DEPS ${CMAKE_SOURCE_DIR}/build/deps CACHE PATH "Where scripts/static-deps puts libsimdjson.a")
find_library(SIMDJSON_ARCHIVE NAMES libsimdjson.a PATHS ${GANTRY_DEPS}/lib NO_DEFAULT_PATH NO_CACHE)
add_library(dep_simdjson INTERFACE)
if(SIMDJSON_ARCHIVE)
  target_link_libraries(dep_simdjson INTERFACE ${SIMDJSON_ARCHIVE})
  # With libc linked in a command starts in two thirds of the time. What is lost: dlopen.
  string(COMPARE EQUAL "${CMAKE_BUILD_TYPE}" Release release)
  option(GANTRY_STATIC "Link everything into the program, libc too" ${release})
  if(NOT GANTRY_STATIC)
    target_link_options(gantry_flags INTERFACE -static-libstdc++ -static-libgcc)
  endif()
else()
  message(STATUS "No static simdjson in ${GANTRY_DEPS}: run scripts/static-deps for the faster binary")
  target_link_libraries(dep_simdjson INTERFACE simdjson)
endif()

# What ships is one static, position-independent file; sanitizers need their shared runtime.
set(GANTRY_STATIC_PROGRAM OFF)
if(SIMDJSON_ARCHIVE AND CMAKE_BUILD_TYPE STREQUAL "Release" AND NOT GANTRY_SANITIZE AND NOT GANTRY_FUZZ)
  set(GANTRY_STATIC_PROGRAM ON)
endif()
