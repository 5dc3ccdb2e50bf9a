#include <algorithm>
#include <cmath>

#include "bind/arrays.hpp"
#include "bind/operators.hpp"
#include "dispatch/operators.hpp"

namespace tfcore {
namespace {

// Sizes past this would overflow the product of an array's sides.
constexpr Index kMostSize = Index(1) << 40;

template <class T> void run_positions(const Output& out, const Array& frequencies, Index offset, bool split) {
  const Index rows = out.array().dim(0), width = out.array().dim(1);
  PositionArgs<T> a{};
  a.model_width = width, a.offset = offset, a.split = split;
  a.columns = frequencies.dim(0), a.frequencies = frequencies.data<double>();
  a.largest = *std::max_element(a.frequencies, a.frequencies + a.columns);
  a.out = out.data<T>();
  const WithoutGil released(64.0 * double(rows) * double(width));
  positions(a, rows);
}

// One a pair of columns, or one a column: the sines', then the cosines'.
Array geometric_frequencies(Index width, double base) {
  Array all = new_array({(width + 1) / 2}, NPY_DOUBLE);
  for (Index i = 0; i < all.dim(0); ++i) all.data<double>()[i] = std::pow(base, -2.0 * double(i) / double(width));
  return all;
}

Array linear_frequencies(Index width) {
  const Index sines = (width + 1) / 2;
  Array all = new_array({width}, NPY_DOUBLE);
  for (Index i = 0; i < width; ++i)
    all.data<double>()[i] = double(i < sines ? 2 * i : 2 * (i - sines) + 1) / double(width);
  return all;
}

py::object positional_encoding(py::handle seq_len, py::handle d_model, py::handle base_in, py::handle offset,
                               py::handle layout, py::handle frequencies, py::handle dtype, py::handle out) {
  Door door("positional_encoding");
  const Index rows = door.integer(seq_len, "seq_len", 0, kMostSize),
              width = door.integer(d_model, "d_model", 0, kMostSize);
  const double base = door.number(base_in, "base");
  if (!(base > 0)) door.value_error("base is " + std::string(py::str(base_in)) + ", expected a positive number");
  const Index first = door.integer(offset, "offset", -kMostSize, kMostSize);
  const bool split = door.one_of<bool>(layout, "layout", {{"interleaved", false}, {"split", true}});
  const bool linear = door.one_of<bool>(frequencies, "frequencies", {{"geometric", false}, {"linear", true}});
  PyArray_Descr* descr = nullptr;
  const int type = PyArray_DescrConverter(dtype.ptr(), &descr) ? descr->type_num : NPY_NOTYPE;
  Py_XDECREF(descr);
  PyErr_Clear();
  if (type != NPY_HALF && type != NPY_FLOAT && type != NPY_DOUBLE)
    door.type_error("dtype is " + std::string(py::str(dtype)) + ", expected float16, float32 or float64");
  door.use_type(type);
  const Output output = door.output(out, {rows, width});
  if (rows == 0 || width == 0) return output.finish();
  const Array table = linear ? linear_frequencies(width) : geometric_frequencies(width, base);
  door.in_type([&](auto t) { run_positions<decltype(t)>(output, table, first, split); });
  return output.finish();
}

template <class T> void run_rotary(const Array& x, const Array& positions, const Array& frequencies, bool interleaved,
                                   double magnitude, const Output& out) {
  RotaryArgs<T> a{};
  a.rows = x.dim(-2), a.width = x.dim(-1), a.rotary = 2 * frequencies.dim(0);
  a.frequencies = frequencies.data<double>(), a.interleaved = interleaved, a.magnitude = magnitude;
  a.row_stride = a.width, a.lead_stride = a.rows * a.width;
  const Index matrices = x.size() / (a.rows * a.width), position_rows = positions.size() / a.rows;
  a.lead = matrices / position_rows;  // each row of positions serves as many (L, D) matrices
  const WithoutGil released(double(x.size()) * 8);
  for (Index i = 0; i < position_rows; ++i) {
    const Index first = i * a.lead * a.lead_stride;
    a.x = x.data<T>() + first, a.out = out.data<T>() + first;
    a.positions = positions.data<double>() + i * a.rows;
    rotary(a);
  }
}

// x (…, L, D); positions (P, L) in double, where P divides the number of (L, D) matrices; frequencies (rotary / 2,).
py::object rotary_embedding(py::handle x_in, py::handle positions_in, py::handle frequencies_in, py::handle interleaved,
                            py::handle magnitude, py::handle out) {
  Door door("rotary_embedding");
  Array x = door.array(x_in, "x");
  Door doubles("rotary_embedding");
  doubles.use_type(NPY_DOUBLE);
  const Array positions = doubles.ready(doubles.array(positions_in, "positions"), Layout::contiguous);
  const Array frequencies = doubles.ready(doubles.array(frequencies_in, "frequencies"), Layout::contiguous);
  x = door.ready(x, Layout::contiguous);
  const bool pairs = door.flag(interleaved, "interleaved");
  const double factor = door.number(magnitude, "magnitude");
  const Output output = door.output(out, x.shape(), Overlap::in_place);
  if (x.size() == 0) return output.finish();
  if (!(positions.ndim() == 2 && positions.dim(1) == x.dim(-2) && positions.dim(0) > 0 &&
        x.size() / (x.dim(-1) * x.dim(-2)) % positions.dim(0) == 0 && 2 * frequencies.dim(0) <= x.dim(-1)))
    door.value_error("positions and frequencies do not match x");
  door.in_type([&](auto t) { run_rotary<decltype(t)>(x, positions, frequencies, pairs, factor, output); });
  return output.finish();
}

}  // namespace

void bind_positions(py::module_& m) {
  define_operator<&positional_encoding>(m, "positional_encoding");
  define_operator<&rotary_embedding>(m, "rotary_embedding");
}

}  // namespace tfcore
