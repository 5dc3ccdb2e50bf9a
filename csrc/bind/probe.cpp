#include "dispatch/probe.hpp"

#include <algorithm>

#include "bind/arrays.hpp"

namespace tfcore {
namespace {

constexpr Index kMostAmount = Index(1) << 40;

template <class T> double probe_arithmetic(Index flops) {
  const WithoutGil released;
  return time_probe<T>(Probe::fma, nullptr, nullptr, flops / 2);
}

// Over arrays that NumPy allocated, as those of the operators are: in huge pages, where it asks for them.
double probe_memory(Probe kind, Index bytes) {
  const Index arrays = kind == Probe::copy ? 2 : 1;
  const Index count = std::max<Index>(kProbeBlock, bytes / Index(sizeof(float)) / arrays);
  const Array x = new_array({count}, NPY_FLOAT), out = arrays == 2 ? new_array({count}, NPY_FLOAT) : x;
  const WithoutGil released;
  std::fill_n(x.data<float>(), count, 1.0f);
  return time_probe<float>(kind, x.data<float>(), out.data<float>(), count);
}

// `amount` counts floating-point operations for fma, else bytes: those read and those written together.
double probe(py::handle kind_in, py::handle amount_in) {
  const Door door("probe");
  const std::string kind = door.word(kind_in, "kind");
  const Index amount = door.integer(amount_in, "amount", 1, kMostAmount);
  if (kind == "fma_float32") return probe_arithmetic<float>(amount);
  if (kind == "fma_float64") return probe_arithmetic<double>(amount);
  if (kind == "read") return probe_memory(Probe::read, amount);
  if (kind == "write") return probe_memory(Probe::write, amount);
  if (kind == "copy") return probe_memory(Probe::copy, amount);
  door.value_error("kind is '" + kind + "', expected 'fma_float32', 'fma_float64', 'read', 'write' or 'copy'");
}

}  // namespace

void bind_probe(py::module_& m) { m.def("probe", &probe, py::arg("kind"), py::arg("amount")); }

}  // namespace tfcore
