#include "dispatch/probe.hpp"

#include <algorithm>
#include <chrono>
#include <limits>

#include "core/parallel.hpp"

namespace tfcore {
namespace {

constexpr int kLeastPasses = 3;
constexpr double kLeastSeconds = 0.02;  // longer than others have a core at a time
constexpr Index kTasksPerThread = 4;    // as the operators split their work

template <class T> void run_probe(Probe kind, const T* x, T* out, Index blocks) {
  const Index tasks = std::min(blocks, max_threads() * kTasksPerThread);
  const auto body = [&](Index task, void*) {
    kernels().of<T>().probe(kind, x, out, blocks * task / tasks * kProbeBlock,
                            blocks * (task + 1) / tasks * kProbeBlock);
  };
  run_tasks(tasks, max_threads(), 0, TaskBody(body));
}

}  // namespace

template <class T> double time_probe(Probe kind, const T* x, T* out, Index count) {
  using Clock = std::chrono::steady_clock;
  const Index blocks = std::max<Index>(1, count / kProbeBlock);
  run_probe(kind, x, out, blocks);
  double fastest = std::numeric_limits<double>::infinity(), spent = 0;
  for (int pass = 0; pass < kLeastPasses || spent < kLeastSeconds; ++pass) {
    const Clock::time_point start = Clock::now();
    run_probe(kind, x, out, blocks);
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    fastest = std::min(fastest, seconds), spent += seconds;
  }
  return fastest;
}

template double time_probe<float>(Probe, const float*, float*, Index);
template double time_probe<double>(Probe, const double*, double*, Index);

}  // namespace tfcore
