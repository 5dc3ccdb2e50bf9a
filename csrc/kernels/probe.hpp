#pragma once
// What the machine can do at most, to hold measured speeds against: fused multiply-adds that stay in registers, and
// streams through memory. Loads and stores are ordinary ones, as in the other kernels: a stored line is read first.
#include "kernels/table.hpp"
#include "simd/vec.hpp"

namespace tfcore {
namespace {

// Sums that do not wait for each other: more than latency times ports of any core that has this many registers.
constexpr int kProbeChains = kVecRegisters == 32 ? 16 : 12;
constexpr int kProbeStreams = 8;  // registers of one step through memory

template <class T, int n> TFCORE_INLINE T total(const Vec<T> (&parts)[n]) {
  Vec<T> all{};
  for (const Vec<T>& part : parts) all += part;
  T sum = 0;
  for (int i = 0; i < lanes<T>; ++i) sum += all[i];
  return sum;
}

template <class T> T probe_fma(Index count) {
  const Vec<T> half = splat(T(0.5));
  Vec<T> sums[kProbeChains];
  for (int i = 0; i < kProbeChains; ++i) sums[i] = splat(T(i));
  for (Index done = 0; done < count; done += kProbeChains * lanes<T>)
#pragma GCC unroll 16
    for (Vec<T>& sum : sums) sum = fma(sum, half, half);
  return total<T>(sums);
}

template <class T> T probe_read(const T* x, Index count) {
  Vec<T> sums[kProbeStreams] = {};
  for (Index i = 0; i < count; i += kProbeStreams * lanes<T>)
#pragma GCC unroll 8
    for (int j = 0; j < kProbeStreams; ++j) sums[j] += load(x + i + j * lanes<T>);
  return total<T>(sums);
}

template <class T> void probe_write(T* out, Index count) {
  for (Index i = 0; i < count; i += lanes<T>) store(out + i, splat(T(1)));
}

template <class T> void probe_copy(const T* x, T* out, Index count) {
  for (Index i = 0; i < count; i += lanes<T>) store(out + i, load(x + i));
}

// The elements begin to end, both multiples of kProbeBlock; for fma, that many multiply-adds. The sum of what was read
// or computed, so that it is.
template <class T> T probe(Probe kind, const T* x, T* out, Index begin, Index end) {
  switch (kind) {
    case Probe::fma:
      return probe_fma<T>(end - begin);
    case Probe::read:
      return probe_read(x + begin, end - begin);
    case Probe::write:
      probe_write(out + begin, end - begin);
      return 0;
    case Probe::copy:
      probe_copy(x + begin, out + begin, end - begin);
      return 0;
  }
  return 0;
}

}  // namespace
}  // namespace tfcore
