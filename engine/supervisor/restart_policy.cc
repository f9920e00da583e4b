#include "engine/supervisor/api.h"
#include "sys/text.h"

namespace gantry::api {

Result<RestartPolicy> parse_restart_policy(std::string_view text) {
  constexpr std::string_view kCounted = "on-failure:";
  if (text == "no") return RestartPolicy{};
  if (text == "always") return RestartPolicy{Restart::kAlways, 0};
  if (text == "on-failure") return RestartPolicy{Restart::kOnFailure, 0};
  if (text.starts_with(kCounted)) {
    const auto retries = parse_number<unsigned>(text.substr(kCounted.size()));
    if (retries && *retries > 0) return RestartPolicy{Restart::kOnFailure, *retries};
  }
  return fail(cat("restart policy \"", text, "\": must be no, always, on-failure or on-failure:N with N from 1 on"));
}

std::string restart_policy_text(const RestartPolicy& policy) {
  switch (policy.when) {
    case Restart::kAlways:
      return "always";
    case Restart::kOnFailure:
      return policy.max_retries == 0 ? "on-failure" : cat("on-failure:", policy.max_retries);
    case Restart::kNo:
      break;
  }
  return "no";
}

}  // namespace gantry::api
