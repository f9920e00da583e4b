// launch_rules --list | CASE ROOTFS: one launch rule of design and one process, so that a case can change what it
// likes.
#include <cstdio>
#include <cstring>

#include "rig.h"

int main(int argc, char** argv) {
  using namespace gantry::rules;
  if (argc == 2 && std::strcmp(argv[1], "--list") == 0) {
    for (const Case& known : cases()) std::puts(known.name);
    return 0;
  }
  if (argc != 3) {
    std::fprintf(stderr, "usage: launch_rules --list | CASE ROOTFS\n");
    return 2;
  }
  for (const Case& known : cases()) {
    if (std::strcmp(known.name, argv[1]) != 0) continue;
    try {
      known.run(argv[2]);
      return 0;
    } catch (const Failed& failure) {
      std::fprintf(stderr, "%s: %s\n", known.name, failure.text.c_str());
      return 1;
    } catch (const Skipped& reason) {
      std::fprintf(stderr, "%s: skipped: %s\n", known.name, reason.text.c_str());
      return 77;
    }
  }
  std::fprintf(stderr, "launch_rules: no case %s\n", argv[1]);
  return 2;
}
