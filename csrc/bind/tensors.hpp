#pragma once
// The tensors of a stack by name, each checked against the shape that the others ask for.
#include "bind/arrays.hpp"
#include "model/stack.hpp"

namespace tfcore {

StackParts read_stack(const Door& door, py::dict spec, py::object tensors, py::object stored);

}  // namespace tfcore
