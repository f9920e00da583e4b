#include "io_support.h"

#include <cstdlib>
#include <filesystem>

namespace gantry::io::test {

Directory::Directory() {
  char name[] = "/tmp/gantry-unit-XXXXXX";
  REQUIRE(::mkdtemp(name) != nullptr);
  path_ = name;
}

Directory::~Directory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string Directory::path(std::string_view name) const {
  return cat(path_, "/", name);
}

}  // namespace gantry::io::test
