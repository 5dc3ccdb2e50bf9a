#include "dispatch/isa.hpp"

#include <atomic>

namespace tfcore {

#if defined(__x86_64__)
extern const KernelTable kernels_x86_64_v2, kernels_x86_64_v3, kernels_x86_64_v4;
extern const KernelTable kernels_x86_64_v4_lowered;  // only with TFCORE_TEST_ISAS
#else
extern const KernelTable kernels_neon;
#endif

namespace {

struct Candidate {
  const KernelTable* table;
  bool available;
  bool offered = true;  // no: used when asked for by name, never by default
};

// Best first. A level is taken only when the CPU has all of what its compiler flag allows the kernels to use.
std::vector<Candidate> candidates() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool v2 = __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt");
  const bool v3 = v2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                  __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("f16c") &&
                  __builtin_cpu_supports("lzcnt") && __builtin_cpu_supports("movbe");
  const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512vl");
  return {
      {&kernels_x86_64_v4, v4},
      {&kernels_x86_64_v3, v3},
      {&kernels_x86_64_v2, v2},
#if defined(TFCORE_TEST_ISAS)
      {&kernels_x86_64_v4_lowered, v3, false},
#endif
  };
#else
  return {{&kernels_neon, true}};
#endif
}

std::atomic<const KernelTable*> g_kernels{nullptr};

}  // namespace

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const Candidate& c : candidates())
    if (c.available && c.offered) names.emplace_back(c.table->isa);
  return names;
}

bool use_isa(const std::string& name) {
  for (const Candidate& c : candidates())
    if (c.available && name == c.table->isa) {
      g_kernels = c.table;
      return true;
    }
  return false;
}

const KernelTable& kernels() { return *g_kernels.load(std::memory_order_relaxed); }

}  // namespace tfcore
