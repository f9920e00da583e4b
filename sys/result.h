// The project's error type and the result that carries it.
//
// Every fallible function below cli/ returns Result<T>. Exceptions are for bugs only: nothing here throws.
// Context is added outermost first ("config.json: mounts[3] /proc: fsmount: EPERM: operation not permitted").
#pragma once

#include <cerrno>
#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace gantry {

/// Why an operation failed: one line for a person, and the errno where the kernel gave one.
struct [[nodiscard]] Error {
  std::string text;   ///< complete text, outermost context first, no trailing newline
  int sys_errno = 0;  ///< errno of the failed call, 0 when the failure is not the kernel's

  /// Puts `context` and ": " in front of the text.
  Error within(std::string_view context) && {
    std::string whole;
    whole.reserve(context.size() + 2 + text.size());
    whole.append(context).append(": ").append(text);
    text = std::move(whole);
    return std::move(*this);
  }
};

template <class T = void>
using Result = std::expected<T, Error>;

/// The kernel had no descriptor or no memory for it: the same call may work a moment later.
inline bool is_shortage(const Error& error) {
  const int err = error.sys_errno;
  return err == EMFILE || err == ENFILE || err == ENOMEM || err == ENOBUFS;
}

/// Failure without an errno.
inline std::unexpected<Error> fail(std::string text) {
  return std::unexpected(Error{std::move(text), 0});
}

/// The text callers of runc match for an errno: glibc's wording in lower case ("no such file or directory").
std::string_view errno_text(int err);

/// The symbolic name ("EPERM"); "E?" for a number without a name.
std::string_view errno_name(int err);

/// Failure of a system call: "what: no such file or directory". Pass errno as read right after the call.
std::unexpected<Error> fail_errno(int err, std::string_view what);

/// The same for a path: "what PATH: no such file or directory", as Go prints it ("open /x: permission denied").
std::unexpected<Error> fail_path(int err, std::string_view what, std::string_view path);

/// Moves the error out of a failed result, to be returned from a function with another value type.
template <class T>
std::unexpected<Error> forward(Result<T>&& failed) {
  return std::unexpected(std::move(failed).error());
}

/// The same with a context in front.
template <class T>
std::unexpected<Error> forward(Result<T>&& failed, std::string_view context) {
  return std::unexpected(std::move(failed).error().within(context));
}

}  // namespace gantry

// Statement macros: GANTRY_TRY(expr) returns the error of a Result<void>; GANTRY_LET(decl, expr) binds the value.
// The CO_ forms do the same inside a coroutine. A statement expression would crash g++ 12 around co_await.
#define GANTRY_CAT2(a, b) a##b
#define GANTRY_CAT(a, b) GANTRY_CAT2(a, b)
#define GANTRY_TRY_AS(name, ret, ...)              \
  if (auto name = __VA_ARGS__; !name) [[unlikely]] \
  ret ::std::unexpected(::std::move(name).error())
#define GANTRY_TRY(...) GANTRY_TRY_AS(GANTRY_CAT(try_, __COUNTER__), return, __VA_ARGS__)
#define GANTRY_CO_TRY(...) GANTRY_TRY_AS(GANTRY_CAT(try_, __COUNTER__), co_return, __VA_ARGS__)
#define GANTRY_LET_AS(name, ret, decl, ...)           \
  auto name = __VA_ARGS__;                            \
  if (!name) [[unlikely]]                             \
    ret ::std::unexpected(::std::move(name).error()); \
  decl = ::std::move(*name)
#define GANTRY_LET(decl, ...) GANTRY_LET_AS(GANTRY_CAT(let_, __COUNTER__), return, decl, __VA_ARGS__)
#define GANTRY_CO_LET(decl, ...) GANTRY_LET_AS(GANTRY_CAT(let_, __COUNTER__), co_return, decl, __VA_ARGS__)
