#pragma once
// Arrays for results too large for malloc to keep: from 32 MB on it maps each anew and gives it back at once, so that
// every call would pay for fresh pages; of 9 ms for 8192 x 512 float64 sines those took 4.
#include "bind/arrays.hpp"

namespace tfcore {

constexpr double kLargeResult = 1 << 25;  // bytes

// While it lives, new arrays of this thread own storage that stays with the process when they are gone (NEP 49).
class KeepsResults {
 public:
  KeepsResults();
  ~KeepsResults();

 private:
  PyObject* before_;
};

}  // namespace tfcore
