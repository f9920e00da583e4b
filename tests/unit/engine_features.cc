#include "engine/features.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <string>

#include "engine/json.h"
#include "engine/mount_options.h"

namespace gantry {
namespace {

/// The value at a path of keys, shown as an error would show it ("true", "\"1.0.0\"").
std::string at(const json::Value& value, std::initializer_list<std::string_view> keys) {
  std::string shown = value.shown();
  if (keys.size() == 0) return shown;
  shown = "nothing";
  const auto walked = value.each_member([&](std::string_view key, const json::Value& member) -> Result<> {
    if (key != *keys.begin()) return {};
    if (keys.size() == 1) shown = member.shown();
    if (keys.size() == 2) shown = at(member, {keys.begin()[1]});
    if (keys.size() == 3) shown = at(member, {keys.begin()[1], keys.begin()[2]});
    if (keys.size() == 4) shown = at(member, {keys.begin()[1], keys.begin()[2], keys.begin()[3]});
    return {};
  });
  REQUIRE(walked);
  return shown;
}

TEST_CASE("FE-01 to FE-12 features say what this build does") {
  const std::string text = features_json({.runc_version = "1.5.1", .commit = "abc"});
  CHECK(text.starts_with("{\n    \"ociVersionMin\": \"1.0.0\",\n    \"ociVersionMax\": \"1.3.0\""));
  const auto document = json::Document::parse(text, "features");
  REQUIRE(document);
  const json::Value root = document->root();
  CHECK(at(root, {"linux", "cgroup", "v1"}) == "true");
  CHECK(at(root, {"linux", "cgroup", "v2"}) == "true");
  CHECK(at(root, {"linux", "cgroup", "systemd"}) == "false");
  CHECK(at(root, {"linux", "seccomp", "enabled"}) == "true");
  CHECK(at(root, {"linux", "apparmor", "enabled"}) == "true");
  CHECK(at(root, {"linux", "selinux", "enabled"}) == "false");
  CHECK(at(root, {"linux", "intelRdt", "enabled"}) == "false");
  CHECK(at(root, {"linux", "netDevices", "enabled"}) == "false");
  CHECK(at(root, {"linux", "mountExtensions", "idmap", "enabled"}) == "true");
  CHECK(at(root, {"annotations", "org.opencontainers.runc.version"}) == "\"1.5.1\"");
  CHECK(at(root, {"annotations", "org.opencontainers.runc.checkpoint.enabled"}) == "\"false\"");
  CHECK_THAT(text, Catch::Contains("\"SCMP_ARCH_X86_64\"") && Catch::Contains("\"rro\"") &&
                       Catch::Contains("\"time\"") && Catch::Contains("\"CAP_CHECKPOINT_RESTORE\"") &&
                       Catch::Contains("\"startContainer\""));
  CHECK_THAT(text, !Catch::Contains("\"idmap\",") && !Catch::Contains("\"ridmap\""));
}

TEST_CASE("FE-03 every listed mount option is one the parser knows") {
  for (const std::string_view name : mount_option_names()) {
    Mount mount;
    REQUIRE(apply_mount_option(name, mount));
    CHECK(mount.data.empty());
  }
}

TEST_CASE("FE-14 features are the same each time") {
  CHECK(features_json({}) == features_json({}));
  CHECK_THAT(features_json({}), !Catch::Contains("org.opencontainers.runc.version"));
}

}  // namespace
}  // namespace gantry
