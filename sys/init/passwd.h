// Finds the home directory of a uid in /etc/passwd, which is hostile input: any size, any bytes.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace gantry::init {

/// Reads passwd(5) in pieces of any size and keeps one line. The first line with the uid wins; lines that are
/// malformed, longer than kMaxLine or contain NUL count as absent. A uid is decimal digits only: never a name, a sign
/// or a default.
class HomeFinder {
 public:
  static constexpr size_t kMaxLine = 4096;
  static constexpr size_t kMaxFile = 10u << 20;  ///< the caller stops reading there

  explicit HomeFinder(uint32_t uid) : uid_(uid) {}

  /// Takes the next bytes of the file. True: found, more is not needed.
  bool feed(const char* data, size_t size);

  /// The end of the file: the last line may lack its newline.
  bool finish();

  /// The home directory as written, NUL-terminated, or null while not found or when the field is empty.
  const char* home() const { return home_; }

 private:
  bool take_line();

  uint32_t uid_;
  const char* home_ = nullptr;
  bool found_ = false;
  bool skip_ = false;  ///< the current line is too long or contains NUL
  size_t size_ = 0;
  char line_[kMaxLine + 1];
};

/// Decimal digits only, below 2^32 - 1 (which is "no id" to the kernel). False when it is anything else.
bool parse_id(const char* text, size_t size, uint32_t* out);

}  // namespace gantry::init
