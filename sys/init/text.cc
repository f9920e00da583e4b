#include "sys/init/text.h"

namespace gantry::init {

size_t length_of(const char* text) {
  size_t size = 0;
  while (text[size] != '\0') ++size;
  return size;
}

bool same_text(const char* left, const char* right) {
  for (; *left != '\0' && *left == *right; ++left, ++right) {
  }
  return *left == *right;
}

bool starts_with(const char* text, const char* prefix) {
  for (; *prefix != '\0'; ++text, ++prefix)
    if (*text != *prefix) return false;
  return true;
}

TextBuilder::TextBuilder(char* bytes, size_t room) : bytes_(bytes), room_(room) {
  bytes_[0] = '\0';
}

void TextBuilder::put(char byte) {
  add(&byte, 1);
}

TextBuilder& TextBuilder::add(const char* text, size_t size) {
  const size_t left = room_ - 1 - size_;
  if (size > left) cut_ = true;
  const size_t fits = size < left ? size : left;
  __builtin_memcpy(bytes_ + size_, text, fits);
  size_ += fits;
  bytes_[size_] = '\0';
  return *this;
}

TextBuilder& TextBuilder::add(const char* text) {
  return add(text, length_of(text));
}

TextBuilder& TextBuilder::add_number(uint64_t number, unsigned base) {
  char digits[24];
  size_t at = sizeof digits;
  do {
    digits[--at] = static_cast<char>('0' + number % base);
    number /= base;
  } while (number != 0);
  return add(digits + at, sizeof digits - at);
}

TextBuilder& TextBuilder::add_signed(int64_t number) {
  if (number >= 0) return add_number(static_cast<uint64_t>(number));
  return add("-").add_number(0 - static_cast<uint64_t>(number));
}

TextBuilder& TextBuilder::assign(const TextBuilder& other) {
  shorten(0);
  cut_ = other.cut_;
  return add(other.bytes_, other.size_);
}

void TextBuilder::shorten(size_t size) {
  if (size >= size_) return;
  size_ = size;
  bytes_[size_] = '\0';
}

}  // namespace gantry::init
