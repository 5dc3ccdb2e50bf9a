#include "bind/dequantize.hpp"

#include "dispatch/operators.hpp"

namespace tfcore {
namespace {

py::object dequantize_bytes(py::handle kind_in, py::handle data_in, py::handle count_in) {
  Door door("dequantize");
  const Stored kind = stored_kind(door, kind_in, "kind");
  Array data = door.array(data_in, "data", false);
  if (data.type() != NPY_UINT8) door.type_error("data has dtype " + data.dtype() + ", expected uint8");
  const StoredForm block = kStoredForms[int(kind)];
  const Index count = door.integer(count_in, "count", 0, NPY_MAX_INT64);
  const Index blocks = count / block.numbers;
  if (count % block.numbers)
    door.value_error("count is " + std::to_string(count) + ", expected a multiple of " + std::to_string(block.numbers));
  if (data.size() % block.bytes || data.size() / block.bytes != blocks)
    door.value_error("data has " + std::to_string(data.size()) + " bytes, expected " + std::to_string(block.bytes) +
                     " for every " + std::to_string(block.numbers) + " of " + std::to_string(count) + " numbers");
  data = Array::steal(PyArray_FromArray(data.get(), PyArray_DescrFromType(NPY_UINT8), NPY_ARRAY_CARRAY_RO));
  const Array out = new_array({count}, NPY_FLOAT);
  {
    const WithoutGil released(double(count) * 8);
    dequantize(kind, data.data<std::uint8_t>(), out.data<float>(), blocks);
  }
  return out.object();
}

}  // namespace

Stored stored_kind(const Door& door, py::handle word, const char* label) {
  return door.one_of<Stored>(word, label,
                             {{"F16", Stored::f16},
                              {"BF16", Stored::bf16},
                              {"Q8_0", Stored::q8_0},
                              {"Q4_0", Stored::q4_0},
                              {"Q4_1", Stored::q4_1},
                              {"Q5_0", Stored::q5_0},
                              {"Q5_1", Stored::q5_1},
                              {"Q4_K", Stored::q4_k},
                              {"Q5_K", Stored::q5_k},
                              {"Q6_K", Stored::q6_k}});
}

void bind_dequantize(py::module_& m) {
  m.def("dequantize", &dequantize_bytes, py::arg("kind"), py::arg("data"), py::arg("count"));
}

}  // namespace tfcore
