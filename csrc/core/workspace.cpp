#include "core/workspace.hpp"

#include <atomic>

namespace tfcore {
namespace {

// The largest piece that stays with the process. One stays; a second call at the same time makes its own.
constexpr std::size_t kKeptFloats = std::size_t(16) << 20;

}  // namespace

std::unique_ptr<Workspace::Piece> Workspace::exchange_kept(std::unique_ptr<Piece> piece) {
  static std::atomic<Piece*> kept{nullptr};
  return std::unique_ptr<Piece>(kept.exchange(piece.release()));
}

Workspace::Workspace(std::size_t floats) : piece_(exchange_kept(nullptr)) {
  if (piece_ && piece_->floats >= floats) return;
  piece_.reset();
  piece_.reset(new Piece{allocate_aligned<float>(floats), floats});
}

Workspace::~Workspace() {
  if (piece_ && piece_->floats <= kKeptFloats) exchange_kept(std::move(piece_));
}

}  // namespace tfcore
