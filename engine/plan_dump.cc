#include "engine/plan_dump.h"

#include <linux/filter.h>
#include <linux/mount.h>
#include <sys/sysmacros.h>

#include <cstring>

#include "engine/plan_dump_names.h"
#include "sys/text.h"

namespace gantry {

namespace {

using init::PlanView;
using init::Ref;
using plan::Form;

std::string in_base(uint64_t value, int base, std::string_view prefix) {
  char digits[32];
  const auto end = std::to_chars(digits, digits + sizeof digits, value, base);
  return std::string(prefix).append(digits, end.ptr);
}

std::string form_value(Form form, uint64_t value) {
  switch (form) {
    case Form::kOctal:
      return in_base(value, 8, "0");
    case Form::kDevice:
      return cat(major(value), ":", minor(value));
    case Form::kClone:
      return plan::bit_names(plan::clone_names(), value);
    case Form::kMountFlags:
      return plan::bit_names(plan::mount_flag_names(), value);
    case Form::kAttributes:
      return plan::attribute_names(value);
    case Form::kHookPoint:
      return value == static_cast<uint64_t>(init::HookPoint::kRuntime) ? "runtime" : "createContainer";
    case Form::kMountIndex:
      return value == ~uint64_t{0} ? "/" : cat("kept ", value);
    case Form::kHex:
      return in_base(value, 16, "0x");
    case Form::kSigned:
      return cat(static_cast<int64_t>(value));
    case Form::kNumber:
    case Form::kNone:
      break;
  }
  return cat(value);
}

/// In quotes, with line ends and other control characters escaped.
std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '\n') {
      out += "\\n";
    } else if (static_cast<unsigned char>(c) < 0x20 || c == '"' || c == '\\') {
      out += "\\x";
      out += "0123456789abcdef"[static_cast<unsigned char>(c) >> 4];
      out += "0123456789abcdef"[c & 15];
    } else {
      out += c;
    }
  }
  return out + "\"";
}

/// Writes the lines of one Plan.
class Dumper {
 public:
  explicit Dumper(const PlanView& plan) : plan_(plan) {}

  std::string run() {
    header();
    for (uint32_t i = 0; i < plan_.header->join_count; ++i) join(plan_.joins[i]);
    for (uint32_t i = 0; i < plan_.header->step_count; ++i) step(plan_.steps[i]);
    return std::move(out_);
  }

 private:
  std::string_view text(Ref ref) const { return {plan_.arena + ref.offset, ref.length}; }
  std::string string(Ref ref) const { return ref.offset == 0 ? "absent" : quoted(text(ref)); }

  template <class T>
  T blob(Ref ref, size_t index = 0) const {
    T value;
    std::memcpy(&value, plan_.arena + ref.offset + index * sizeof(T), sizeof(T));
    return value;
  }

  void line(std::string_view name, std::string_view value) { out_ += cat("    ", name, " ", value, "\n"); }
  void number(std::string_view name, Form form, uint64_t value) {
    if (value != 0) line(name, form_value(form, value));
  }
  void optional(std::string_view name, Ref ref) {
    if (ref.offset != 0) line(name, string(ref));
  }

  void list(std::string_view name, Ref ref, uint64_t count) {
    std::string all;
    const char* at = plan_.arena + ref.offset;
    for (uint64_t i = 0; i < count; ++i) {
      const std::string_view value(at);
      all += cat(i == 0 ? "" : " ", quoted(value));
      at += value.size() + 1;
    }
    line(name, all.empty() ? "none" : all);
  }

  void header() {
    const init::Header& h = *plan_.header;
    out_ += cat("plan ", plan::kind_name(h.kind), ", version ", h.version, ", ", h.slot_count, " slots\n");
    if (h.flags != 0) out_ += cat("flags ", plan::bit_names(plan::header_flag_names(), h.flags), "\n");
    if ((h.flags & init::kHeaderOomScore) != 0) out_ += cat("oom_score_adj ", h.oom_score_adj, "\n");
    if (h.clone_flags != 0) out_ += cat("clone ", form_value(Form::kClone, h.clone_flags), "\n");
    if (h.cgroup_slot != init::kNoSlot) out_ += cat("into cgroup of slot ", h.cgroup_slot, "\n");
    if (h.cgroup_file_count != 0) list("write 0 to", h.cgroup_files, h.cgroup_file_count);
    if (h.target_slot != init::kNoSlot) {
      out_ += cat("enter of slot ", h.target_slot, ": ", form_value(Form::kClone, h.target_flags), "\n");
    }
  }

  void join(const init::Join& join) {
    out_ += cat("join ", form_value(Form::kClone, join.clone_flag), " ", string(join.path), "  # ",
                plan_.arena + join.label, "\n");
  }

  void step(const init::Step& step) {
    const plan::OpNames& names = plan::op_names(step.op);
    std::string head(names.name);
    for (size_t i = 0; i < 3; ++i) {
      if (names.strings[i] != nullptr) head += cat(" ", names.strings[i], string(step.s[i]));
    }
    for (size_t i = 0; i < 4; ++i) {
      if (names.forms[i] != Form::kNone) head += cat(" ", names.numbers[i], form_value(names.forms[i], step.n[i]));
    }
    if (step.flags != 0) head += cat(" [", plan::bit_names(plan::step_flag_names(), step.flags), "]");
    if (step.label != 0) head += cat("  # ", plan_.arena + step.label);
    out_ += head + "\n";
    details(step);
  }

  void details(const init::Step& step) {
    switch (step.op) {
      case init::Op::kMount:
        return mount(blob<init::MountArgs>(step.s[2]));
      case init::Op::kIdentity:
        return identity(blob<init::IdentityArgs>(step.s[0]));
      case init::Op::kSeccomp:
        return line("filter", cat(step.s[0].length / sizeof(sock_filter), " instructions"));
      case init::Op::kStartHooks:
        for (uint64_t i = 0; i < step.n[0]; ++i) hook(blob<init::HookArgs>(step.s[0], i));
        return;
      case init::Op::kExec:
        list("argv", step.s[0], step.n[0]);
        list("env", step.s[1], step.n[1]);
        if ((step.flags & init::kStepNeedHome) != 0) line("HOME of uid", cat(step.n[2]));
        return optional("path", step.s[2]);
      default:
        return;
    }
  }

  void mount(const init::MountArgs& args) {
    line("kind", plan::mount_kind_name(args.kind));
    optional("type", args.fstype);
    if (args.flags != 0) line("flags", plan::bit_names(plan::mount_arg_names(), args.flags));
    number("set", Form::kAttributes, args.attr_set);
    number("clear", Form::kAttributes, args.attr_clear);
    number("set recursively", Form::kAttributes, args.rec_set);
    number("clear recursively", Form::kAttributes, args.rec_clear);
    number("propagation", Form::kMountFlags, args.propagation);
    number("superblock", Form::kMountFlags, args.superblock);
    if (args.data_count != 0) list("data", args.data, args.data_count);
    if (args.keep != 0) line("keep", cat(args.keep - 1));
    optional("uid map", args.uid_map);
    optional("gid map", args.gid_map);
    optional("fallback", args.fallback);
  }

  void identity(const init::IdentityArgs& args) {
    line("user", cat(args.uid, ":", args.gid));
    if (args.flags != 0) line("flags", plan::bit_names(plan::identity_flag_names(), args.flags));
    std::string groups;
    for (uint32_t i = 0; i < args.group_count; ++i) groups += cat(i == 0 ? "" : " ", blob<uint32_t>(args.groups, i));
    if (!groups.empty()) line("groups", groups);
    line("bounding", plan::capability_list(args.bounding));
    line("effective", plan::capability_list(args.effective));
    line("inheritable", plan::capability_list(args.inheritable));
    line("permitted", plan::capability_list(args.permitted));
    line("ambient", plan::capability_list(args.ambient));
  }

  void hook(const init::HookArgs& args) {
    line(cat("hook ", args.index), string(args.path));
    list("  argv", args.argv, args.argc);
    list("  env", args.env, args.envc);
    optional("  state", args.state);
    number("  timeout ms", Form::kNumber, args.timeout_ms);
  }

  const PlanView& plan_;
  std::string out_;
};

}  // namespace

std::string_view op_name(init::Op op) {
  return plan::op_names(op).name;
}

Result<std::string> dump_plan(std::string_view plan) {
  PlanView view = {};
  if (const char* wrong = init::open_plan(plan.data(), plan.size(), &view)) return fail(cat("not a plan: ", wrong));
  return Dumper(view).run();
}

}  // namespace gantry
