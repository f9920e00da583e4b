#include "engine/plan_writer.h"

#include <catch2/catch.hpp>

#include "plan_support.h"

using namespace gantry;
using init::Op;

namespace {

init::PlanView open(const std::string& plan) {
  init::PlanView view = {};
  REQUIRE(init::open_plan(plan.data(), plan.size(), &view) == nullptr);
  return view;
}

}  // namespace

TEST_CASE("equal strings, lists and blobs share their place") {
  PlanWriter writer;
  const std::vector<std::string> list = {"a", "bc"};
  CHECK(writer.text("x").offset == writer.text("x").offset);
  CHECK(writer.text("x").offset != writer.text("y").offset);
  CHECK(writer.list(list).offset == writer.list(list).offset);
  const uint64_t number = 7;
  CHECK(writer.blob(number).offset == writer.blob(number).offset);
}

TEST_CASE("blobs are aligned even behind odd strings and equal lists") {
  PlanWriter writer;
  (void)writer.text("odd");
  CHECK(writer.blob(uint64_t{0x0061}).offset % 8 == 0);
  (void)writer.text("q");
  const std::vector<std::string> list = {"abc", "efg"};  // the same eight bytes as the number below
  const init::Ref listed = writer.list(list);
  uint64_t same = 0;
  __builtin_memcpy(&same, "abc\0efg\0", 8);
  CHECK(writer.blob(same).offset % 8 == 0);
  CHECK(listed.length == 8);
}

TEST_CASE("empty values: a text is present, text_or_absent, a list and bytes are absent") {
  PlanWriter writer;
  CHECK(writer.text("").offset != 0);
  CHECK(writer.text_or_absent("").offset == 0);
  CHECK(writer.list({}).offset == 0);
  CHECK(writer.bytes("", 0).offset == 0);
}

TEST_CASE("a finished plan opens and gives back what was written") {
  PlanWriter writer;
  writer.header().kind = init::Kind::kHook;
  writer.header().flags = init::kHeaderNoClone;
  const init::Ref name = writer.text("box");
  writer.step(Op::kHostname, "hostname").s[0] = name;
  writer.step(Op::kUmask).n[0] = 022;
  const auto plan = writer.finish();
  REQUIRE(plan);
  const init::PlanView view = open(*plan);
  REQUIRE(view.header->step_count == 2);
  CHECK(std::string(init::text(view, view.steps[0].s[0])) == "box");
  CHECK(std::string(view.arena + view.steps[0].label) == "hostname");
  CHECK(view.steps[1].label == 0);
  CHECK(view.steps[1].n[0] == 022);
  CHECK(plan->size() == view.header->size);
}

TEST_CASE("MT-03 a null byte in a string or list is an error that shows the text before it") {
  PlanWriter writer;
  (void)writer.text(std::string_view("ab\0c", 4));
  const auto plan = writer.finish();
  REQUIRE_FALSE(plan);
  CHECK(plan.error().text == "null byte in \"ab\"");
  PlanWriter other;
  const std::vector<std::string> list = {std::string("K=\0", 3)};
  (void)other.list(list);
  CHECK_FALSE(other.finish());
}

TEST_CASE("a plan larger than the limit is refused, not written") {
  PlanWriter writer;
  (void)writer.text(std::string(64u << 20, 'x'));
  const auto plan = writer.finish();
  REQUIRE_FALSE(plan);
  CHECK_THAT(plan.error().text, Catch::Contains("67108864"));
}
