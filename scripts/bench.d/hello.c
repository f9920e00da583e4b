// The floor of --version: a static program that prints a line.
#include <unistd.h>

int main(void) {
  return write(STDOUT_FILENO, "hello\n", 6) == 6 ? 0 : 1;
}
