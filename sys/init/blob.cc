// The stripped gantry-init as bytes inside of gantry: gantry_init_begin to gantry_init_end.
asm(".section .rodata.gantry_init, \"a\"\n"
    ".balign 64\n"
    ".globl gantry_init_begin\n"
    "gantry_init_begin:\n"
    ".incbin \"" GANTRY_INIT_FILE
    "\"\n"
    ".globl gantry_init_end\n"
    "gantry_init_end:\n"
    ".byte 0\n"
    ".section .text\n");
