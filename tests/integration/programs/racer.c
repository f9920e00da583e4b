// racer A B: exchanges two names in a tight loop until it is killed, as a hostile neighbour with a shared volume would.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  for (;;) {
    if (renameat2(AT_FDCWD, argv[1], AT_FDCWD, argv[2], RENAME_EXCHANGE) < 0) return 1;
  }
}
