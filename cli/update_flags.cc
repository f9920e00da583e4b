#include "cli/update_flags.h"

#include "cli/values.h"
#include "engine/log.h"
#include "sys/text.h"

namespace gantry::cli {

namespace {

// Empty texts count as not given: callers fill in templates.
template <class T, class Parse>
Result<> take(const Parsed& flags, std::string_view name, Parse parse, std::optional<T>& out) {
  const std::string& text = flags.text(name);
  if (text.empty()) return {};
  auto value = parse(text);
  if (!value) return forward(std::move(value), cat("invalid value for ", name));
  out = *value;
  return {};
}

void take_text(const Parsed& flags, std::string_view name, std::optional<std::string>& out) {
  if (!flags.text(name).empty()) out = flags.text(name);
}

Result<> take_cpu(const Parsed& flags, CpuResources& cpu) {
  GANTRY_TRY(take(flags, "cpu-period", parse_uint, cpu.period));
  GANTRY_TRY(take(flags, "cpu-rt-period", parse_uint, cpu.realtime_period));
  GANTRY_TRY(take(flags, "cpu-share", parse_uint, cpu.shares));
  GANTRY_TRY(take(flags, "cpu-burst", parse_uint, cpu.burst));
  GANTRY_TRY(take(flags, "cpu-quota", parse_int, cpu.quota));
  GANTRY_TRY(take(flags, "cpu-rt-runtime", parse_int, cpu.realtime_runtime));
  GANTRY_TRY(take(flags, "cpu-idle", parse_int, cpu.idle));
  take_text(flags, "cpuset-cpus", cpu.cpus);
  take_text(flags, "cpuset-mems", cpu.mems);
  return {};
}

}  // namespace

Result<Resources> update_resources(const Parsed& flags) {
  Resources resources;
  if (const auto weight = flags.number("blkio-weight").value_or(0); weight != 0) {
    if (weight < 0 || weight > UINT16_MAX)
      return fail(cat("invalid value for blkio-weight: ", weight, " is not in 10..1000"));
    resources.blkio.weight = static_cast<uint16_t>(weight);
  }
  GANTRY_TRY(take_cpu(flags, resources.cpu));
  GANTRY_TRY(take(flags, "memory", parse_size, resources.memory.limit));
  GANTRY_TRY(take(flags, "memory-reservation", parse_size, resources.memory.reservation));
  GANTRY_TRY(take(flags, "memory-swap", parse_size, resources.memory.swap));
  if (flags.given("pids-limit")) resources.pids_limit = flags.number("pids-limit");
  if (flags.given("kernel-memory") || flags.given("kernel-memory-tcp"))
    log_warning("Kernel memory settings are ignored and will be removed");
  if (!flags.text("l3-cache-schema").empty()) return fail("Intel RDT/CAT: l3 cache schema is not enabled");
  if (!flags.text("mem-bw-schema").empty()) return fail("Intel RDT/MBA: memory bandwidth schema is not enabled");
  return resources;
}

}  // namespace gantry::cli
