#pragma once
// Storage that one call works in and the next one finds as it was: fresh pages would cost the system a fault and a
// clearing each, 3 % of a small encoder's pass on two threads and more on many.
#include <cstddef>
#include <memory>

#include "core/memory.hpp"

namespace tfcore {

class Workspace {
 public:
  explicit Workspace(std::size_t floats);  // uninitialised
  ~Workspace();
  float* data() const { return piece_->storage.get(); }

 private:
  struct Piece {
    AlignedArray<float> storage;
    std::size_t floats;
  };
  static std::unique_ptr<Piece> exchange_kept(std::unique_ptr<Piece> piece);

  std::unique_ptr<Piece> piece_;
};

}  // namespace tfcore
