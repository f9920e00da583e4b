// A container that writes a lot: FLOOD_BYTES bytes in lines of 80, in writes of FLOOD_WRITE bytes (4096: what stdio
// does into a pipe). Called as "flood ... create ... --pid-file FILE ..." it is a runtime whose container does so.
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { kLine = 80, kMostWrite = 1 << 20 };

static int64_t number(const char* name, int64_t otherwise) {
  const char* text = getenv(name);
  return text != NULL ? strtoll(text, NULL, 10) : otherwise;
}

static int flood(void) {
  static char block[kMostWrite + kLine];
  for (size_t i = 0; i < sizeof block; ++i) block[i] = i % kLine == kLine - 1 ? '\n' : (char)('a' + i % 26);
  int64_t left = number("FLOOD_BYTES", 1 << 20);
  const int64_t piece = number("FLOOD_WRITE", 4096);
  for (int64_t at = 0; left > 0;) {
    const ssize_t count = write(1, block + at % kLine, (size_t)(piece < left ? piece : left));
    if (count < 0) return 1;
    at += count;
    left -= count;
  }
  return 0;
}

int main(int argc, char** argv) {
  const char* pid_file = NULL;
  int create = 0;
  for (int i = 1; i < argc; ++i) {
    if (strcmp(argv[i], "create") == 0) create = 1;
    if (strcmp(argv[i], "--pid-file") == 0 && i + 1 < argc) pid_file = argv[i + 1];
  }
  if (argc > 1 && !create) return 0;  // delete, kill: nothing to do
  if (!create) return flood();
  const pid_t child = fork();
  if (child < 0) return 1;
  if (child == 0) return flood();
  FILE* file = fopen(pid_file, "w");
  if (file == NULL) return 1;
  fprintf(file, "%d", (int)child);
  return fclose(file) == 0 ? 0 : 1;
}
