#include "core/kept.hpp"

namespace tfcore {
namespace {

KeptStorage g_workspace;

}  // namespace

AlignedArray<char> KeptStorage::take(std::size_t bytes, std::size_t most) {
  std::unique_ptr<AlignedArray<char>> kept(kept_.exchange(nullptr));
  if (kept && kept->get_deleter().mapped >= bytes && kept->get_deleter().mapped <= most) return std::move(*kept);
  kept.reset();
  return allocate_aligned<char>(bytes);
}

void KeptStorage::give_back(AlignedArray<char> piece) {
  const std::size_t bytes = piece.get_deleter().mapped;
  if (bytes == 0 || bytes > kMostKept) return;
  if (auto* const place = new (std::nothrow) AlignedArray<char>(std::move(piece))) delete kept_.exchange(place);
}

Workspace::Workspace(std::size_t floats) : piece_(g_workspace.take(floats * sizeof(float))) {}
Workspace::~Workspace() { g_workspace.give_back(std::move(piece_)); }

}  // namespace tfcore
