#pragma once
// 64-byte aligned storage: a cache line, and the widest register.
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

namespace tfcore {

struct FreeAligned {
  void operator()(void* p) const { std::free(p); }
};

template <class T> using AlignedArray = std::unique_ptr<T[], FreeAligned>;

// Uninitialised; throws std::bad_alloc, also for sizes that overflow.
template <class T> AlignedArray<T> allocate_aligned(std::size_t count) {
  if (count > (std::size_t(-1) - 64) / sizeof(T)) throw std::bad_alloc();
  const std::size_t bytes = (count * sizeof(T) + 63) / 64 * 64;
  void* p = std::aligned_alloc(64, bytes ? bytes : 64);
  if (!p) throw std::bad_alloc();
  return AlignedArray<T>(static_cast<T*>(p));
}

}  // namespace tfcore
