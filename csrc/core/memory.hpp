#pragma once
// 64-byte aligned storage: a cache line, and the widest register.
#include <sys/mman.h>

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

namespace tfcore {

// From this size on storage is mapped, and goes back to the system at once. malloc raises its own limit to the largest
// piece it was given back, up to 32 MB, and the holes that passes of varying size then leave in its heap add up: 30 MB
// over 20 000 texts.
constexpr std::size_t kMappedBytes = std::size_t(1) << 20;

struct FreeAligned {
  std::size_t mapped = 0;  // bytes; 0 for malloc's

  void operator()(void* p) const {
    if (mapped) munmap(p, mapped);
    else std::free(p);
  }
};

template <class T> using AlignedArray = std::unique_ptr<T[], FreeAligned>;

// Uninitialised; throws std::bad_alloc, also for sizes that overflow.
template <class T> AlignedArray<T> allocate_aligned(std::size_t count) {
  if (count > (std::size_t(-1) - 64) / sizeof(T)) throw std::bad_alloc();
  const std::size_t bytes = count ? (count * sizeof(T) + 63) / 64 * 64 : 64;
  if (bytes < kMappedBytes) {
    void* p = std::aligned_alloc(64, bytes);
    if (!p) throw std::bad_alloc();
    return AlignedArray<T>(static_cast<T*>(p));
  }
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  return AlignedArray<T>(static_cast<T*>(p), FreeAligned{bytes});
}

}  // namespace tfcore
