// The supervisor's side of a log copier (copy_worker.h): one for each device of file systems that may not answer, for
// as long as somebody has a log there.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/supervisor/copy_wire.h"
#include "engine/supervisor/keeper_start.h"
#include "engine/supervisor/output.h"
#include "io/event.h"
#include "io/scope.h"
#include "sys/launch.h"
#include "sys/local_path.h"

namespace gantry {

class KeeperLink;
class SlotNumbers;

/// What a copier has in hand, all of it held by the keeper, too.
struct CopyHands {
  sys::Fd journal, staging_read, staging_write;
  static Result<CopyHands> make();
  bool complete() const { return journal && staging_read && staging_write; }
};

/// Something that a copier is asked, until it is answered or nobody wants to know any more.
struct CopyQuestion {
  explicit CopyQuestion(io::Loop& loop) : answered(loop) {}
  CopyFrame request;
  CopyFrame answer;
  io::Event answered;
};

/// One copier and its successors. What it was asked, and not answered, its successor is asked again.
class OutputDevice {
 public:
  /// Device numbers, and a slot of the keeper's table that is ours until live() is over.
  struct Name {
    uint64_t key = 0;
    uint32_t slot = 0;
    std::string text;  ///< "fuse.sshfs at /mnt", for messages
  };
  /// What a copier has to know of a run; descriptors are borrowed.
  struct Run {
    std::string log;  ///< options
    int out = -1, err = -1;
  };
  OutputDevice(io::Loop& loop, KeeperLink& keeper, Name name, CopyHands hands);

  const Name& name() const { return name_; }
  void rename(std::string text) { name_.text = std::move(text); }
  std::map<uint16_t, Run>& runs() { return runs_; }
  KeptSlot kept() const;

  /// Somebody needs it, or not any more.
  void enter() { ++users_; }
  void leave();
  /// For a run that nobody knows now: the keeper is to hold our journal as long as this supervisor lives, and longer.
  void pin() {
    enter();
    pinned_ = true;
  }
  bool needed_later() const { return pinned_ || !runs_.empty(); }

  /// Sends and waits for the answer; one that reports an error is that error. ETIMEDOUT, ECANCELED.
  io::Task<Result<CopyFrame>> ask(CopyFrame request, io::Deadline deadline);
  /// The same in two steps. Whoever does not wait for the answer any more forgets the question.
  std::shared_ptr<CopyQuestion> put(CopyFrame request);
  void forget(const std::shared_ptr<CopyQuestion>& question);
  /// Nothing is answered; a successor is not told. kStart goes with the descriptors of runs().
  void tell(CopyFrame frame);

  /// Until nobody has needed it for a second and it has ended. Cancelled: it is killed, and everything stays as it is.
  io::Task<Result<>> live();
  bool is_unused() const { return users_ == 0 && questions_.empty(); }

 private:
  io::Task<Result<>> hold();
  Result<sys::Child> start();
  void introduce();
  io::Task<Result<std::vector<sys::Fd>>> copy_streams(CopyFrame& frame);
  io::Task<io::Wake> converse(const sys::Child& child);
  io::Task<> pump();
  io::Task<> listen();
  io::Task<> dismiss();
  void hear_last_words();
  void take(CopyFrame frame);
  void reap(const sys::Child& child);
  Result<> renew();

  io::Loop& loop_;
  KeeperLink& keeper_;
  Name name_;
  CopyHands hands_;
  bool held_ = false, fresh_ = false, dismissed_ = false, told_ = false;
  bool journal_broken_ = false, killed_ = false, pinned_ = false;
  unsigned users_ = 0;
  uint32_t serial_ = 0;
  std::map<uint16_t, Run> runs_;
  std::map<uint32_t, std::shared_ptr<CopyQuestion>> questions_;
  std::deque<CopyFrame> letters_;
  io::Event posted_;  ///< there are letters
  io::Event unused_;  ///< is_unused() may have become true
  sys::Fd control_;
  std::string trouble_;
};

/// All of them.
class OutputDevices {
 public:
  OutputDevices(io::Loop& loop, KeeperLink& keeper, SlotNumbers& slots)
      : loop_(loop), keeper_(keeper), slots_(slots), scope_(loop) {}

  static uint64_t key_of(const sys::SlowPlace& place) { return uint64_t{place.major} << 32U | place.minor; }

  static std::string text_of(const sys::SlowPlace& place);

  /// The one for a place, which is made when it is not there.
  Result<std::shared_ptr<OutputDevice>> at(const sys::SlowPlace& place);
  /// One that the keeper has, in `slot`. Begins its work with begin(), when the runs are known.
  void adopt(uint32_t slot, uint64_t key, CopyHands hands);
  /// The adopted one in `slot`.
  std::shared_ptr<OutputDevice> adopted(uint32_t slot);
  void begin();

  /// Ends all copiers. Nothing more is to be asked.
  io::Task<> end();
  std::vector<KeptSlot> kept() const;

 private:
  io::Task<> live(std::shared_ptr<OutputDevice> device);

  io::Loop& loop_;
  KeeperLink& keeper_;
  SlotNumbers& slots_;
  std::map<uint64_t, std::shared_ptr<OutputDevice>> devices_;
  io::Scope scope_;
};

}  // namespace gantry
