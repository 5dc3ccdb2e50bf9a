#include "core/pool.hpp"

#include <sched.h>
#include <signal.h>

#include <algorithm>
#include <system_error>
#include <thread>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace tfcore {
namespace {

// Never destroyed: its threads may outlive every static. A forked child has none of them, and starts another pool.
std::atomic<Pool*> g_pool{nullptr};

Pool* start_pool() {
  static std::once_flag once;
  std::call_once(once, [] { pthread_atfork(nullptr, nullptr, [] { g_pool = nullptr; }); });
  Pool *fresh = new Pool, *current = nullptr;
  if (g_pool.compare_exchange_strong(current, fresh)) return fresh;
  delete fresh;
  return current;
}

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Until done() or the time is over; whether it was done.
template <class Done> bool spin(std::chrono::microseconds time, const Done& done) {
  const auto end = std::chrono::steady_clock::now() + time;
  do {
    for (int i = 0; i < 32; ++i) {
      if (done()) return true;
      pause();
    }
  } while (std::chrono::steady_clock::now() < end);
  return false;
}

// A thread that takes no signals: Ctrl-C is the main thread's.
template <class F> pthread_t start_thread(F f) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t handle;
  try {
    std::thread thread(f);
    handle = thread.native_handle();
    thread.detach();
  } catch (...) {
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    throw;
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return handle;
}

// Off the core this is called on, if the thread may run on another. Where it may run is as before, afterwards.
void move_elsewhere(pthread_t thread) {
  cpu_set_t allowed, others;
  if (pthread_getaffinity_np(thread, sizeof allowed, &allowed) != 0) return;
  others = allowed;
  CPU_CLR(sched_getcpu(), &others);
  if (CPU_COUNT(&others) == 0 || pthread_setaffinity_np(thread, sizeof others, &others) != 0) return;
  pthread_setaffinity_np(thread, sizeof allowed, &allowed);
}

}  // namespace

Pool::Lease Pool::acquire() {
  Pool* pool = g_pool;
  if (!pool) pool = start_pool();
  return Lease(pool->taken_.test_and_set(std::memory_order_acquire) ? nullptr : pool);
}

void Pool::grow(int helpers) {
  helpers_.reserve(std::size_t(helpers));  // so that nothing throws between a thread's start and its entry
  try {
    while (int(helpers_.size()) < helpers) {
      auto helper = std::make_unique<Helper>();
      helper->thread =
          start_thread([this, &helper = *helper, thread = int(helpers_.size()) + 1] { serve(helper, thread); });
      helpers_.push_back(std::move(helper));
    }
  } catch (const std::system_error&) {
    // no more threads to be had: those that are there do the work
  }
}

std::uint64_t Pool::wait_for_run(Helper& helper, std::uint64_t last) {
  std::uint64_t state;
  const auto begun = [&] { return number(state = state_.load()) != last; };
  if (spin(kSpin, begun)) return state;
  std::unique_lock<std::mutex> lock(helper.mutex);
  helper.asleep = true;
  helper.wake.wait(lock, begun);
  helper.asleep = false;
  return state;
}

// A helper says that it is inside before it looks whether the run is still open, and the caller closes a run before it
// looks for those inside: one of the two sees the other.
void Pool::serve(Helper& helper, int thread) {
  for (std::uint64_t last = 0;;) {
    const std::uint64_t state = wait_for_run(helper, last);
    last = number(state);
    if (!(state & kOpen) || thread > wanted(state)) continue;
    helper.inside = true;
    if (state_ == state) {
      helper.joined.store(last, std::memory_order_relaxed);
      work_(run_, thread);
    }
    helper.inside.store(false, std::memory_order_release);
  }
}

// A sleeper says so before it looks at the state for the last time, and the state is set before anyone looks for
// sleepers: one of the two sees the other.
void Pool::wake(int helpers) {
  for (int i = 0; i < helpers; ++i) {
    Helper& helper = *helpers_[std::size_t(i)];
    if (!helper.asleep) continue;
    { const std::lock_guard<std::mutex> lock(helper.mutex); }
    helper.wake.notify_one();
  }
}

void Pool::wait_for_those_inside(int helpers) {
  for (int i = 0; i < helpers; ++i) {
    const std::atomic<bool>& inside = helpers_[std::size_t(i)]->inside;
    while (inside && !spin(kSpin, [&] { return !inside; })) std::this_thread::yield();
  }
}

void Pool::look_for_missing(int helpers, std::chrono::steady_clock::time_point begun) {
  for (int i = 0; i < helpers; ++i) {
    Helper& helper = *helpers_[std::size_t(i)];
    const std::uint64_t joined = helper.joined;
    if (joined == number(state_)) continue;
    if (helper.missing_since != joined) helper.missing_since = joined, helper.missed = {};
    helper.missed += std::chrono::steady_clock::now() - begun;
    if (helper.missed < kPatience) continue;
    move_elsewhere(helper.thread), helper.missed = {};
  }
}

void Pool::run(int threads, Work work, void* run) {
  const int helpers = std::min(threads - 1, kMostHelpers);
  grow(helpers);
  const int present = std::min(helpers, int(helpers_.size()));
  const auto begun = std::chrono::steady_clock::now();
  work_ = work, run_ = run;
  const std::uint64_t state = (number(state_) + 1) * kNumber + std::uint64_t(present) * kWanted;
  state_ = state + kOpen;
  wake(present);
  work(run, 0);
  state_ = state;
  wait_for_those_inside(present);
  look_for_missing(present, begun);
}

}  // namespace tfcore
