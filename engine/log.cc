#include "engine/log.h"

#include <fcntl.h>
#include <unistd.h>

#define FMT_HEADER_ONLY
// Without it std::locale comes along: a sixth of what has to be relocated at each start.
#define FMT_STATIC_THOUSANDS_SEPARATOR ','
#include <spdlog/details/null_mutex.h>
#include <spdlog/formatter.h>
#include <spdlog/logger.h>
#include <spdlog/sinks/base_sink.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <memory>
#include <optional>

#include "sys/fd.h"
#include "sys/file.h"
#include "sys/text.h"

namespace gantry {

namespace {

std::string rfc3339(std::time_t seconds) {
  std::tm parts{};
  localtime_r(&seconds, &parts);
  char text[40];
  std::string out(text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S%z", &parts));
  if (out.ends_with("+0000")) return out.replace(out.size() - 5, 5, "Z");
  return out.insert(out.size() - 2, ":");
}

// "gantry::Result<> gantry::(anonymous namespace)::f(int)" -> "f"
std::string_view bare_name(std::string_view signature) {
  if (const auto end = signature.find("::("); end != std::string_view::npos) signature.remove_prefix(end + 3);
  if (const auto end = signature.find(")::"); end != std::string_view::npos) signature.remove_prefix(end + 3);
  signature = signature.substr(0, signature.find('('));
  return signature.substr(signature.find_last_of(" *&:") + 1);
}

LogLevel our_level(spdlog::level::level_enum level) {
  if (level >= spdlog::level::err) return LogLevel::kError;
  if (level >= spdlog::level::warn) return LogLevel::kWarning;
  return level >= spdlog::level::info ? LogLevel::kInfo : LogLevel::kDebug;
}

class LineFormatter final : public spdlog::formatter {
 public:
  LineFormatter(LogFormat format, bool terminal, bool show_source)
      : format_(format), terminal_(terminal), show_source_(show_source) {}

  void format(const spdlog::details::log_msg& message, spdlog::memory_buf_t& dest) override {
    const std::string time = rfc3339(spdlog::log_clock::to_time_t(message.time));
    std::string function, file;
    if (show_source_ && message.source.filename != nullptr) {
      function = cat(bare_name(message.source.funcname), "()");
      const std::string_view path = message.source.filename;
      file = cat(path.substr(path.find_last_of('/') + 1), ":", message.source.line);
    }
    const std::string_view text(message.payload.data(), message.payload.size());
    const LogLine line{our_level(message.level), text, time, function, file};
    const std::string out = format_ == LogFormat::kJson ? format_json_line(line)
                            : terminal_                 ? format_terminal_line(line, age(message))
                                                        : format_text_line(line);
    dest.append(out.data(), out.data() + out.size());
  }

  std::unique_ptr<formatter> clone() const override { return std::make_unique<LineFormatter>(*this); }

 private:
  unsigned age(const spdlog::details::log_msg& message) const {
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(message.time - born_).count();
    return static_cast<unsigned>(std::max<long>(seconds, 0));
  }

  LogFormat format_;
  bool terminal_, show_source_;
  spdlog::log_clock::time_point born_ = spdlog::log_clock::now();
};

/// Writes each line with one write(2), so that lines of several processes in one file do not mix.
class FdSink final : public spdlog::sinks::base_sink<spdlog::details::null_mutex> {
 public:
  explicit FdSink(int fd) : fd_(fd) {}

 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    // A log that cannot be written must not end the command: there is nobody left to tell.
    [[maybe_unused]] const ssize_t written = ::write(fd_, line.data(), line.size());
  }
  void flush_() override {}

  int fd_;
};

class Log {
 public:
  Result<> open(const LogSetup& options) {
    format_ = options.format;
    debug_ = options.debug;
    logger_.reset();
    if (options.file.empty()) return {};
    constexpr int kFlags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC;
    const int fd = ::open(options.file.c_str(), kFlags, 0644);
    if (fd < 0) return fail_path(errno, "open", options.file);
    file_ = sys::Fd(fd);
    return {};
  }

  void write(spdlog::level::level_enum level, const std::string& text, const std::source_location& where) {
    if (level < spdlog::level::info && !debug_) return;
    const spdlog::source_loc source{where.file_name(), static_cast<int>(where.line()), where.function_name()};
    logger().log(source, level, spdlog::string_view_t(text.data(), text.size()));
  }

  bool is_stderr() const { return !file_.valid(); }

 private:
  spdlog::logger& logger() {
    if (!logger_) {
      const int fd = is_stderr() ? STDERR_FILENO : file_.get();
      auto sink = std::make_shared<FdSink>(fd);
      sink->set_formatter(std::make_unique<LineFormatter>(format_, ::isatty(fd) == 1, debug_));
      logger_.emplace("gantry", std::move(sink));
      logger_->set_level(debug_ ? spdlog::level::debug : spdlog::level::info);
    }
    return *logger_;
  }

  LogFormat format_ = LogFormat::kText;
  bool debug_ = false;
  sys::Fd file_;
  std::optional<spdlog::logger> logger_;
};

// The one process-wide object: warnings come from places that nobody hands a log to.
Log& the_log() {
  static Log log;
  return log;
}

}  // namespace

Result<> log_open(const LogSetup& options) {
  return the_log().open(options);
}

void log_error(const std::string& text, std::source_location where) {
  the_log().write(spdlog::level::err, text, where);
  if (the_log().is_stderr()) return;
  const std::string line = text.ends_with('\n') ? text : text + "\n";
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
}

void log_warning(const std::string& text, std::source_location where) {
  the_log().write(spdlog::level::warn, text, where);
}

void log_debug(const std::string& text, std::source_location where) {
  the_log().write(spdlog::level::debug, text, where);
}

}  // namespace gantry
