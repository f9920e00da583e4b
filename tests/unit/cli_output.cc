// What commands print (SL-01, SL-05, SL-09), byte for byte.
#include "cli/output.h"

#include <catch2/catch.hpp>

#include "cli/globals.h"
#include "cli/help.h"

namespace gantry::cli {
namespace {

ContainerView example() {
  ContainerView view;
  view.record.id = "web";
  view.record.bundle = "/b";
  view.record.rootfs = "/b/rootfs";
  view.record.created = "2026-07-14T10:00:00.123456789Z";
  view.record.annotations = {{"z", "1"}, {"a", "x\"y"}};
  view.status = Status::kRunning;
  view.pid = 42;
  view.owner = "root";
  return view;
}

TEST_CASE("SL-01 state") {
  CHECK(state_json(example()) == R"({
  "ociVersion": "1.3.0",
  "id": "web",
  "pid": 42,
  "status": "running",
  "bundle": "/b",
  "rootfs": "/b/rootfs",
  "created": "2026-07-14T10:00:00.123456789Z",
  "annotations": {
    "a": "x\"y",
    "z": "1"
  },
  "owner": ""
})");
}

TEST_CASE("SL-05 list as JSON") {
  CHECK(list_json({}) == "null\n");
  ContainerView view = example();
  view.record.annotations.clear();
  CHECK(list_json({view}) ==
        R"([{"ociVersion":"1.3.0","id":"web","pid":42,"status":"running","bundle":"/b","rootfs":"/b/rootfs",)"
        R"("created":"2026-07-14T10:00:00.123456789Z","owner":"root"}])"
        "\n");
}

TEST_CASE("SL-05 list as a table") {
  CHECK(list_table({}) == "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n");
  CHECK(list_table({example()}) ==
        "ID          PID         STATUS      BUNDLE      CREATED                          OWNER\n"
        "web         42          running     /b          2026-07-14T10:00:00.123456789Z   root\n");
  CHECK(list_ids({example(), example()}) == "web\nweb\n");
}

TEST_CASE("SL-09 ps") {
  CHECK(pids_json({}) == "null\n");
  CHECK(pids_json({985, 1001}) == "[985,1001]\n");
  const std::string_view listing = "UID   PID  PPID CMD\nroot    1     0 init\nroot   12     1 sh -c PID\n\n";
  CHECK(filter_ps(listing, {12}) == "UID   PID  PPID CMD\nroot   12     1 sh -c PID\n");
  CHECK(filter_ps(listing, {}) == "UID   PID  PPID CMD\n");
  CHECK(filter_ps("USER CMD\nroot x\n", {1}).error().text == "couldn't find PID field in ps output");
  CHECK(filter_ps("", {1}).error().text == "couldn't find PID field in ps output");
  CHECK_FALSE(filter_ps("PID\nx\n", {1}));
}

TEST_CASE("GF-04 paths of --root") {
  CHECK(clean_path("/a/b", "/") == "/a/b");
  CHECK(clean_path("", "/cur") == "/cur");
  CHECK(clean_path("x", "/cur") == "/cur/x");
  CHECK(clean_path("../x//y/./z/", "/cur") == "/x/y/z");
  CHECK(clean_path("/a/../..", "/cur") == "/");
  CHECK(clean_path("/...", "/cur") == "/...");
}

TEST_CASE("CL-05 every help begins with the name") {
  CHECK(program_help("runc").starts_with("NAME:\n   runc - "));
  for (const Command* command : all_commands()) {
    const std::string help = command_help("runc", *command);
    const std::string start =
        "NAME:\n   runc " + std::string(command->name) + " - " + std::string(command->summary) + "\n";
    CHECK(help.starts_with(start));
    CHECK(help.find("\n\n\n") == std::string::npos);
    CHECK((command->refused || command->run != nullptr));
    for (const Flag& flag : command->flags)
      CHECK((flag.hidden || help.find("--" + std::string(flag.name)) != std::string::npos));
  }
}

TEST_CASE("commands are found by name; what is not supported is refused, not unknown") {
  for (const std::string_view name : {"create", "start", "run", "state", "list", "ps", "kill", "delete", "exec",
                                      "pause", "resume", "update", "spec", "features", "version", "help", "h"}) {
    INFO(name);
    REQUIRE(find_command(name) != nullptr);
    CHECK_FALSE(find_command(name)->refused);
  }
  for (const std::string_view name : {"checkpoint", "restore", "events"}) {
    REQUIRE(find_command(name) != nullptr);
    CHECK(find_command(name)->refused);
  }
  for (const std::string_view name : {"", "foo", "init", "Create"}) CHECK(find_command(name) == nullptr);
}

}  // namespace
}  // namespace gantry::cli
