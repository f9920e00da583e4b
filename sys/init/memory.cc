// The four functions that compilers call on their own. This unit is built without loop idioms (see CMakeLists.txt), or
// memset would be compiled into a call of itself.
#include <stddef.h>

extern "C" {

void* memcpy(void* __restrict to, const void* __restrict from, size_t size) {
#if defined(__x86_64__)
  void* cursor = to;
  asm volatile("rep movsb" : "+D"(cursor), "+S"(from), "+c"(size) : : "memory");
#else
  auto* out = static_cast<char*>(to);
  const auto* in = static_cast<const char*>(from);
  while (size-- > 0) *out++ = *in++;
#endif
  return to;
}

void* memset(void* to, int value, size_t size) {
#if defined(__x86_64__)
  void* cursor = to;
  asm volatile("rep stosb" : "+D"(cursor), "+c"(size) : "a"(value) : "memory");
#else
  auto* out = static_cast<char*>(to);
  while (size-- > 0) *out++ = static_cast<char>(value);
#endif
  return to;
}

void* memmove(void* to, const void* from, size_t size) {
  auto* out = static_cast<char*>(to);
  const auto* in = static_cast<const char*>(from);
  if (out <= in || out >= in + size) {
    while (size-- > 0) *out++ = *in++;
  } else {
    while (size-- > 0) out[size] = in[size];
  }
  return to;
}

int memcmp(const void* left, const void* right, size_t size) {
  const auto* a = static_cast<const unsigned char*>(left);
  const auto* b = static_cast<const unsigned char*>(right);
  for (; size > 0; --size, ++a, ++b)
    if (*a != *b) return *a < *b ? -1 : 1;
  return 0;
}

}  // extern "C"
