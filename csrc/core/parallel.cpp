#include "core/parallel.hpp"

#include <omp.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>

#include "core/memory.hpp"

namespace tfcore {
namespace {

std::atomic<int> g_max_threads{1};

// Below this much work for each thread, waking it costs more than it brings (measured: two threads win from 130 to 380
// kFLOP).
constexpr double kFlopsPerThread = 200e3;

// Scratch up to this size stays with its thread; larger scratch lives as long as the call that asked for it.
constexpr std::size_t kKeptScratch = std::size_t(4) << 20;

class Scratch {
 public:
  void* at_least(std::size_t bytes) {
    if (bytes > kKeptScratch) return (large_ = allocate_aligned<char>(bytes)).get();
    if (bytes > size_) kept_ = allocate_aligned<char>(bytes), size_ = bytes;
    return kept_.get();
  }
  void release_large() { large_.reset(); }

 private:
  AlignedArray<char> kept_, large_;
  std::size_t size_ = 0;
};

thread_local Scratch t_scratch;

// libgomp's threads do not survive fork: a child that waits for them hangs. So the pool is let go before every fork,
// and both sides make a new one when they next need it.
void release_pool_before_fork() { omp_pause_resource_all(omp_pause_hard); }

void survive_fork() {
  static std::once_flag once;
  std::call_once(once, [] { pthread_atfork(release_pool_before_fork, nullptr, nullptr); });
}

// What the threads of one run_tasks share.
class Run {
 public:
  Run(std::int64_t tasks, std::size_t scratch_bytes, TaskBody body)
      : tasks_(tasks), scratch_bytes_(scratch_bytes), body_(body) {}

  void work() noexcept {
    try {
      void* scratch = t_scratch.at_least(scratch_bytes_);
      for (std::int64_t task; (task = next_++) < tasks_;) body_(task, scratch);
    } catch (...) {
      next_ = tasks_;
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!error_) error_ = std::current_exception();
    }
    t_scratch.release_large();
  }

  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  const std::int64_t tasks_;
  const std::size_t scratch_bytes_;
  const TaskBody body_;
  std::atomic<std::int64_t> next_{0};
  std::mutex mutex_;
  std::exception_ptr error_;
};

}  // namespace

int max_threads() { return g_max_threads; }
void set_max_threads(int n) { g_max_threads = n; }

int threads_for(double flops) { return int(std::clamp(flops / kFlopsPerThread, 1.0, double(max_threads()))); }

void run_tasks(std::int64_t tasks, int threads, std::size_t scratch_bytes, TaskBody body) {
  if (tasks <= 0) return;
  Run run(tasks, scratch_bytes, body);
  threads = int(std::min<std::int64_t>(threads, tasks));
  if (threads == 1) {
    run.work();
  } else {
    survive_fork();
#pragma omp parallel num_threads(threads)
    run.work();
  }
  run.rethrow();
}

}  // namespace tfcore
