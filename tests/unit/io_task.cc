// Task, Scope, cancellation, deadlines, race and admission.
#include <memory>

#include "io/scope.h"
#include "io/timer.h"
#include "io_support.h"

namespace gantry::io {
namespace {

using std::chrono::milliseconds;

Task<int> give(int value) {
  co_return value;
}

Task<std::unique_ptr<std::string>> give_boxed(std::unique_ptr<std::string> box) {
  *box += "!";
  co_return std::move(box);
}

Task<int> slow_add(Loop& loop, int a, int b) {
  const Wake wake = co_await sleep_for(loop, milliseconds(1));
  co_return wake == Wake::kTimeout ? a + b : -1;
}

Task<long> sum_inline(int rounds) {
  long sum = 0;
  for (int i = 0; i < rounds; ++i) sum += co_await give(i);
  co_return sum;
}

Task<int> nested(Loop& loop, int depth) {
  if (depth == 0) co_return co_await slow_add(loop, 1, 0);
  const int below = co_await nested(loop, depth - 1);
  co_return below + 1;
}

/// Counts the frames that are alive.
struct Alive {
  explicit Alive(int& counter) : count(counter) { ++count; }
  ~Alive() { --count; }
  Alive(const Alive&) = delete;
  int& count;
};

Task<> sleep_forever(Loop& loop, int& alive, Wake& outcome) {
  const Alive here(alive);
  const Deadline far = Deadline::in_ms(60'000);
  outcome = co_await sleep_until(loop, far);
}

TEST_CASE("a task gives its value, move-only ones too", "[io]") {
  Loop loop;
  CHECK(loop.run(give(7)) == 7);
  CHECK(*loop.run(give_boxed(std::make_unique<std::string>("moved"))) == "moved!");
  CHECK(loop.run(slow_add(loop, 2, 3)) == 5);
}

TEST_CASE("awaiting finished tasks does not grow the stack, nor does depth break it", "[io]") {
  Loop loop;
  CHECK(loop.run(sum_inline(200'000)) == 200'000L * 199'999 / 2);
  CHECK(loop.run(nested(loop, 500)) == 501);
}

TEST_CASE("a task that was never started or is destroyed while it waits leaves nothing", "[io]") {
  Loop loop;
  int alive = 0;
  Wake outcome = Wake::kReady;
  {
    const Task<> never_run = sleep_forever(loop, alive, outcome);
  }
  CHECK(alive == 0);
  {
    Task<> waiting = sleep_forever(loop, alive, outcome);
    waiting.handle().resume();
    CHECK(alive == 1);
  }
  CHECK(alive == 0);
  CHECK(outcome == Wake::kReady);  // ~Loop aborts if the timer was left behind
}

Task<Wake> cancelled_by_scope(Loop& loop, int& alive) {
  Wake outcome = Wake::kReady;
  Scope scope(loop);
  scope.spawn(sleep_forever(loop, alive, outcome));
  co_await sleep_for(loop, milliseconds(1));
  if (alive != 1) co_return Wake::kReady;
  const Result<> joined = co_await scope.cancel_and_join();
  co_return joined ? outcome : Wake::kReady;
}

TEST_CASE("cancelling a scope ends its children's waits", "[io]") {
  Loop loop;
  int alive = 0;
  CHECK(loop.run(cancelled_by_scope(loop, alive)) == Wake::kCancelled);
  CHECK(alive == 0);
}

Task<> nest_scopes(Loop& loop, int depth, int& alive, int& cancelled) {
  if (depth == 0) {
    Wake outcome = Wake::kReady;
    co_await sleep_forever(loop, alive, outcome);
    if (outcome == Wake::kCancelled) ++cancelled;
    co_return;
  }
  CancelSource* const cancel = co_await inherited_cancel();
  Scope scope(loop, cancel);
  for (int i = 0; i < 3; ++i) scope.spawn(nest_scopes(loop, depth - 1, alive, cancelled));
  co_await scope.join();
}

Task<> cancel_from_above(Loop& loop, int& alive, int& cancelled) {
  Scope scope(loop);
  scope.spawn(nest_scopes(loop, 3, alive, cancelled));
  while (alive < 27) co_await sleep_for(loop, milliseconds(1));
  co_await scope.cancel_and_join();
}

TEST_CASE("cancellation reaches every grandchild, and join waits for all", "[io]") {
  Loop loop;
  int alive = 0;
  int cancelled = 0;
  loop.run(cancel_from_above(loop, alive, cancelled));
  CHECK(alive == 0);
  CHECK(cancelled == 27);
}

Task<> drop_scope(Loop& loop, int& alive, int& cancelled) {
  {
    Scope scope(loop);
    scope.spawn(nest_scopes(loop, 2, alive, cancelled));
    while (alive < 9) co_await sleep_for(loop, milliseconds(1));
    scope.spawn(nest_scopes(loop, 2, alive, cancelled));  // never gets to start
  }
  co_await sleep_for(loop, milliseconds(1));
}

TEST_CASE("destroying a scope destroys suspended children without resuming them", "[io]") {
  Loop loop;
  int alive = 0;
  int cancelled = 0;
  loop.run(drop_scope(loop, alive, cancelled));
  CHECK(alive == 0);
  CHECK(cancelled == 0);
}

Task<Result<>> fail_after(Loop& loop, int64_t ms, std::string text) {
  const Wake wake = co_await sleep_for(loop, milliseconds(ms));
  if (wake == Wake::kCancelled) co_return fail_wake(wake, text);
  co_return fail(std::move(text));
}

Task<Result<>> first_failure(Loop& loop, int& alive, Wake& sibling) {
  Scope scope(loop);
  scope.spawn(sleep_forever(loop, alive, sibling));
  scope.spawn(fail_after(loop, 5000, "late"));
  scope.spawn(fail_after(loop, 1, "early"));
  Result<> joined = co_await scope.join();
  co_return std::move(joined);
}

TEST_CASE("the first failing child cancels the others and is what join gives", "[io]") {
  Loop loop;
  int alive = 0;
  Wake sibling = Wake::kReady;
  const Result<> joined = loop.run(first_failure(loop, alive, sibling));
  REQUIRE(!joined);
  CHECK(joined.error().text == "early");
  CHECK(sibling == Wake::kCancelled);
  CHECK(alive == 0);
}

Task<> clean_up(Loop& loop, std::string& trace) {
  const Wake wake = co_await sleep_for(loop, milliseconds(2));
  trace += wake == Wake::kTimeout ? " cleaned" : " interrupted";
}

Task<> careful(Loop& loop, std::string& trace) {
  const Deadline far = Deadline::in_ms(60'000);
  const Wake wake = co_await sleep_until(loop, far);
  trace += wake == Wake::kCancelled ? "cancelled" : "?";
  const Wake again = co_await sleep_until(loop, far);
  trace += again == Wake::kCancelled ? " at-once" : "?";
  Task<> shielded = shield(clean_up(loop, trace));
  co_await std::move(shielded);
}

Task<> cancel_careful(Loop& loop, std::string& trace) {
  Scope scope(loop);
  scope.spawn(careful(loop, trace));
  co_await sleep_for(loop, milliseconds(1));
  co_await scope.cancel_and_join();
}

TEST_CASE("a cancelled task cannot wait any more, except behind a shield", "[io]") {
  Loop loop;
  std::string trace;
  loop.run(cancel_careful(loop, trace));
  CHECK(trace == "cancelled at-once cleaned");
}

Task<Result<int>> answer_after(Loop& loop, int64_t ms) {
  const Wake wake = co_await sleep_for(loop, milliseconds(ms));
  if (wake == Wake::kCancelled) co_return fail_wake(wake, "answer");
  co_return 42;
}

Task<Result<int>> limited(Loop& loop, int64_t work_ms, int64_t limit_ms) {
  const Deadline deadline = Deadline::in_ms(limit_ms);
  Task<Result<int>> work = answer_after(loop, work_ms).named("the answer");
  Result<int> result = co_await with_deadline(loop, std::move(work), deadline);
  co_return std::move(result);
}

Task<Result<Wake>> limited_plain(Loop& loop) {
  const Deadline deadline = Deadline::in_ms(2);
  const Deadline far = Deadline::in_ms(60'000);
  Task<Wake> work = sleep_until(loop, far);
  Result<Wake> result = co_await with_deadline(loop, std::move(work), deadline);
  co_return std::move(result);
}

TEST_CASE("with_deadline gives the value, or a timeout that names the task", "[io]") {
  Loop loop;
  CHECK(loop.run(limited(loop, 1, 60'000)).value() == 42);
  const Result<int> late = loop.run(limited(loop, 60'000, 2));
  REQUIRE(!late);
  CHECK(is_timeout(late.error()));
  CHECK(late.error().text == "the answer: timed out");
  const Result<Wake> plain = loop.run(limited_plain(loop));
  REQUIRE(!plain);
  CHECK(is_timeout(plain.error()));
}

Task<> store_limited(Loop& loop, Result<int>& out) {
  out = co_await limited(loop, 60'000, 60'000);
}

Task<> cancel_limited(Loop& loop, Result<int>& out) {
  Scope scope(loop);
  scope.spawn(store_limited(loop, out));
  co_await sleep_for(loop, milliseconds(1));
  co_await scope.cancel_and_join();
}

TEST_CASE("a cancellation from outside passes through with_deadline", "[io]") {
  Loop loop;
  Result<int> out = 0;
  loop.run(cancel_limited(loop, out));
  REQUIRE(!out);
  CHECK(is_cancelled(out.error()));
}

TEST_CASE("deadlines are not early, even after long work", "[io]") {
  Loop loop;
  const Deadline deadline = Deadline::in_ms(10);
  ::usleep(5000);  // the loop's cached clock is now old
  CHECK(loop.run(sleep_until(loop, deadline)) == Wake::kTimeout);
  CHECK(deadline.expired());
  CHECK(!Deadline::never().expired());
  CHECK(Deadline::in_ms(1).or_sooner(Deadline::never()).is_never() == false);
  CHECK(Deadline::in(std::chrono::nanoseconds::max()).is_never());
}

Task<Raced<Result<int>, Wake>> race_them(Loop& loop, int64_t a_ms, int64_t b_ms) {
  Task<Result<int>> a = answer_after(loop, a_ms);
  Task<Wake> b = sleep_for(loop, milliseconds(b_ms));
  Raced<Result<int>, Wake> raced = co_await race(loop, std::move(a), std::move(b));
  co_return std::move(raced);
}

TEST_CASE("race cancels the loser and gives both outcomes", "[io]") {
  Loop loop;
  const auto a_wins = loop.run(race_them(loop, 1, 60'000));
  CHECK(a_wins.a_first);
  CHECK(a_wins.a.value() == 42);
  CHECK(a_wins.b == Wake::kCancelled);
  const auto b_wins = loop.run(race_them(loop, 60'000, 1));
  CHECK(!b_wins.a_first);
  CHECK(is_cancelled(b_wins.a.error()));
  CHECK(b_wins.b == Wake::kTimeout);
}

Task<Result<>> hold_permit(Loop& loop, Semaphore& gate, int& holders, int& most) {
  const Deadline never = Deadline::never();
  GANTRY_CO_LET(const Semaphore::Permit permit, co_await gate.acquire(never));
  ++holders;
  most = std::max(most, holders);
  co_await sleep_for(loop, milliseconds(1));
  --holders;
  co_return Result<>();
}

Task<Result<>> many_holders(Loop& loop, Semaphore& gate, int& most) {
  int holders = 0;
  Scope scope(loop);
  for (int i = 0; i < 50; ++i) scope.spawn(hold_permit(loop, gate, holders, most));
  Result<> joined = co_await scope.join();
  co_return std::move(joined);
}

Task<bool> starve(Loop& loop, Semaphore& gate) {
  const Deadline never = Deadline::never();
  Result<Semaphore::Permit> one = co_await gate.acquire(never);
  Result<Semaphore::Permit> two = co_await gate.acquire(never);
  const Deadline soon = Deadline::in_ms(2);
  const Result<Semaphore::Permit> three = co_await gate.acquire(soon);
  if (three || !is_timeout(three.error())) co_return false;
  Task<Result<Semaphore::Permit>> waiting = gate.acquire(never);
  waiting.handle().resume();
  one->release();   // goes to `waiting`, which never takes it
  waiting.reset();  // and so comes back
  co_return gate.free() == 1;
}

TEST_CASE("a semaphore bounds its holders and loses no permit", "[io]") {
  Loop loop;
  Semaphore gate(loop, 2);
  int most = 0;
  CHECK(loop.run(many_holders(loop, gate, most)));
  CHECK(most == 2);
  CHECK(gate.free() == 2);
  CHECK(loop.run(starve(loop, gate)));
  CHECK(gate.free() == 2);
}

Task<> count_turns(Loop& loop, const bool& stop, int& turns) {
  while (!stop) {
    co_await checkpoint(loop);
    ++turns;
  }
}

Task<bool> not_starved(Loop& loop, int& turns) {
  bool stop = false;
  Scope scope(loop);
  scope.spawn(count_turns(loop, stop, turns));
  const Wake wake = co_await sleep_for(loop, milliseconds(2));
  stop = true;
  co_await scope.join();
  co_return wake == Wake::kTimeout;
}

TEST_CASE("a coroutine that never has to wait does not starve the others", "[io]") {
  Loop loop;
  int turns = 0;
  CHECK(loop.run(not_starved(loop, turns)));
  CHECK(turns > 16);
}

}  // namespace
}  // namespace gantry::io
