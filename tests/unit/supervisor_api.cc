// What a supervisor and its clients say: there and back again, and what hostile bytes get.
#include "engine/supervisor/api.h"

#include <catch2/catch.hpp>

#include "sys/text.h"

namespace gantry::api {
namespace {

std::string again(const Call& call) {
  const auto decoded = decode_call(encode_call(call));
  INFO((decoded ? "" : decoded.error().text));
  REQUIRE(decoded);
  CHECK(decoded->index() == call.index());
  return encode_call(*decoded);
}

std::string again(const Reply& reply) {
  const auto decoded = decode_reply(encode_reply(reply), reply.index());
  INFO((decoded ? "" : decoded.error().text));
  REQUIRE(decoded);
  return encode_reply(*decoded);
}

std::string refusal(std::string_view message) {
  const auto decoded = decode_call(message);
  return decoded ? "accepted" : decoded.error().text;
}

std::string reply_refusal(std::string_view message, size_t index) {
  const auto decoded = decode_reply(message, index);
  return decoded ? "accepted" : decoded.error().text;
}

const Up kUp{"web-1", "/b/web", "/r", {Restart::kOnFailure, 3}, "cri,size=1m", "/run/netns/x"};

TEST_CASE("a call looks like Varlink's", "[supervisor]") {
  CHECK(
      encode_call(kUp) ==
      R"({"method":"gantry.supervisor.Up","parameters":{"id":"web-1","bundle":"/b/web","rootfs":"/r","restart":"on-failure:3",)"
      R"("log":"cri,size=1m","netns":"/run/netns/x"}})");
  CHECK(encode_call(Status{}) == R"({"method":"gantry.supervisor.Status","parameters":{}})");
  CHECK(encode_reply(Empty{}) == R"({"parameters":{}})");
  CHECK(encode_error(Error{"no \"x\"", 2}) ==
        R"({"error":"gantry.supervisor.Failed","parameters":{"message":"no \"x\"","errno":2}})");
}

TEST_CASE("every call comes back as it was sent", "[supervisor]") {
  const std::vector<Call> calls{
      kUp,
      Wait{"a"},
      Stop{"a", 7},
      Stop{"a", std::nullopt},
      Remove{"a", true, false},
      Signal{"a", 9, true},
      Pause{"a"},
      Resume{"a"},
      ReopenLog{"a"},
      List{"web-1"},
      Status{},
      Up{"", "", "", {Restart::kAlways, 0}, "", ""},
  };
  for (const Call& call : calls) {
    INFO(method_name(call));
    CHECK(again(call) == encode_call(call));
  }
  const auto up = decode_call(encode_call(kUp));
  REQUIRE(up);
  CHECK(std::get<Up>(*up).restart.max_retries == 3);
  CHECK(std::get<Up>(*up).netns == "/run/netns/x");
  CHECK(std::get<Stop>(decode_call(encode_call(Stop{"a", 7})).value()).timeout_seconds == 7U);
  CHECK_FALSE(std::get<Stop>(decode_call(encode_call(Stop{"a", std::nullopt})).value()).timeout_seconds);
}

TEST_CASE("every reply comes back as it was sent", "[supervisor]") {
  Entry entry{"web-1", "/b", "stopped", "always", "/l", "2026-01-01T00:00:00Z", 12, 3, true, Exit{true, 7, 0, "then"}};
  Entry plain = entry;
  plain.exit.reset();
  const std::vector<Reply> replies{
      Empty{},
      UpReply{"web-1", 4711},
      WaitReply{"web-1", Exit{true, 0, 9, "2026-01-01T00:00:00Z"}},
      ListReply{{entry, plain}, true},
      StatusReply{"0.1.0", "/run/gantry", "/var/lib/gantry", 2, 1, UINT64_MAX, 4, 5},
  };
  for (const Reply& reply : replies) CHECK(again(reply) == encode_reply(reply));
  const auto wait = decode_reply(encode_reply(replies[2]), 2);
  REQUIRE(wait);
  CHECK(std::get<WaitReply>(*wait).exit.shell() == 137);
}

TEST_CASE("every call has the reply that its decoder expects", "[supervisor]") {
  CHECK(reply_index(kUp) == Reply(UpReply{}).index());
  CHECK(reply_index(Wait{}) == Reply(WaitReply{}).index());
  CHECK(reply_index(List{}) == Reply(ListReply{}).index());
  CHECK(reply_index(Status{}) == Reply(StatusReply{}).index());
  CHECK(reply_index(Stop{}) == Reply(Empty{}).index());
}

TEST_CASE("an error answer is an error again", "[supervisor]") {
  const auto answer = decode_reply(encode_error(Error{"container x: no space left on device", ENOSPC}), 1);
  REQUIRE_FALSE(answer);
  CHECK(answer.error().text == "container x: no space left on device");
  CHECK(answer.error().sys_errno == ENOSPC);
  CHECK(reply_refusal(R"({"error":"org.varlink.service.MethodNotFound","parameters":{"method":"x"}})", 0) ==
        "the supervisor answered org.varlink.service.MethodNotFound");
  CHECK(reply_refusal(R"({"error":"x","parameters":{"message":"m","errno":1e9}})", 0) == "m");
  CHECK(encode_error(Error{std::string(size_t{2} << 20, 'x'), 0}).size() < kMaxMessage);
}

TEST_CASE("what is wrong in a call is named", "[supervisor]") {
  constexpr std::string_view kUpWith = R"({"method":"gantry.supervisor.Up","parameters":)";
  CHECK(refusal("") == "call: EOF: the document is empty");
  CHECK(refusal("[]") == "call: must be an object");
  CHECK(refusal("{}") == "call: method is missing");
  CHECK(refusal(R"({"method":7})") == "call: method: expected a string, got 7");
  CHECK(refusal(R"({"method":"gantry.supervisor.Upp"})") == R"(call: method: no such method: "gantry.supervisor.Upp")");
  CHECK(refusal(R"({"method":"gantry.supervisorXUp"})") == R"(call: method: no such method: "gantry.supervisorXUp")");
  CHECK(refusal(R"({"method":"Up"})") == R"(call: method: no such method: "Up")");
  CHECK(refusal(R"({"method":"gantry.supervisor.Up"})") == "call: parameters.id is missing");
  CHECK(refusal(cat(kUpWith, "7}")) == "call: parameters: must be an object");
  CHECK(refusal(cat(kUpWith, R"({"id":"a"}})")) == "call: parameters.bundle is missing");
  CHECK(refusal(cat(kUpWith, R"({"id":["a"],"bundle":"/b","rootfs":"/r"}})")) ==
        R"(call: parameters.id: expected a string, got an array)");
  CHECK(refusal(cat(kUpWith, R"({"id":"a\u0000b","bundle":"/b","rootfs":"/r"}})")) ==
        "call: parameters.id: must not contain a NUL byte");
  CHECK(
      refusal(cat(kUpWith, R"({"id":"a","bundle":"/b","rootfs":"/r","restart":"maybe"}})")) ==
      R"(call: parameters.restart: restart policy "maybe": must be no, always, on-failure or on-failure:N with N from 1 on)");
  CHECK(refusal(R"({"method":"gantry.supervisor.Stop","parameters":{"id":"a","timeout_seconds":-1}})") ==
        "call: parameters.timeout_seconds: expected a whole number from 0 to 4294967295, got -1");
  CHECK(refusal(R"({"method":"gantry.supervisor.Signal","parameters":{"id":"a"}})") ==
        "call: parameters.signo is missing");
  CHECK(refusal(std::string(kMaxMessage, ' ')) == "message: 1048576 bytes; at most 1048576 are accepted");
}

TEST_CASE("members of a newer client are ignored", "[supervisor]") {
  CHECK(refusal(R"({"method":"gantry.supervisor.Wait","oneway":true,"parameters":{"id":"a","new":[1]}})") ==
        "accepted");
  CHECK(refusal(R"({"method":"gantry.supervisor.Status","parameters":null})") == "accepted");
}

TEST_CASE("what is wrong in a reply is named", "[supervisor]") {
  CHECK(reply_refusal("{}", 0) == "accepted");
  CHECK(reply_refusal("{}", 1) == "reply: parameters.id is missing");
  CHECK(reply_refusal(R"({"parameters":{"containers":[{"id":1}]}})", 3) ==
        "reply: parameters.containers[0].id: expected a string, got 1");
  CHECK(reply_refusal("{}", 17) == "reply: no reply has the index 17");
}

TEST_CASE("a list that no message holds is cut and says so", "[supervisor]") {
  ListReply list;
  for (int i = 0; i < 10'000; ++i) {
    Entry& entry = list.containers.emplace_back();
    entry.id = cat("web-", i);
    entry.bundle = std::string(200, 'b');
  }
  const std::string text = encode_reply(list);
  CHECK(text.size() < kMaxMessage);
  const auto decoded = decode_reply(text, 3);
  REQUIRE(decoded);
  const auto& part = std::get<ListReply>(*decoded);
  CHECK(part.more);
  CHECK(part.containers.size() > 1000);
  CHECK(part.containers.back().id == cat("web-", part.containers.size() - 1));
}

TEST_CASE("restart policies", "[supervisor]") {
  for (const std::string_view text : {"no", "always", "on-failure", "on-failure:5"}) {
    const auto policy = parse_restart_policy(text);
    REQUIRE(policy);
    CHECK(restart_policy_text(*policy) == text);
  }
  for (const std::string_view text : {"", "yes", "on-failure:", "on-failure:0", "on-failure:-1", "on-failure:5x", "No"})
    CHECK_FALSE(parse_restart_policy(text));
}

}  // namespace
}  // namespace gantry::api
