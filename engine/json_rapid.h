// RapidJSON as our two JSON files include it.
//
// Its empty stack adds zero to a null pointer (internal/stack.h, Reserve): harmless, but undefined behaviour by the
// letter, so the sanitizer stops there. The check is turned off for the code of the library only.
#pragma once

#if defined(__clang__)
#pragma clang attribute push(__attribute__((no_sanitize("pointer-overflow"))), apply_to = function)
#endif
#include <rapidjson/error/en.h>
#include <rapidjson/memorystream.h>
#include <rapidjson/prettywriter.h>
#include <rapidjson/reader.h>
#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>
#if defined(__clang__)
#pragma clang attribute pop
#endif
