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
template <Probe kind> double probe_memory(Index bytes) {
  const Index arrays = kind == Probe::copy ? 2 : 1;
  const Index count = std::max<Index>(kProbeBlock, bytes / Index(sizeof(float)) / arrays);
  const Array x = new_array({count}, NPY_FLOAT), out = arrays == 2 ? new_array({count}, NPY_FLOAT) : x;
  const WithoutGil released;
  std::fill_n(x.data<float>(), count, 1.0f);
  return time_probe<float>(kind, x.data<float>(), out.data<float>(), count);
}

// `amount` counts floating-point operations for fma, else bytes: those read and those written together.
double probe(py::handle kind, py::handle amount) {
  const Door door("probe");
  const auto measure = door.one_of<double (*)(Index)>(kind, "kind",
                                                      {{"fma_float32", &probe_arithmetic<float>},
                                                       {"fma_float64", &probe_arithmetic<double>},
                                                       {"read", &probe_memory<Probe::read>},
                                                       {"write", &probe_memory<Probe::write>},
                                                       {"copy", &probe_memory<Probe::copy>}});
  return measure(door.integer(amount, "amount", 1, kMostAmount));
}

}  // namespace

void bind_probe(py::module_& m) { m.def("probe", &probe, py::arg("kind"), py::arg("amount")); }

}  // namespace tfcore
