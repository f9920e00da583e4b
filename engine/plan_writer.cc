#include "engine/plan_writer.h"

#include "sys/text.h"

namespace gantry {

namespace {

constexpr size_t kAlignment = 8;
// Larger blobs are unique (a seccomp filter): looking for an equal one would only copy them once more.
constexpr size_t kShareBelow = 512;

static_assert(sizeof(init::Header) % kAlignment == 0 && sizeof(init::Join) % kAlignment == 0 &&
              sizeof(init::Step) % kAlignment == 0);

}  // namespace

PlanWriter::PlanWriter() {
  header_.magic = init::kPlanMagic;
  header_.version = init::kPlanVersion;
  header_.cgroup_slot = init::kNoSlot;
  header_.target_slot = init::kNoSlot;
  arena_.assign(kAlignment, '\0');  // offset 0 means absent, so nothing may live there
}

uint32_t PlanWriter::append(std::string_view raw, size_t alignment) {
  const size_t start = (arena_.size() + alignment - 1) / alignment * alignment;
  if (start + raw.size() >= init::kPlanMaxSize) {
    if (problem_.empty()) problem_ = cat("the configuration needs a plan of more than ", init::kPlanMaxSize, " bytes");
    return 0;
  }
  arena_.resize(start, '\0');
  arena_.append(raw);
  return static_cast<uint32_t>(start);
}

init::Ref PlanWriter::text(std::string_view value) {
  if (value.find('\0') != std::string_view::npos && problem_.empty()) {
    problem_ = cat("null byte in \"", value.substr(0, value.find('\0')), "\"");
  }
  const auto length = static_cast<uint32_t>(value.size());
  if (const auto known = strings_.find(value); known != strings_.end()) return {known->second, length};
  std::string terminated(value);
  terminated.push_back('\0');
  const uint32_t offset = append(terminated, 1);
  strings_.emplace(value, offset);
  return {offset, length};
}

init::Ref PlanWriter::text_or_absent(std::string_view value) {
  return value.empty() ? init::Ref{} : text(value);
}

init::Ref PlanWriter::list(std::span<const std::string> values) {
  if (values.empty()) return {};
  std::string joined;
  for (const std::string& value : values) {
    if (value.find('\0') != std::string::npos && problem_.empty()) {
      problem_ = cat("null byte in \"", value.c_str(), "\"");
    }
    joined.append(value).push_back('\0');
  }
  if (const auto known = blobs_.find(joined); known != blobs_.end()) {
    return {known->second, static_cast<uint32_t>(joined.size())};
  }
  const uint32_t offset = append(joined, 1);
  const auto length = static_cast<uint32_t>(joined.size());
  blobs_.emplace(std::move(joined), offset);
  return {offset, length};
}

init::Ref PlanWriter::bytes(const void* data, size_t size) {
  if (size == 0) return {};
  const std::string_view raw(static_cast<const char*>(data), size);
  const auto length = static_cast<uint32_t>(size);
  if (size >= kShareBelow) return {append(raw, kAlignment), length};
  const auto known = blobs_.find(raw);
  if (known != blobs_.end() && known->second % kAlignment == 0) return {known->second, length};
  const uint32_t offset = append(raw, kAlignment);
  blobs_.insert_or_assign(std::string(raw), offset);
  return {offset, length};
}

init::Step& PlanWriter::step(init::Op op, std::string_view label) {
  init::Step made = {};
  made.op = op;
  made.label = text_or_absent(label).offset;
  return steps_.emplace_back(made);
}

void PlanWriter::join(uint64_t clone_flag, std::string_view label, std::string_view path) {
  init::Join made = {};
  made.clone_flag = static_cast<uint32_t>(clone_flag);
  made.label = text(label).offset;
  made.path = text(path);
  joins_.push_back(made);
}

Result<std::string> PlanWriter::finish() {
  arena_.resize((arena_.size() + kAlignment - 1) / kAlignment * kAlignment, '\0');
  const size_t joins_size = joins_.size() * sizeof(init::Join);
  const size_t steps_size = steps_.size() * sizeof(init::Step);
  const size_t total = sizeof(init::Header) + joins_size + steps_size + arena_.size();
  if (total > init::kPlanMaxSize && problem_.empty()) {
    problem_ =
        cat("the configuration needs a plan of ", total, " bytes, at most ", init::kPlanMaxSize, " are possible");
  }
  if (!problem_.empty()) return fail(std::move(problem_));

  header_.size = static_cast<uint32_t>(total);
  header_.join_offset = sizeof(init::Header);
  header_.join_count = static_cast<uint32_t>(joins_.size());
  header_.step_offset = static_cast<uint32_t>(header_.join_offset + joins_size);
  header_.step_count = static_cast<uint32_t>(steps_.size());
  header_.arena_offset = static_cast<uint32_t>(header_.step_offset + steps_size);
  header_.arena_size = static_cast<uint32_t>(arena_.size());

  std::string out;
  out.reserve(total);
  out.append(reinterpret_cast<const char*>(&header_), sizeof header_);
  out.append(reinterpret_cast<const char*>(joins_.data()), joins_size);
  out.append(reinterpret_cast<const char*>(steps_.data()), steps_size);
  out.append(arena_);
  return out;
}

}  // namespace gantry
