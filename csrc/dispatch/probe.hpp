#pragma once
// The probes of the machine, run on all threads.
#include "dispatch/isa.hpp"

namespace tfcore {

// Seconds of the fastest of several passes, after one that warms up. x and out have `count` elements; fma, which uses
// neither, is given as many multiply-adds. `count` is rounded down to whole blocks of kProbeBlock, but is at least one.
template <class T> double time_probe(Probe kind, const T* x, T* out, Index count);

}  // namespace tfcore
