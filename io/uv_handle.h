// Ownership of uv handles. Only for the .cc files of io/.
#pragma once

#include <uv.h>

#include <cstdio>
#include <cstdlib>
#include <memory>

namespace gantry::io {

/// Closes a handle and frees it in the close callback: the owner may die at once, the memory when uv lets go of it.
template <class H>
struct UvClose {
  void operator()(H* handle) const {
    uv_close(reinterpret_cast<uv_handle_t*>(handle), [](uv_handle_t* closed) { delete reinterpret_cast<H*>(closed); });
  }
};
template <class H>
using UvHandle = std::unique_ptr<H, UvClose<H>>;

/// For calls that can only fail by a bug of ours or when nothing could go on anyway.
inline void uv_must(int status, const char* what) {
  if (status >= 0) return;
  std::fprintf(stderr, "gantry: event loop: %s: %s\n", what, uv_strerror(status));
  std::abort();
}

}  // namespace gantry::io
