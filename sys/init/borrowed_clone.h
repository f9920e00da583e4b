// A child that runs beside its parent on the parent's memory until it executes something: what gantry's launcher and
// the keeper's have in common. Without a library and without errno, which such a child would share.
#pragma once

#include <asm/unistd.h>
#include <stdint.h>

namespace gantry::init {

/// A system call. Returns the result or a negative errno.
inline long raw_call(long number, long a, long b, long c, long d, long e, long f) {
#if defined(__x86_64__)
  long result;
  register long r10 asm("r10") = d;
  register long r8 asm("r8") = e;
  register long r9 asm("r9") = f;
  asm volatile("syscall"
               : "=a"(result)
               : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return result;
#elif defined(__aarch64__)
  register long x8 asm("x8") = number;
  register long x0 asm("x0") = a;
  register long x1 asm("x1") = b;
  register long x2 asm("x2") = c;
  register long x3 asm("x3") = d;
  register long x4 asm("x4") = e;
  register long x5 asm("x5") = f;
  asm volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
  return x0;
#else
#error "gantry knows the system calls of x86_64 and aarch64 only"
#endif
}

/// The child's life: must not return.
using BorrowedChild = void (*)(void* argument);

/// clone3 or clone, whose child calls child(argument) on the stack that the arguments name and never returns into this
/// frame. There is no libc wrapper for the one. `child_tid` is only clone's.
inline long clone_onto_stack(long number, uint64_t a, uint64_t b, uint64_t c, uint64_t child_tid, BorrowedChild child,
                             void* argument) {
#if defined(__x86_64__)
  long result;
  register void* kept asm("r12") = argument;
  register BorrowedChild entry asm("r13") = child;
  register uint64_t fourth asm("r10") = child_tid;
  register uint64_t fifth asm("r8") = 0;  // tls
  asm volatile(
      "syscall\n"
      "test %%rax, %%rax\n"
      "jnz 1f\n"
      "xor %%ebp, %%ebp\n"
      "mov %%r12, %%rdi\n"
      "call *%%r13\n"
      "ud2\n"
      "1:\n"
      : "=a"(result)
      : "a"(number), "D"(a), "S"(b), "d"(c), "r"(fourth), "r"(fifth), "r"(kept), "r"(entry)
      : "rcx", "r11", "memory");
  return result;
#elif defined(__aarch64__)
  register long x8 asm("x8") = number;
  register uint64_t x0 asm("x0") = a;
  register uint64_t x1 asm("x1") = b;
  register uint64_t x2 asm("x2") = c;
  register uint64_t x3 asm("x3") = 0;  // tls
  register uint64_t x4 asm("x4") = child_tid;
  register void* kept asm("x19") = argument;
  register BorrowedChild entry asm("x20") = child;
  asm volatile(
      "svc #0\n"
      "cbnz x0, 1f\n"
      "mov x29, #0\n"
      "mov x0, x19\n"
      "blr x20\n"
      "1:\n"
      : "+r"(x0)
      : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(kept), "r"(entry)
      : "memory", "x30");
  return static_cast<long>(x0);
#endif
}

/// In the child: fds[N], unless it is -1, becomes descriptor N, without close-on-exec; `image` stays above all of them.
/// Descriptors that lie where another one has to go are moved out of the way first. Our own table must not be shared
/// any more. 0 or a negative errno. The address sanitizer knows nothing of a borrowed stack.
__attribute__((no_sanitize("address"))) inline long place_fds(int* fds, int count, int& image) {
  constexpr int kDupFdCloexec = 1030, kSetFd = 2;
  for (int i = 0; i < count; ++i) {
    if (fds[i] < 0 || fds[i] >= count || fds[i] == i) continue;
    const long moved = raw_call(__NR_fcntl, fds[i], kDupFdCloexec, count, 0, 0, 0);
    if (moved < 0) return moved;
    fds[i] = static_cast<int>(moved);
  }
  if (image < count) {
    const long moved = raw_call(__NR_fcntl, image, kDupFdCloexec, count, 0, 0, 0);
    if (moved < 0) return moved;
    image = static_cast<int>(moved);
  }
  for (int i = 0; i < count; ++i) {
    if (fds[i] < 0) continue;
    // dup3 onto itself would keep close-on-exec.
    const long done =
        fds[i] == i ? raw_call(__NR_fcntl, i, kSetFd, 0, 0, 0, 0) : raw_call(__NR_dup3, fds[i], i, 0, 0, 0, 0);
    if (done < 0) return done;
  }
  return 0;
}

}  // namespace gantry::init
