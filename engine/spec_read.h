// What the files of the spec parser share: readers of maps and words, and the readers each file gives the others.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "engine/json.h"
#include "engine/spec.h"

namespace gantry {

/// An object whose values are strings, as ordered pairs; the last of duplicate keys wins and keeps its place.
Result<> read_pairs(const json::Value& value, std::vector<std::pair<std::string, std::string>>& out);
Result<> read_map(const json::Value& value, std::map<std::string, std::string>& out);

/// The value as a word of a table: `unknown` is the start of the error and `tail` its end, around the word.
template <class Find, class T>
Result<> read_word(const json::Value& value, Find&& find, T& out, std::string_view unknown,
                   std::string_view tail = {}) {
  GANTRY_LET(const std::string_view word, value.string());
  const auto found = find(word);
  if (!found) return value.fail(std::string(unknown).append(json::one_line(word)).append(tail));
  out = *found;
  return {};
}

// Found by json::read's templates through argument-dependent lookup.
Result<> read(const json::Value& value, IdMapping& out);
Result<> read(const json::Value& value, Process& out);
Result<> read(const json::Value& value, Mount& out);
Result<> read(const json::Value& value, Hook& out);
Result<> read(const json::Value& value, Device& out);
Result<> read(const json::Value& value, Resources& out);

/// linux of config.json.
Result<> read_linux(const json::Value& value, Spec& out);

/// linux.seccomp; leaves out.seccomp absent when the object asks for no filter.
Result<> read_seccomp(const json::Value& value, Spec& out);

}  // namespace gantry
