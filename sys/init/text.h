// Text without a library: lengths, comparisons and a bounded builder. Freestanding and hosted alike.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace gantry::init {

size_t length_of(const char* text);
bool same_text(const char* left, const char* right);
bool starts_with(const char* text, const char* prefix);

/// A bounded text, always NUL-terminated; what does not fit is cut off and remembered.
class TextBuilder {
 public:
  TextBuilder(const TextBuilder&) = delete;
  TextBuilder& operator=(const TextBuilder&) = delete;

  TextBuilder& add(const char* text, size_t size);
  TextBuilder& add(const char* text);
  TextBuilder& add_number(uint64_t number, unsigned base = 10);
  TextBuilder& add_signed(int64_t number);
  TextBuilder& assign(const TextBuilder& other);
  void put(char byte);
  /// Keeps the first `size` bytes.
  void shorten(size_t size);

  const char* get() const { return bytes_; }
  size_t size() const { return size_; }
  bool cut() const { return cut_; }

 protected:
  TextBuilder(char* bytes, size_t room);
  ~TextBuilder() = default;

 private:
  char* bytes_;
  size_t room_;
  size_t size_ = 0;
  bool cut_ = false;
};

/// A TextBuilder with room for N - 1 bytes.
template <size_t N>
class Text final : public TextBuilder {
 public:
  Text() : TextBuilder(room_, N) {}
  explicit Text(const char* text) : Text() { add(text); }

 private:
  char room_[N];
};

}  // namespace gantry::init
