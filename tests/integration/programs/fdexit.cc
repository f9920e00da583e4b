// Exits with 3 through its first system call; needs nothing else of the kernel.
#if defined(__x86_64__)
asm(".globl _start\n_start:\n  mov $231, %eax\n  mov $3, %edi\n  syscall\n");
#elif defined(__aarch64__)
asm(".globl _start\n_start:\n  mov x8, #94\n  mov x0, #3\n  svc #0\n");
#endif
