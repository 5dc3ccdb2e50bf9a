#pragma once
// The threads that help a caller with one run of tasks, kept between runs.
//
// Nobody waits for a thread that has not come: a helper enters a run only while it is open, the caller closes it once
// the tasks are gone, and then waits for those inside alone. So a core that something else keeps busy costs its share
// of the work and no more, where a barrier would cost a time slice. An idle helper spins for kSpin and then sleeps. One
// that stays away is asked to leave the caller's own core, where the system may have put it while another library's
// threads kept the rest busy; there it would wait for as long as the caller works.
//
// The caller alone writes the state of a run, and each helper a line of its own: with counters that all of them wrote,
// a product of 16 x 384 x 384 took 19 instead of 16 µs on 16 threads.
#include <pthread.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

namespace tfcore {

class Pool {
 public:
  using Work = void (*)(void* run, int thread);

  struct GiveBack {
    void operator()(Pool* pool) const { pool->taken_.clear(std::memory_order_release); }
  };
  using Lease = std::unique_ptr<Pool, GiveBack>;

  // The pool, or null if somebody is using it: a second caller at the same time works alone.
  static Lease acquire();

  // work(run, i) on this thread (i = 0) and on those of `threads` - 1 helpers that come before it is done here.
  void run(int threads, Work work, void* run);

 private:
  // How long an idle helper stays awake: longer than what lies between the operators of a model.
  static constexpr std::chrono::microseconds kSpin{200};
  // How long the runs that a helper missed may have taken before it is moved: several times as long as it takes to
  // wake.
  static constexpr std::chrono::microseconds kPatience{1000};

  struct alignas(64) Helper {
    std::atomic<bool> inside{false};
    std::atomic<std::uint64_t> joined{0};  // the last run it entered
    alignas(64) std::atomic<bool> asleep{false};
    pthread_t thread;
    std::mutex mutex;
    std::condition_variable wake;
    std::uint64_t missing_since = 0;  // the caller's notes: the last run before those it missed, and their time
    std::chrono::steady_clock::duration missed{};
  };

  void grow(int helpers);
  void serve(Helper& helper, int thread);
  std::uint64_t wait_for_run(Helper& helper, std::uint64_t last);
  void wake(int helpers);
  void wait_for_those_inside(int helpers);
  void look_for_missing(int helpers, std::chrono::steady_clock::time_point begun);

  // The run at hand: its number, whether it is open, and how many helpers it wants.
  static constexpr std::uint64_t kOpen = 1, kWanted = 2, kNumber = std::uint64_t(1) << 32;
  static constexpr int kMostHelpers = 0x7fff;
  static std::uint64_t number(std::uint64_t state) { return state / kNumber; }
  static int wanted(std::uint64_t state) { return int(state / kWanted) & kMostHelpers; }

  alignas(64) std::atomic<std::uint64_t> state_{0};
  Work work_ = nullptr;  // written while no run is open and nobody inside
  void* run_ = nullptr;
  alignas(64) std::atomic_flag taken_ = ATOMIC_FLAG_INIT;
  std::vector<std::unique_ptr<Helper>> helpers_;
};

}  // namespace tfcore
