// Errors and warnings: to the engine while it listens, afterwards to whoever waits for `start` and to stderr.
#include "sys/init/context.h"

namespace gantry::init {

const char* errno_words(long err) {
  switch (err) {
    case kEPERM:
      return "operation not permitted";
    case kENOENT:
      return "no such file or directory";
    case kESRCH:
      return "no such process";
    case kEIO:
      return "input/output error";
    case kE2BIG:
      return "argument list too long";
    case kENOEXEC:
      return "exec format error";
    case kEAGAIN:
      return "resource temporarily unavailable";
    case kENOMEM:
      return "cannot allocate memory";
    case kEACCES:
      return "permission denied";
    case kEBUSY:
      return "device or resource busy";
    case kEEXIST:
      return "file exists";
    case kENODEV:
      return "no such device";
    case kENOTDIR:
      return "not a directory";
    case kEISDIR:
      return "is a directory";
    case kEINVAL:
      return "invalid argument";
    case kETXTBSY:
      return "text file busy";
    case kENOSPC:
      return "no space left on device";
    case kEROFS:
      return "read-only file system";
    case kENAMETOOLONG:
      return "file name too long";
    case kENOSYS:
      return "function not implemented";
    case kELOOP:
      return "too many levels of symbolic links";
    case kELIBBAD:
      return "accessing a corrupted shared library";
    default:
      return nullptr;
  }
}

namespace {

void add_words(Message& message, long err) {
  message.add(": ");
  if (const char* words = errno_words(err)) {
    message.add(words);
  } else {
    message.add("errno ").add_signed(err);
  }
}

void send_text(Context& ctx, Tag tag, long err, const char* text) {
  Frame frame = make_frame(tag, ctx.step);
  frame.err = static_cast<int32_t>(err);
  const size_t size = length_of(text);
  frame.text_length = static_cast<uint16_t>(size < kFrameText ? size : kFrameText);
  __builtin_memcpy(frame.text, text, frame.text_length);
  await_born(ctx);
  send_frame(ctx.sync, frame, nullptr, 0);
}

}  // namespace

void give_up(Context& ctx, const char* text) {
  constexpr int kSigpipe = 13;
  const unsigned long ignore[4] = {1, 0, 0, 0};  // SIG_IGN: a closed stderr must not hide the exit status
  call(__NR_rt_sigaction, kSigpipe, ignore, nullptr, sizeof(unsigned long));
  const size_t size = length_of(text);
  if (ctx.status >= 0) write_fd(ctx.status, text, size < kStatusMax ? size : kStatusMax);
  Text<kStatusMax + 2> line;
  line.add(text).add("\n");
  write_fd(2, line.get(), line.size());
  exit_now(255);
}

void die(Context& ctx, long err, const char* text) {
  if (ctx.sync >= 0) {
    send_text(ctx, Tag::kError, err, text);
    exit_now(1);
  }
  Message message;
  if (ctx.step != kNoStep && err != 0 && ctx.plan.steps[ctx.step].label != 0)
    message.add(ctx.plan.arena + ctx.plan.steps[ctx.step].label).add(": ");
  message.add(text);
  if (err != 0) add_words(message, err);
  give_up(ctx, message.get());
}

long must(Context& ctx, long result, const char* name) {
  if (result < 0) die(ctx, -result, name);
  return result;
}

void warn(Context& ctx, long err, const char* text) {
  if (ctx.sync >= 0) send_text(ctx, Tag::kWarning, err, text);
}

}  // namespace gantry::init
