// Names of the numbers in a Plan, for plan_dump.cc.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "sys/init/plan.h"

namespace gantry::plan {

/// How a step's number is written.
enum class Form : uint8_t {
  kNone,  ///< not used by the operation
  kNumber,
  kSigned,
  kHex,
  kOctal,
  kDevice,
  kClone,
  kMountFlags,
  kAttributes,
  kHookPoint,
  kMountIndex,
};

/// An operation and what goes before each of its fields; null or kNone: the field is not shown in the line.
struct OpNames {
  std::string_view name;
  const char* strings[3] = {};
  const char* numbers[4] = {};
  Form forms[4] = {};
};

struct BitName {
  uint64_t bit;
  std::string_view name;
};

/// A table entry for every operation; one named "?" for other numbers.
const OpNames& op_names(init::Op op);

std::span<const BitName> clone_names();
std::span<const BitName> mount_flag_names();
std::span<const BitName> header_flag_names();
std::span<const BitName> step_flag_names();
std::span<const BitName> mount_arg_names();
std::span<const BitName> identity_flag_names();

std::string_view kind_name(init::Kind kind);
std::string_view mount_kind_name(init::MountKind kind);

/// "a|b", with a hexadecimal rest for bits without a name; "0" for none.
std::string bit_names(std::span<const BitName> names, uint64_t bits);

/// MOUNT_ATTR_*, where access time is a field: its mask shows as "atime" alone.
std::string attribute_names(uint64_t bits);

/// "CAP_KILL CAP_CHOWN"; "none".
std::string capability_list(uint64_t mask);

}  // namespace gantry::plan
