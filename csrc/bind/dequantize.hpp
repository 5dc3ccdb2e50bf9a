#pragma once
// Tensors as a file stores them.
#include "bind/arrays.hpp"

namespace tfcore {

// The kind that a word stands for ("Q4_1"), as GGUF files name them; `label` is the argument's name.
Stored stored_kind(const Door& door, py::handle word, const char* label);

}  // namespace tfcore
