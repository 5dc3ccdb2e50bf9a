#include "core/huge_pages.hpp"

#include <algorithm>

namespace tfcore {
namespace {

constexpr std::size_t kHugePage = std::size_t(1) << 21;
constexpr std::size_t kPage = std::size_t(1) << 16;  // the largest ordinary one

std::size_t rounded_up(std::size_t bytes, std::size_t unit) { return (bytes + unit - 1) / unit * unit; }

// `bytes`, whole pages, from the beginning of a huge one on.
std::shared_ptr<char[]> map(std::size_t bytes) {
  const std::size_t all = bytes + kHugePage;
  void* const found = mmap(nullptr, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (found == MAP_FAILED) throw std::bad_alloc();
  char* const begin = static_cast<char*>(found);
  const std::size_t before = rounded_up(std::size_t(begin), kHugePage) - std::size_t(begin);
  if (before) munmap(begin, before);
  munmap(begin + before + bytes, all - before - bytes);
  madvise(begin + before, bytes, MADV_HUGEPAGE);  // a wish
  return AlignedArray<char>(begin + before, FreeAligned{bytes});
}

}  // namespace

char* HugePages::take_bytes(std::size_t bytes) {
  if (!mapping_ || bytes > size_ - used_) {
    const std::size_t size = rounded_up(std::max(bytes, least_), kPage);
    mapping_ = map(size), size_ = size, used_ = 0;
  }
  char* const piece = mapping_.get() + used_;
  used_ = std::min(size_, used_ + rounded_up(bytes, 64));
  return piece;
}

}  // namespace tfcore
