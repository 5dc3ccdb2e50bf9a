#define TFCORE_IMPORTS_NUMPY
#include "bind/arrays.hpp"
#include "core/parallel.hpp"
#include "dispatch/isa.hpp"

namespace tfcore {
namespace {

void import_numpy() {
  if (_import_array() < 0) throw py::error_already_set();
}

void bind_runtime(py::module_& m) {
  m.def("get_num_threads", &max_threads);
  m.def(
      "set_num_threads", [](py::handle n) { set_max_threads(int(Door("set_num_threads").integer(n, "n", 1, 4096))); },
      py::arg("n"));
  m.def("isa", [] { return kernels().isa; });
  m.def("available_isas", [] {
    py::list names;
    for (const std::string& name : available_isas()) names.append(name);
    return py::tuple(names);
  });
  m.def(
      "set_isa",
      [](py::handle name_in) {
        const Door door("use_isa");
        const std::string name = door.word(name_in, "name");
        if (use_isa(name)) return;
        std::string offered;
        for (const std::string& each : available_isas()) offered += (offered.empty() ? "'" : ", '") + each + "'";
        door.value_error("name is '" + name + "', expected one of what this machine and build offer: " + offered);
      },
      py::arg("name"));
  m.attr("compiler") = "g++ " __VERSION__;
  m.attr("__version__") = TFCORE_VERSION;
}

}  // namespace
}  // namespace tfcore

PYBIND11_MODULE(_core, m) {
  using namespace tfcore;
  import_numpy();
  const std::vector<std::string> isas = available_isas();
  if (isas.empty()) throw py::import_error("tfcore needs a CPU with SSE4.2 and POPCNT (x86-64-v2)");
  use_isa(isas.front());
  bind_runtime(m);
  bind_attention(m);
  bind_layers(m);
  bind_positions(m);
  bind_stack(m);
  bind_dequantize(m);
  bind_probe(m);
}
