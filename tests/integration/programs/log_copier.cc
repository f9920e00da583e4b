// Copies standard input into a log as a supervisor does it, for measurements and tests without one.
// usage: log_copier OPTIONS   (as behind --log, with path=)
#include <cstdio>

#include "engine/supervisor/copy_stream.h"

namespace {

int failed(const gantry::Error& error) {
  std::fprintf(stderr, "log_copier: %s\n", error.text.c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  const gantry::Result<gantry::LogOptions> options = gantry::parse_log_options(argc > 1 ? argv[1] : "");
  if (!options) return failed(options.error());
  gantry::LogFile log(*options);
  if (const gantry::Result<> prepared = log.prepare(); !prepared) return failed(prepared.error());
  gantry::Result<gantry::Copier> copier = gantry::Copier::make();
  if (!copier) return failed(copier.error());
  if (const gantry::Result<> opened = copier->open_slot(0); !opened) return failed(opened.error());
  gantry::io::Loop loop;
  const gantry::Result<> copied = loop.run(gantry::copy_stream(loop, *copier, {0, 0}, 0, log));
  return copied ? 0 : failed(copied.error());
}
