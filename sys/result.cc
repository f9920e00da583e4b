#include "sys/result.h"

#include <cctype>
#include <cerrno>
#include <cstring>

namespace gantry {

std::string_view errno_text(int err) {
  // All kernels that we support have all calls that we make.
  if (err == ENOSYS) return "function not implemented (the kernel is older than 5.14, or a seccomp filter hides it)";
  // strerrordesc_np is untranslated and static; only its first letter differs from what Go programs print.
  thread_local std::string text;
  const char* desc = strerrordesc_np(err);
  text = desc != nullptr ? desc : "errno " + std::to_string(err);
  if (text.size() > 1 && std::islower(static_cast<unsigned char>(text[1])) != 0)
    text[0] = static_cast<char>(std::tolower(static_cast<unsigned char>(text[0])));
  return text;
}

std::string_view errno_name(int err) {
  const char* name = strerrorname_np(err);
  return name != nullptr ? name : "E?";
}

std::unexpected<Error> fail_errno(int err, std::string_view what) {
  std::string text(what);
  text.append(": ").append(errno_text(err));
  return std::unexpected(Error{std::move(text), err});
}

std::unexpected<Error> fail_path(int err, std::string_view what, std::string_view path) {
  std::string text(what);
  text.append(" ").append(path).append(": ").append(errno_text(err));
  return std::unexpected(Error{std::move(text), err});
}

}  // namespace gantry
