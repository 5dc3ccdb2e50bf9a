#pragma once
// Splitting work over threads: the only door to them in the project.
#include <cstddef>
#include <cstdint>

namespace tfcore {

int max_threads();
void set_max_threads(int n);

// Threads worth waking for this many floating-point operations: small work stays on the calling thread.
int threads_for(double flops);

// A callable of (task, scratch) without ownership or allocation.
class TaskBody {
 public:
  template <class F> explicit TaskBody(const F& f)
      : object_(&f),
        call_([](const void* f, std::int64_t task, void* scratch) { (*static_cast<const F*>(f))(task, scratch); }) {}
  void operator()(std::int64_t task, void* scratch) const { call_(object_, task, scratch); }

 private:
  const void* object_;
  void (*call_)(const void*, std::int64_t, void*);
};

// body(task, scratch) for every task in [0, tasks), each once, by at most `threads` threads: each takes a range of its
// own in order, then what is left of the others'. `scratch` holds scratch_bytes, 64-byte aligned, the thread's own,
// uninitialised. The first exception of a task is thrown here.
void run_tasks(std::int64_t tasks, int threads, std::size_t scratch_bytes, TaskBody body);

template <class F> void parallel_for(std::int64_t tasks, double flops, std::size_t scratch_bytes, const F& body) {
  run_tasks(tasks, threads_for(flops), scratch_bytes, TaskBody(body));
}

}  // namespace tfcore
