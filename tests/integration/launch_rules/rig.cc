#include "rig.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <sstream>

namespace gantry::rules {
namespace {

constexpr int kPidfdType = 3;  // P_PIDFD, which glibc 2.36 has only as an enumerator of idtype_t

[[noreturn]] void failed_errno(const std::string& what) {
  failed(what + ": " + std::string(errno_name(errno)));
}

bool readable(int fd, int wait_ms) {
  pollfd ready{fd, POLLIN, 0};
  return ::poll(&ready, 1, wait_ms) > 0;
}

sys::Fd memfd(const std::string& content) {
  sys::Fd fd(::memfd_create("plan", MFD_CLOEXEC));
  if (::write(fd.get(), content.data(), content.size()) != static_cast<ssize_t>(content.size())) failed_errno("memfd");
  return fd;
}

}  // namespace

void failed(const std::string& text) {
  throw Failed{text};
}
void expect(bool holds, const std::string& text) {
  if (!holds) failed(text);
}

std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}

std::string read_file(const std::string& path) {
  std::ifstream file(path);
  if (!file) failed("cannot read " + path);
  std::stringstream content;
  content << file.rdbuf();
  return content.str();
}

void write_file(const std::string& path, const std::string& content) {
  const sys::Fd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
  if (!fd || ::write(fd.get(), content.data(), content.size()) < 0) failed_errno("write " + path);
}

std::string read_link(const std::string& path) {
  char target[4096];
  const ssize_t size = ::readlink(path.c_str(), target, sizeof target);
  if (size < 0) failed_errno("readlink " + path);
  return {target, static_cast<size_t>(size)};
}

std::string status_field(pid_t pid, const std::string& name) {
  std::istringstream lines(read_file("/proc/" + std::to_string(pid) + "/status"));
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with(name + ":\t")) return line.substr(name.size() + 2);
  failed("no " + name + " in /proc/" + std::to_string(pid) + "/status");
}

std::optional<int> ended(const sys::Fd& pidfd, int wait_ms) {
  if (!readable(pidfd.get(), wait_ms)) return std::nullopt;
  siginfo_t info{};
  if (::waitid(static_cast<idtype_t>(kPidfdType), static_cast<id_t>(pidfd.get()), &info, WEXITED) < 0)
    failed_errno("waitid");
  return info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
}

Pipe::Pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) < 0) failed_errno("pipe2");
  read = sys::Fd(ends[0]);
  write = sys::Fd(ends[1]);
}

std::string Pipe::drain() {
  write.reset();
  std::string all;
  char piece[4096];
  while (readable(read.get(), 2000)) {
    const ssize_t got = ::read(read.get(), piece, sizeof piece);
    if (got <= 0) break;
    all.append(piece, static_cast<size_t>(got));
  }
  return all;
}

Rig::Rig(std::string rootfs) : rootfs_(std::move(rootfs)) {
  char name[] = "/tmp/launch-rules-XXXXXX";
  if (::mkdtemp(name) == nullptr) failed_errno("mkdtemp");
  directory_ = name;
  stdin_ = sys::Fd(::open("/dev/null", O_RDWR | O_CLOEXEC));
  plan.header().kind = init::Kind::kContainer;
}

Rig::~Rig() {
  sync_.reset();
  if (pidfd_) {
    ::syscall(SYS_pidfd_send_signal, pidfd_.get(), SIGKILL, nullptr, 0);
    siginfo_t info{};
    ::waitid(static_cast<idtype_t>(kPidfdType), static_cast<id_t>(pidfd_.get()), &info, WEXITED);
  }
  if (launcher_.pid > 0 && !launcher_reaped_) {
    ::syscall(SYS_pidfd_send_signal, launcher_.pidfd.get(), SIGKILL, nullptr, 0);
    ::waitpid(launcher_.pid, nullptr, 0);
  }
  ::unlink((directory_ + "/exec.fifo").c_str());
  ::unlink((directory_ + "/status").c_str());
  ::rmdir(directory_.c_str());
}

init::Step& Rig::step(init::Op op, std::string_view label) {
  return plan.step(op, label);
}

init::Step& Rig::step(init::Op op, std::string_view label, std::string_view first) {
  const init::Ref ref = plan.text(first);
  init::Step& made = plan.step(op, label);
  made.s[0] = ref;
  return made;
}

void Rig::add_mount(const init::MountArgs& args, const std::string& source, const std::string& destination) {
  const init::Ref from = plan.text_or_absent(source), to = plan.text(destination), blob = plan.blob(args);
  init::Step& made = plan.step(init::Op::kMount, "mounts " + destination);
  made.s[0] = from;
  made.s[1] = to;
  made.s[2] = blob;
}

void Rig::mount(const std::string& type, const std::string& source, const std::string& destination, uint64_t attr,
                const std::vector<std::string>& data, uint32_t flags) {
  init::MountArgs args = {};
  args.kind = init::MountKind::kFilesystem;
  args.flags = flags;
  args.attr_set = attr;
  args.fstype = plan.text(type);
  args.data = plan.list(data);
  args.data_count = static_cast<uint32_t>(data.size());
  add_mount(args, source, destination);
}

void Rig::bind(const std::string& source, const std::string& destination, uint64_t attr, uint32_t flags,
               const std::string& uid_map, const std::string& gid_map) {
  init::MountArgs args = {};
  args.kind = init::MountKind::kBind;
  args.flags = flags;
  args.attr_set = attr;
  args.uid_map = plan.text_or_absent(uid_map);
  args.gid_map = plan.text_or_absent(gid_map);
  add_mount(args, source, destination);
}

void Rig::default_rootfs() {
  constexpr uint64_t kSafe = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
  step(init::Op::kPropagation).n[0] = MS_SLAVE | MS_REC;
  step(init::Op::kRootfs, "root.path", rootfs_);
  mount("proc", "proc", "/proc", 0, {}, init::kMountRealDirectory);
  mount("tmpfs", "tmpfs", "/dev", MOUNT_ATTR_NOSUID | MOUNT_ATTR_STRICTATIME, {"mode=755", "size=65536k"});
  mount("devpts", "devpts", "/dev/pts", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC,
        {"newinstance", "ptmxmode=0666", "mode=0620", "gid=5"});
  mount("tmpfs", "shm", "/dev/shm", kSafe, {"mode=1777", "size=65536k"});
  mount("mqueue", "mqueue", "/dev/mqueue", kSafe, {});
  mount("sysfs", "sysfs", "/sys", kSafe | MOUNT_ATTR_RDONLY, {}, init::kMountRealDirectory);
  const std::vector<std::tuple<std::string, unsigned, unsigned>> devices = {
      {"/dev/null", 1, 3}, {"/dev/zero", 1, 5},   {"/dev/full", 1, 7},
      {"/dev/tty", 5, 0},  {"/dev/random", 1, 8}, {"/dev/urandom", 1, 9}};
  for (const auto& [path, major, minor] : devices) {
    init::Step& made = step(init::Op::kDevice, path, path);
    made.n[0] = S_IFCHR | 0666;
    made.n[1] = makedev(major, minor);
  }
  const std::vector<std::pair<std::string, std::string>> links = {
      {"/proc/self/fd", "/dev/fd"}, {"/proc/self/fd/0", "/dev/stdin"}, {"pts/ptmx", "/dev/ptmx"}};
  for (const auto& [target, path] : links) {
    const init::Ref link = plan.text(path);
    step(init::Op::kSymlink, path, target).s[1] = link;
  }
  step(init::Op::kPivot);
  for (const char* path : {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"})
    step(init::Op::kReadonlyPath, path, path);
  for (const char* path :
       {"/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware", "/proc/none"})
    step(init::Op::kMaskedPath, path, path);
}

void Rig::default_rootfs_in_user_namespace() {
  step(init::Op::kPropagation).n[0] = MS_SLAVE | MS_REC;
  step(init::Op::kRootfs, "root.path", rootfs_);
  mount("proc", "proc", "/proc", 0, {}, init::kMountRealDirectory);
  mount("tmpfs", "tmpfs", "/dev", MOUNT_ATTR_NOSUID | MOUNT_ATTR_STRICTATIME, {"mode=755", "size=65536k"});
  mount("devpts", "devpts", "/dev/pts", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC,
        {"newinstance", "ptmxmode=0666", "mode=0620", "gid=5"});
  mount("sysfs", "sysfs", "/sys", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NODEV | MOUNT_ATTR_RDONLY, {},
        init::kMountRealDirectory);
  const init::Ref null = plan.text("/dev/null");
  init::Step& made = step(init::Op::kDevice, "/dev/null", "/dev/null");
  made.flags = init::kStepBind;
  made.s[1] = null;
  made.n[0] = S_IFCHR | 0666;
  made.n[1] = makedev(1, 3);
  step(init::Op::kPivot);
  step(init::Op::kReadonlyPath, "/proc/sys", "/proc/sys");
  step(init::Op::kMaskedPath, "/proc/keys", "/proc/keys");
}

void Rig::identity(uint32_t uid, uint32_t gid, uint64_t caps, uint32_t flags) {
  init::IdentityArgs args = {};
  args.flags = init::kIdentitySetGroups | init::kIdentityChownStdio | flags;
  args.uid = uid;
  args.gid = gid;
  args.bounding = args.effective = args.permitted = caps;
  const init::Ref blob = plan.blob(args);
  step(init::Op::kIdentity, "process.user").s[0] = blob;
}

void Rig::exec(const std::vector<std::string>& argv, const std::vector<std::string>& env) {
  const init::Ref arguments = plan.list(argv), variables = plan.list(env);
  init::Step& made = step(init::Op::kExec);
  made.s[0] = arguments;
  made.n[0] = argv.size();
  made.s[1] = variables;
  made.n[1] = env.size();
}

uint64_t Rig::add_slot(sys::Fd fd) {
  slots_.push_back(std::move(fd));
  return slots_.size() - 1;
}

void Rig::ready_and_wait_after(const std::function<void()>& between) {
  for (const char* name : {"/exec.fifo", "/status"})
    if (::mkfifo((directory_ + name).c_str(), 0600) < 0) failed_errno("mkfifo");
  fifo_slot_ = add_slot(sys::Fd(::open((directory_ + "/exec.fifo").c_str(), O_RDWR | O_CLOEXEC)));
  status_read_ = sys::Fd(::open((directory_ + "/status").c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  status_slot_ = add_slot(sys::Fd(::open((directory_ + "/status").c_str(), O_RDWR | O_CLOEXEC)));
  step(init::Op::kReady);
  between();
  init::Step& made = step(init::Op::kWaitStart, "exec.fifo");
  made.n[0] = fifo_slot_;
  made.n[1] = status_slot_;
}

void Rig::finish(const std::vector<std::string>& argv, bool fifo, const std::vector<std::string>& env) {
  constexpr uint64_t kDefaultCaps = 1ull << 29 | 1ull << 5 | 1ull << 10;
  step(init::Op::kUmask).n[0] = 022;
  step(init::Op::kNoNewPrivs);
  step(init::Op::kChdir, "process.cwd", "/").flags |= init::kStepChdirEarly;
  identity(0, 0, kDefaultCaps);
  step(init::Op::kChdir, "process.cwd", "/");
  const init::Ref path = plan.text("/bin");
  step(init::Op::kLookPath, {}, argv[0]).s[1] = path;
  if (fifo) {
    ready_and_wait();
  } else {
    step(init::Op::kReady);
  }
  exec(argv, env);
}

void Rig::launch() {
  plan.header().slot_count = static_cast<uint32_t>(slots_.size());
  Result<std::string> bytes = plan.finish();
  if (!bytes) failed("plan: " + bytes.error().text);
  init::PlanView view;
  if (const char* wrong = init::open_plan(bytes->data(), bytes->size(), &view)) failed(wrong);
  // Seeds for fuzz/corpus/plan.
  if (const char* directory = std::getenv("LAUNCH_RULES_PLANS"))
    write_file(std::string(directory) + "/" + std::to_string(std::hash<std::string>{}(*bytes)), *bytes);
  const sys::Fd plan_fd = memfd(*bytes);
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) failed_errno("socketpair");
  sync_ = sys::Fd(pair[0]);
  const sys::Fd theirs(pair[1]);
  sys::SpawnFds fds;
  fds.stdio = {stdin_.get(), out.write.get(), err.write.get()};
  fds.sync = theirs.get();
  fds.plan = plan_fd.get();
  for (const sys::Fd& slot : slots_) fds.slots.push_back(slot.get());
  Result<sys::Child> child = sys::spawn_launcher(fds);
  if (!child) failed("spawn_launcher: " + child.error().text);
  launcher_ = std::move(*child);
  out.write.reset();
  err.write.reset();
  slots_.clear();
}

Message Rig::receive(int wait_ms) {
  if (!readable(sync_.get(), wait_ms)) failed("no frame in time");
  Message message;
  iovec part{&message.frame, sizeof message.frame};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * 8)];
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  const ssize_t got = ::recvmsg(sync_.get(), &header, MSG_CMSG_CLOEXEC);
  if (got < 0) failed_errno("recvmsg");
  if (got == 0) failed("the dialogue ended");
  if (const char* wrong = init::check_frame(&message.frame, static_cast<size_t>(got))) failed(wrong);
  for (cmsghdr* c = CMSG_FIRSTHDR(&header); c != nullptr; c = CMSG_NXTHDR(&header, c)) {
    const size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof fd);
      message.fds.emplace_back(fd);
    }
  }
  return message;
}

void Rig::take(Message& message) {
  if (message.tag() == init::Tag::kWarning) warnings_.push_back(message.text());
  if (message.tag() != init::Tag::kBorn) return;
  pid_ = static_cast<pid_t>(message.frame.arg);
  expect(message.fds.size() == 1, "Born carries one pidfd");
  pidfd_ = std::move(message.fds[0]);
  born_.frame = message.frame;
}

Message Rig::until(init::Tag tag) {
  for (;;) {
    Message message = receive();
    take(message);
    if (message.tag() == tag) return message;
    if (message.tag() == init::Tag::kError)
      failed("error frame: step " + std::to_string(message.frame.step) + ": " + message.text() + ": " +
             std::string(errno_name(message.frame.err)));
    expect(message.tag() == init::Tag::kWarning || message.tag() == init::Tag::kBorn,
           "unexpected frame " + std::to_string(static_cast<int>(message.tag())) + " while waiting for " +
               std::to_string(static_cast<int>(tag)));
  }
}

Message Rig::expect_tag(init::Tag tag) {
  Message message = receive();
  take(message);
  expect_equal(static_cast<int>(message.tag()), static_cast<int>(tag), "frame (" + message.text() + ")");
  return message;
}

void Rig::send(init::Tag tag, uint64_t arg, const std::vector<int>& fds) {
  init::Frame frame{};
  frame.magic = init::kFrameMagic;
  frame.tag = tag;
  frame.step = init::kNoStep;
  frame.arg = arg;
  iovec part{&frame, init::frame_size(frame)};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * 32)] = {};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (!fds.empty()) {
    header.msg_control = control;
    header.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
    cmsghdr* c = CMSG_FIRSTHDR(&header);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
    std::memcpy(CMSG_DATA(c), fds.data(), sizeof(int) * fds.size());
  }
  if (::sendmsg(sync_.get(), &header, MSG_NOSIGNAL) < 0) failed_errno("sendmsg");
}

void Rig::commit() {
  until(init::Tag::kReady);
  send(init::Tag::kCommit);
  expect(at_end(), "the dialogue ends after Commit");
}

bool Rig::at_end(int wait_ms) {
  if (!readable(sync_.get(), wait_ms)) return false;
  char byte;
  return ::recv(sync_.get(), &byte, 1, MSG_PEEK) == 0;
}

void Rig::start() {
  const sys::Fd fifo(::open((directory_ + "/exec.fifo").c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC));
  if (!fifo || ::write(fifo.get(), "0", 1) != 1) failed_errno("exec.fifo");
}

std::string Rig::status_text() {
  std::string all;
  char piece[4096];
  for (;;) {
    pollfd ready{status_read_.get(), POLLIN, 0};
    if (::poll(&ready, 1, 3000) <= 0) failed("no end on the status fifo");
    const ssize_t got = ::read(status_read_.get(), piece, sizeof piece);
    if (got <= 0) return all;
    all.append(piece, static_cast<size_t>(got));
  }
}

int Rig::wait(int wait_ms) {
  const std::optional<int> status = ended(pidfd_, wait_ms);
  if (!status) failed("the program does not end");
  pidfd_.reset();
  return *status;
}

}  // namespace gantry::rules
