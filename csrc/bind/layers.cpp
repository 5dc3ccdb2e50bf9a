#include <algorithm>
#include <optional>

#include "bind/arrays.hpp"
#include "bind/late.hpp"
#include "bind/operators.hpp"
#include "dispatch/operators.hpp"

namespace tfcore {
namespace {

Index rows_of(const Array& a) { return product(leading(a, 1)); }

// --- matmul ----------------------------------------------------------------------------------------------------------

struct Product {
  Shape batch;
  Index m, n, k;
  Array a, b;
  bool a_vector, b_vector;
};

template <class T> void run_matmul(const Product& p, const Output& out) {
  const LeadingOffsets a_at(p.a, p.batch, p.a_vector ? 1 : 2), b_at(p.b, p.batch, p.b_vector ? 1 : 2);
  const Index batch = product(p.batch);
  const WithoutGil released(2.0 * double(batch) * double(p.m) * double(p.n) * double(p.k));
  gemm_batch<T>(batch, [&](Index i) {
    GemmArgs<T> g{};
    g.m = p.m, g.n = p.n, g.k = p.k;
    g.a = p.a.data<T>() + a_at(i), g.a_row = p.a_vector ? 0 : p.a.stride(-2);
    g.b = p.b.data<T>() + b_at(i);
    g.b_row = p.b_vector ? p.b.stride(-1) : p.b.stride(-2), g.b_column = p.b_vector ? 1 : p.b.stride(-1);
    g.c = out.data<T>() + i * p.m * p.n;
    return g;
  });
}

py::object matmul(py::handle a_in, py::handle b_in, py::handle out) {
  Door door("matmul");
  Product p;
  p.a = door.array(a_in, "a"), p.b = door.array(b_in, "b");
  door.expect_rank(p.a, "a", 1), door.expect_rank(p.b, "b", 1);
  p.a_vector = p.a.ndim() == 1, p.b_vector = p.b.ndim() == 1;
  p.m = p.a_vector ? 1 : p.a.dim(-2), p.k = p.a.dim(-1), p.n = p.b_vector ? 1 : p.b.dim(-1);
  const Index b_rows = p.b_vector ? p.b.dim(0) : p.b.dim(-2);
  if (b_rows != p.k)
    door.value_error(shaped("b", p.b) + ", expected " + std::to_string(p.k) + " rows to match a, " + text(p.a.shape()));
  p.batch = broadcast(door, leading(p.a, 2), p.a, "b", p.b, 2);
  Shape shape = p.batch;
  if (!p.a_vector) shape.push_back(p.m);
  if (!p.b_vector) shape.push_back(p.n);
  p.a = door.ready(p.a, Layout::rows), p.b = door.ready(p.b, Layout::any);
  const Output output = door.output(out, shape);
  door.in_type([&](auto t) { run_matmul<decltype(t)>(p, output); });
  return output.finish();
}

// --- linear ----------------------------------------------------------------------------------------------------------

// What the arguments of a product are called where it is asked for.
struct Names {
  const char *x, *weight, *bias;
};

constexpr Names kLinearNames = {"x", "weight", "bias"};

// What linear and PackedLinear share: x (…, K), and what follows the product.
struct LinearCall {
  Names names;
  Array x, bias, residual;
  Index m, k;
  Activation activation;

  // Takes everything but the weights, which come between x and bias so that messages follow the signature.
  void read(Door& door, py::handle bias_in, py::handle activation_in, py::handle residual_in) {
    bias = door.optional_array(bias_in, names.bias);
    residual = door.optional_array(residual_in, "residual");
    activation = door.activation(activation_in);
  }

  Shape prepare(const Door& door, Index n) {
    door.expect_rank(x, names.x, 1);
    if (x.dim(-1) != k)
      door.value_error(shaped(names.x, x) + ", expected a last axis of " + std::to_string(k) + " to match " +
                       names.weight + ", " + text({n, k}));
    door.expect_vector(bias, names.bias, n);
    Shape shape = x.shape();
    shape.back() = n;
    if (residual && residual.shape() != shape)
      door.value_error(shaped("residual", residual) + ", expected " + text(shape));
    m = rows_of(x);
    x = door.ready(x, x.ndim() == 2 ? Layout::rows : Layout::contiguous);
    bias = door.ready(bias, Layout::contiguous), residual = door.ready(residual, Layout::contiguous);
    return shape;
  }

  template <class T> void put(GemmArgs<T>& g, const Output& out, Index n) const {
    g.m = m, g.n = n, g.k = k;
    g.a = x.data<T>(), g.a_row = x.ndim() == 2 ? x.stride(0) : k;
    g.c = out.data<T>();
    if (bias) g.bias = bias.data<T>();
    if (residual) g.residual = residual.data<T>();
    g.activation = activation;
  }
};

template <class T> void run_linear(const LinearCall& call, const Array& weight, const Output& out) {
  GemmArgs<T> g{};
  call.put(g, out, weight.dim(0));
  g.b = weight.data<T>(), g.b_row = weight.stride(1), g.b_column = weight.stride(0);
  const WithoutGil released(gemm_flops(g));
  gemm(g);
}

void expect_weight(const Door& door, const Array& weight, const char* name) {
  if (weight.ndim() != 2) door.value_error(shaped(name, weight) + ", expected (N, K)");
}

py::object linear(Door door, Names names, py::handle x, py::handle weight_in, py::handle bias, py::handle activation,
                  py::handle residual, py::handle out) {
  LinearCall call;
  call.names = names;
  call.x = door.array(x, names.x);
  Array weight = door.array(weight_in, names.weight);
  expect_weight(door, weight, names.weight);
  call.k = weight.dim(1);
  call.read(door, bias, activation, residual);
  const Shape shape = call.prepare(door, weight.dim(0));
  weight = door.ready(weight, Layout::any);
  const Output output = door.output(out, shape);
  door.in_type([&](auto t) { run_linear<decltype(t)>(call, weight, output); });
  return output.finish();
}

py::object feed_forward(py::handle x, py::handle w1, py::handle b1, py::handle w2, py::handle b2,
                        py::handle activation) {
  Door door("feed_forward");
  const Array rows = door.array(x, "x"), up = door.array(w1, "w1"), down = door.array(w2, "w2");
  expect_weight(door, up, "w1"), expect_weight(door, down, "w2");
  door.expect_rank(rows, "x", 1);
  const Shape wanted = {rows.dim(-1), up.dim(0)};
  if (down.shape() != wanted)
    door.value_error(shaped("w2", down) + ", expected " + text(wanted) + " to match x and w1");
  door.optional_array(b1, "b1"), door.optional_array(b2, "b2");
  const py::none nothing;
  const py::object computed = door.ready(rows, Layout::any).object();  // in the dtype of all five, but float16
  const py::object hidden =
      linear(Door("feed_forward"), {"x", "w1", "b1"}, computed, up.object(), b1, activation, nothing, nothing);
  const py::object result =
      linear(Door("feed_forward"), {"hidden", "w2", "b2"}, hidden, down.object(), b2, nothing, nothing, nothing);
  return door.result_type() == NPY_HALF ? result.attr("astype")("float16") : result;
}

constexpr const char* kPackedLinearDoc = R"(`linear` for one weight (N, K) and many inputs: the weight is packed once.

    >>> import numpy as np
    >>> from tfcore import PackedLinear
    >>> layer = PackedLinear(np.ones((7, 3)), np.ones(7))
    >>> layer(np.ones((2, 5, 3)), activation="relu").shape
    (2, 5, 7)

    Called with x (..., K), and activation, residual (..., N) and out as in `linear`. `shape` is (N, K). A weight of
    float16, with a bias of float16 or none, stays in 16 bits where K is even.
    )";

// weight (N, K), packed once. Called with wider input than it was packed in, it keeps a second, widened packing.
class PackedLinear : public Zeroed {
 public:
  PackedLinear(py::handle weight_in, py::handle bias_in) {
    Door door("PackedLinear");
    Array weight = door.array(weight_in, "weight");
    expect_weight(door, weight, "weight");
    Array bias = door.optional_array(bias_in, "bias");
    n_ = weight.dim(0), k_ = weight.dim(1);
    door.expect_vector(bias, "bias", n_);
    type_ = door.result_type();
    bias_ =
        bias ? py::object(Array::steal(PyArray_FromArray(bias.get(), PyArray_DescrFromType(type_),
                                                         NPY_ARRAY_CARRAY | NPY_ARRAY_FORCECAST | NPY_ARRAY_ENSURECOPY))
                              .object())
             : py::object(py::none());
    const bool half = type_ == NPY_HALF && weight.type() == NPY_HALF && n_ > 0 && fits_narrow(Stored::f16, k_);
    weight = half ? Array::steal(PyArray_FromArray(weight.get(), PyArray_DescrFromType(NPY_HALF), NPY_ARRAY_CARRAY_RO))
                  : door.ready(weight, Layout::any);
    const WithoutGil released(double(n_) * double(k_) * 8);
    HugePages own;
    if (half) float_ = pack_stored({Stored::f16, n_, k_, weight.data<std::uint8_t>()}, own);
    else if (door.in_double()) double_.emplace(weight.data<double>(), k_, n_, weight.stride(1), weight.stride(0), own);
    else float_.emplace(weight.data<float>(), k_, n_, weight.stride(1), weight.stride(0), own);
  }

  py::object call(py::handle x, py::handle activation, py::handle residual, py::handle out) {
    Door door("PackedLinear");
    expect_packed(door);
    LinearCall call;
    call.names = kLinearNames;
    call.x = door.array(x, "x");
    door.use_type(type_);
    call.k = k_;
    call.read(door, bias_, activation, residual);
    const Shape shape = call.prepare(door, n_);
    const Output output = door.output(out, shape);
    if (door.in_double()) run(call, widened(), output);
    else run(call, *float_, output);
    return output.finish();
  }

  py::tuple shape() const { return py::make_tuple(n_, k_); }
  py::object dtype() const { return Array::steal(reinterpret_cast<PyObject*>(PyArray_DescrFromType(type_))).object(); }

  // Weight and bias, for copies and pickles, which pack again.
  py::tuple arguments() const {
    expect_packed(Door("PackedLinear"));
    const Array dense = new_array({n_, k_}, float_ ? NPY_FLOAT : NPY_DOUBLE);
    for (Index j = 0; j < n_; ++j)
      if (float_) float_->row(j, dense.data<float>() + j * k_);
      else double_->row(j, dense.data<double>() + j * k_);
    return py::make_tuple(dense.object().attr("astype")(dtype()), bias_);
  }

  std::string described() const {
    const std::string sizes = std::to_string(n_) + ", " + std::to_string(k_);
    return "PackedLinear(" + (bias_ ? sizes + "; " + std::string(py::str(dtype())) : "") + ")";
  }

 private:
  void expect_packed(const Door& door) const { expect_initialised(door, bool(bias_)); }

  template <class T> void run(const LinearCall& call, const PackedMatrix<T>& weight, const Output& out) const {
    GemmArgs<T> g = weight.product(call.m, nullptr, 0, nullptr);
    call.put(g, out, n_);
    const WithoutGil released(gemm_flops(g));
    gemm(g);
  }

  const PackedMatrix<double>& widened() {
    if (!double_) {
      const AlignedArray<double> dense = allocate_aligned<double>(std::size_t(n_ * k_));
      const AlignedArray<float> row = allocate_aligned<float>(std::size_t(k_));
      for (Index j = 0; j < n_; ++j) {
        float_->row(j, row.get());
        std::copy_n(row.get(), k_, dense.get() + j * k_);
      }
      HugePages own;
      double_.emplace(dense.get(), k_, n_, 1, k_, own);
    }
    return *double_;
  }

  Index n_, k_;
  int type_;
  py::object bias_;
  std::optional<PackedMatrix<float>> float_;
  std::optional<PackedMatrix<double>> double_;
};

// --- rows ------------------------------------------------------------------------------------------------------------

template <class T>
void run_norm(NormKind kind, const Array& x, const Array& weight, const Array& bias, double eps, const Output& out) {
  NormArgs<T> a{};
  a.width = x.dim(-1), a.x = x.data<T>(), a.out = out.data<T>(), a.eps = T(eps);
  if (weight) a.weight = weight.data<T>();
  if (bias) a.bias = bias.data<T>();
  const WithoutGil released(double(x.size()) * 8);
  norm_rows(kind, a, rows_of(x));
}

py::object normalise(Door door, NormKind kind, py::handle x_in, py::handle weight_in, py::handle bias_in,
                     py::handle eps_in, py::handle out) {
  Array x = door.array(x_in, "x");
  Array weight = door.optional_array(weight_in, "weight"), bias = door.optional_array(bias_in, "bias");
  door.expect_rank(x, "x", 1);
  door.expect_vector(weight, "weight", x.dim(-1), ", the last axis of x");
  door.expect_vector(bias, "bias", x.dim(-1), ", the last axis of x");
  const double eps = door.number(eps_in, "eps");
  if (!(eps >= 0)) door.value_error("eps is " + std::string(py::str(eps_in)) + ", expected 0 or a positive number");
  x = door.ready(x, Layout::contiguous);
  weight = door.ready(weight, Layout::contiguous), bias = door.ready(bias, Layout::contiguous);
  const Output output = door.output(out, x.shape(), Overlap::in_place);
  if (x.size() > 0) door.in_type([&](auto t) { run_norm<decltype(t)>(kind, x, weight, bias, eps, output); });
  return output.finish();
}

template <class T> void run_softmax(SoftmaxKind kind, const Array& x, int axis, const Output& out) {
  const WithoutGil released(double(x.size()) * 16);
  Index inner = 1;
  for (int later = axis + 1; later < x.ndim(); ++later) inner *= x.dim(later);
  const Index n = x.dim(axis);
  softmax(kind, x.data<T>(), out.data<T>(), x.size() / (n * inner), n, inner);
}

// An x in Fortran order is taken, and comes back, as its transpose.
template <SoftmaxKind kind> py::object softmax_operator(py::handle x_in, py::handle axis_in, py::handle out) {
  Door door(kind == SoftmaxKind::plain ? "softmax" : "log_softmax");
  Array x = door.array(x_in, "x");
  door.expect_rank(x, "x", 1);
  const int given = int(door.integer(axis_in, "axis", -x.ndim(), x.ndim() - 1));
  const bool turned = out.is_none() && PyArray_IS_F_CONTIGUOUS(x.get()) && !PyArray_IS_C_CONTIGUOUS(x.get());
  const auto turn = [](const Array& a) { return Array::steal(PyArray_Transpose(a.get(), nullptr)); };
  if (turned) x = turn(x);
  const int place = given < 0 ? x.ndim() + given : given, axis = turned ? x.ndim() - 1 - place : place;
  x = door.ready(x, Layout::contiguous);
  const Output output = door.output(out, x.shape(), Overlap::in_place);
  if (x.size() > 0) door.in_type([&](auto t) { run_softmax<decltype(t)>(kind, x, axis, output); });
  const py::object result = output.finish();
  return turned ? turn(Array(result)).object() : result;
}

// --- elements --------------------------------------------------------------------------------------------------------

template <class T> void run_elementwise(Function function, const Array& x, const Output& out) {
  const WithoutGil released(double(x.size()) * 16);
  elementwise(function, x.data<T>(), out.data<T>(), x.size());
}

py::object apply(Door door, Function function, py::handle x_in, py::handle out) {
  Array x = door.ready(door.array(x_in, "x"), Layout::contiguous);
  const Output output = door.output(out, x.shape(), Overlap::in_place);
  door.in_type([&](auto t) { run_elementwise<decltype(t)>(function, x, output); });
  return output.finish();
}

py::object gelu(py::handle x, py::handle approximate, py::handle out) {
  Door door("gelu");
  const Function form =
      door.one_of<Function>(approximate, "approximate", {{"none", Function::gelu}, {"tanh", Function::gelu_tanh}});
  return apply(door, form, x, out);
}

// The functions under the operators, one by one: for soft caps, activations, and tests of their error bounds.
py::object vector_math(py::handle name, py::handle x) {
  Door door("vector_math");
  const Function function = door.one_of<Function>(name, "name",
                                                  {{"exp", Function::exp},
                                                   {"exp2", Function::exp2},
                                                   {"tanh", Function::tanh},
                                                   {"erf", Function::erf},
                                                   {"sin", Function::sin},
                                                   {"cos", Function::cos}});
  return apply(door, function, x, py::none());
}

py::object linear_operator(py::handle x, py::handle weight, py::handle bias, py::handle activation, py::handle residual,
                           py::handle out) {
  return linear(Door("linear"), kLinearNames, x, weight, bias, activation, residual, out);
}

py::object layer_norm_operator(py::handle x, py::handle weight, py::handle bias, py::handle eps, py::handle out) {
  return normalise(Door("layer_norm"), NormKind::layer, x, weight, bias, eps, out);
}

py::object rms_norm_operator(py::handle x, py::handle weight, py::handle eps, py::handle out) {
  return normalise(Door("rms_norm"), NormKind::rms, x, weight, py::none(), eps, out);
}

py::object relu_operator(py::handle x, py::handle out) { return apply(Door("relu"), Function::relu, x, out); }

py::object silu_operator(py::handle x, py::handle out) { return apply(Door("silu"), Function::silu, x, out); }

}  // namespace

void bind_layers(py::module_& m) {
  define_operator<&matmul>(m, "matmul");
  define_operator<&linear_operator>(m, "linear");
  define_operator<&feed_forward>(m, "feed_forward");
  py::class_<PackedLinear>(m, "PackedLinear", kPackedLinearDoc)
      .def(py::init<py::handle, py::handle>(), py::arg("weight"), py::arg("bias") = py::none())
      .def("__call__", &PackedLinear::call, py::arg("x"), py::kw_only(), py::arg("activation") = py::none(),
           py::arg("residual") = py::none(), py::arg("out") = py::none())
      .def("__reduce__",
           [](py::object self) {
             return py::make_tuple(py::type::of(self), self.cast<const PackedLinear&>().arguments());
           })
      .def("__repr__", &PackedLinear::described)
      .def_property_readonly("shape", &PackedLinear::shape)
      .def_property_readonly("dtype", &PackedLinear::dtype);
  define_operator<&softmax_operator<SoftmaxKind::plain>>(m, "softmax");
  define_operator<&softmax_operator<SoftmaxKind::logarithm>>(m, "log_softmax");
  define_operator<&layer_norm_operator>(m, "layer_norm");
  define_operator<&rms_norm_operator>(m, "rms_norm");
  define_operator<&gelu>(m, "gelu");
  define_operator<&relu_operator>(m, "relu");
  define_operator<&silu_operator>(m, "silu");
  define_operator<&vector_math>(m, "vector_math");
}

}  // namespace tfcore
