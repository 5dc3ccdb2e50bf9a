#pragma once
// Storage that stays when its user is done, for the next one to find as it was: fresh pages cost the system a fault and
// a clearing each, 3 to 6 % of a small encoder's pass on two threads and far more on 16.
#include <atomic>
#include <cstddef>

#include "core/memory.hpp"

namespace tfcore {

// Keeps one piece, the last that was given back; a second user at the same time has one of its own. Pieces that malloc
// can keep itself, and those above kMostKept, are not kept.
class KeptStorage {
 public:
  // At least `bytes`, uninitialised; what was kept, if it is no larger than `most`.
  AlignedArray<char> take(std::size_t bytes, std::size_t most = std::size_t(-1));
  void give_back(AlignedArray<char> piece);

 private:
  static constexpr std::size_t kMostKept = std::size_t(64) << 20;

  std::atomic<AlignedArray<char>*> kept_{nullptr};  // never destroyed: arrays outlive statics
};

// A piece for as long as this lives.
class Workspace {
 public:
  explicit Workspace(std::size_t floats);
  ~Workspace();
  float* data() const { return reinterpret_cast<float*>(piece_.get()); }

 private:
  AlignedArray<char> piece_;
};

}  // namespace tfcore
