#pragma once
// The choice of instruction set.
#include <string>
#include <vector>

#include "kernels/table.hpp"

namespace tfcore {

// Names this machine and build offer, best first.
std::vector<std::string> available_isas();

// The table that use_isa chose.
const KernelTable& kernels();

// False when `name` is not among available_isas(), nor one of a test build's that this CPU can run.
bool use_isa(const std::string& name);

}  // namespace tfcore
