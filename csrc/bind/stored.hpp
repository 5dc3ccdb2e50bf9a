#pragma once
// Tensors as a file stores them.
#include "bind/arrays.hpp"

namespace tfcore {

// The kind of a name ("Q4_1") as GGUF files have them.
Stored stored_kind(const Door& door, py::handle name);

}  // namespace tfcore
