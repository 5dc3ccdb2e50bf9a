#include "bind/arrays.hpp"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <optional>

#include "bind/results.hpp"

namespace tfcore {

std::string text(const Shape& shape) {
  std::string s = "(";
  for (std::size_t i = 0; i < shape.size(); ++i) s += (i ? ", " : "") + std::to_string(shape[i]);
  return s + (shape.size() == 1 ? ",)" : ")");
}

std::string shaped(const char* name, const Array& a) { return std::string(name) + " has shape " + text(a.shape()); }

Shape leading(const Array& a, int trailing) {
  Shape shape = a.shape();
  shape.resize(std::size_t(std::max(a.ndim() - trailing, 0)));
  return shape;
}

Index product(const Shape& shape) {
  Index n = 1;
  for (Index d : shape)
    if (__builtin_mul_overflow(n, d, &n))
      throw py::value_error("arrays broadcast to too many elements, " + text(shape));
  return n;
}

Array Array::steal(PyObject* p) {
  if (!p) throw py::error_already_set();
  return Array(py::reinterpret_steal<py::object>(p));
}

std::string Array::dtype() const { return py::str(reinterpret_cast<PyObject*>(PyArray_DESCR(get()))); }

Array new_array(const Shape& shape, int type) {
  double bytes = type == NPY_DOUBLE ? sizeof(double) : sizeof(float);  // no shape is too large for a double
  for (Index d : shape) bytes *= double(d);
  std::optional<KeepsResults> kept;
  if (bytes >= kLargeResult) kept.emplace();
  return Array::steal(PyArray_SimpleNew(int(shape.size()), const_cast<npy_intp*>(shape.begin()), type));
}

LeadingOffsets::LeadingOffsets(const Array& array, const Shape& leading, int trailing_axes) : dims_(leading) {
  strides_.resize(leading.size());
  const int own = array.ndim() - trailing_axes;
  for (int i = 1; i <= own && i <= int(leading.size()); ++i)
    strides_[leading.size() - i] = array.dim(own - i) == 1 ? 0 : array.stride(own - i);
}

py::object Output::finish() const {
  if (target_.get() != work_.get() && PyArray_CopyInto(target_.get(), work_.get()) < 0) throw py::error_already_set();
  return target_.object();
}

// --- errors ----------------------------------------------------------------------------------------------------------

void Door::type_error(const std::string& message) const { throw py::type_error(std::string(op_) + ": " + message); }
void Door::value_error(const std::string& message) const { throw py::value_error(std::string(op_) + ": " + message); }

namespace {

std::string type_name(py::handle value) { return Py_TYPE(value.ptr())->tp_name; }

// What np.asarray takes, and what has nothing but DLPack's protocol.
PyObject* as_array(py::handle value) {
  if (!py::hasattr(value, "__array__") && !py::hasattr(value, "__array_interface__") &&
      !PyObject_CheckBuffer(value.ptr()) && py::hasattr(value, "__dlpack__"))
    return py::module_::import("numpy").attr("from_dlpack")(value).release().ptr();
  return PyArray_FromAny(value.ptr(), nullptr, 0, 0, 0, nullptr);
}

bool is_float(int type) { return type == NPY_HALF || type == NPY_FLOAT || type == NPY_DOUBLE; }
bool is_real(int type) { return is_float(type) || PyTypeNum_ISINTEGER(type) || PyTypeNum_ISBOOL(type); }

}  // namespace

Shape broadcast(const Door& door, const Shape& before, const Array& first, const char* name, const Array& array,
                int trailing) {
  const Shape own = leading(array, trailing);
  Shape both(std::max(before.size(), own.size()));
  for (std::size_t i = 1; i <= both.size(); ++i) {
    const Index x = i <= before.size() ? before[before.size() - i] : 1, y = i <= own.size() ? own[own.size() - i] : 1;
    if (x != y && x != 1 && y != 1)
      door.value_error(shaped(name, array) + " with leading axes " + text(own) + ", expected such as broadcast with " +
                       text(before) + " to match " + text(first.shape()));
    both[both.size() - i] = x == 1 ? y : x;
  }
  return both;
}

// --- arguments -------------------------------------------------------------------------------------------------------

// The array of something else. Where there is none, what NumPy or the value's own library says, by the argument's name.
Array Door::made(py::handle value, const char* name) const {
  try {
    return Array::steal(as_array(value));
  } catch (const py::error_already_set& error) {
    const std::string message = std::string(name) + " is no array: " + std::string(py::str(error.value()));
    if (error.matches(PyExc_ValueError)) value_error(message);
    if (error.matches(PyExc_TypeError) || error.matches(PyExc_RuntimeError)) type_error(message);
    throw;
  }
}

Array Door::take(py::handle value, const char* name) {
  if (value.is_none()) type_error(std::string(name) + " is None, expected an array");
  const Array a = PyArray_Check(value.ptr()) ? Array(py::reinterpret_borrow<py::object>(value)) : made(value, name);
  taken_[count_] = a, names_[count_] = name, ++count_;
  return a;
}

void Door::use_type(int type) {
  if (type_ == NPY_NOTYPE || type_ == type) {
    type_ = type;
    return;
  }
  PyArray_Descr* const ours = PyArray_DescrFromType(type_);
  PyArray_Descr* const theirs = PyArray_DescrFromType(type);
  PyArray_Descr* const both = PyArray_PromoteTypes(ours, theirs);
  Py_DECREF(ours), Py_DECREF(theirs);
  if (!both) throw py::error_already_set();
  type_ = both->type_num;
  Py_DECREF(both);
}

Array Door::array(py::handle value, const char* name, bool promotes) {
  Array a = take(value, name);
  if (!is_real(a.type()))
    type_error(std::string(name) + " has dtype " + a.dtype() +
               ", expected float16, float32, float64, integers or bool");
  if (promotes) use_type(a.type());
  return a;
}

Array Door::optional_array(py::handle value, const char* name, bool promotes) {
  return value.is_none() ? Array() : array(value, name, promotes);
}

Array Door::mask(py::handle value, const char* name) {
  if (value.is_none()) return Array();
  Array a = take(value, name);
  if (!is_float(a.type()) && !PyTypeNum_ISBOOL(a.type()))
    type_error(std::string(name) + " has dtype " + a.dtype() +
               ", expected bool (True = attend) or a float dtype (added)");
  return a;
}

std::vector<Index> Door::integers(py::handle value, const char* name, Shape* shape) {
  const Array a = take(value, name);
  if (shape) *shape = a.shape();
  if (!PyTypeNum_ISINTEGER(a.type()) && a.size() > 0)
    type_error(std::string(name) + " has dtype " + a.dtype() + ", expected integers");
  const Array flat = Array::steal(
      PyArray_FromArray(a.get(), PyArray_DescrFromType(NPY_INT64), NPY_ARRAY_CARRAY_RO | NPY_ARRAY_FORCECAST));
  const std::vector<Index> all(flat.data<Index>(), flat.data<Index>() + flat.size());
  if (PyTypeNum_ISUNSIGNED(a.type()))
    for (const Index n : all)
      if (n < 0)
        value_error(std::string(name) + " has " + std::to_string(std::uint64_t(n)) + ", expected integers below 2**63");
  return all;
}

std::vector<Index> Door::cu_seqlens(py::handle value, const char* name, Index total) {
  Shape shape;
  const std::vector<Index> cu = integers(value, name, &shape);
  const std::string named = name;
  if (shape.size() != 1) value_error(named + " has shape " + text(shape) + ", expected (B + 1,)");
  if (cu.empty()) value_error(named + " is empty, expected (B + 1,) offsets from 0");
  if (cu[0] != 0) value_error(named + " starts at " + std::to_string(cu[0]) + ", expected 0");
  for (std::size_t i = 1; i < cu.size(); ++i)
    if (cu[i] < cu[i - 1])
      value_error(named + " decreases from " + std::to_string(cu[i - 1]) + " to " + std::to_string(cu[i]) +
                  ", expected offsets that never do");
  if (cu.back() != total)
    value_error(named + " ends at " + std::to_string(cu.back()) + ", expected the number of packed rows, " +
                std::to_string(total));
  return cu;
}

Index Door::integer(py::handle value, const char* name, Index least, Index most) const {
  const bool whole = !PyBool_Check(value.ptr()) && PyIndex_Check(value.ptr());
  const py::object index = py::reinterpret_steal<py::object>(whole ? PyNumber_Index(value.ptr()) : nullptr);
  if (!index) {
    if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_TypeError)) throw py::error_already_set();
    PyErr_Clear();  // of an array of several numbers, which is an index by its type alone
    type_error(std::string(name) + " is of type " + type_name(value) + ", expected an integer");
  }
  int overflow = 0;
  const long long n = PyLong_AsLongLongAndOverflow(index.ptr(), &overflow);
  if (overflow || n < least || n > most)
    value_error(std::string(name) + " is " + std::string(py::str(index)) + ", expected an integer " +
                (overflow > 0            ? "below 2**63"
                 : most == NPY_MAX_INT64 ? "of at least " + std::to_string(least)
                                         : "from " + std::to_string(least) + " to " + std::to_string(most)));
  return n;
}

double Door::number(py::handle value, const char* name) const {
  const bool truth = PyBool_Check(value.ptr());
  const double x = truth ? -1.0 : PyFloat_AsDouble(value.ptr());
  if (truth || (x == -1.0 && PyErr_Occurred())) {
    const bool too_large = !truth && PyErr_ExceptionMatches(PyExc_OverflowError);
    PyErr_Clear();
    if (too_large) value_error(std::string(name) + " is beyond float64, expected a finite number");
    type_error(std::string(name) + " is of type " + type_name(value) + ", expected a number");
  }
  if (!std::isfinite(x))
    value_error(std::string(name) + " is " + std::string(py::str(value)) + ", expected a finite number");
  return x;
}

void Door::expect_scale(const Number& scale, const Number& softcap) const {
  const double most = (in_double() ? DBL_MAX : double(FLT_MAX)) / 2;  // a factor of log2(e) follows
  const auto refuse = [&](const Number& number, const char* why) {
    value_error(number.name + " is " + std::string(py::str(number.given)) + why);
  };
  const char* const beyond = in_double() ? ", beyond float64" : ", beyond float32";
  if (!(softcap.value >= 0)) refuse(softcap, ", expected 0 (none) or a positive number");
  if (std::abs(scale.value) > most) refuse(scale, beyond);
  if (softcap.value > most || (softcap.value > 0 && std::abs(scale.value) / softcap.value > most))
    refuse(softcap, beyond);
}

bool Door::flag(py::handle value, const char* name) const {
  if (value.ptr() == Py_True) return true;
  if (value.ptr() == Py_False) return false;
  if (!PyArray_IsScalar(value.ptr(), Bool))
    type_error(std::string(name) + " is of type " + type_name(value) + ", expected bool");
  return PyObject_IsTrue(value.ptr()) == 1;
}

std::string Door::word(py::handle value, const char* name) const {
  if (!PyUnicode_Check(value.ptr()))
    type_error(std::string(name) + " is of type " + type_name(value) + ", expected str");
  Py_ssize_t size = 0;
  if (const char* const utf8 = PyUnicode_AsUTF8AndSize(value.ptr(), &size)) return {utf8, std::size_t(size)};
  PyErr_Clear();
  value_error(std::string(name) + " is " + std::string(py::repr(value)) + ", which is no text");
}

void Door::none_of(const char* name, const std::string& given, const std::vector<std::string>& words,
                   const char* others) const {
  std::string wanted = others;
  for (std::size_t i = 0; i < words.size(); ++i)
    wanted += (i == 0 ? "'" : i + 1 == words.size() ? " or '" : ", '") + words[i] + "'";
  value_error(std::string(name) + " is '" + given + "', expected " + wanted);
}

Activation Door::activation(py::handle value) const {
  if (value.is_none()) return Activation::none;
  return one_of<Activation>(value, "activation",
                            {{"relu", Activation::relu},
                             {"gelu", Activation::gelu},
                             {"gelu_tanh", Activation::gelu_tanh},
                             {"silu", Activation::silu},
                             {"tanh", Activation::tanh}},
                            "None, ");
}

void Door::expect_rank(const Array& a, const char* name, int least) const {
  if (a.ndim() < least)
    value_error(std::string(name) + " has shape " + text(a.shape()) + ", expected at least " + std::to_string(least) +
                (least == 1 ? " dimension" : " dimensions"));
}

void Door::expect_vector(const Array& a, const char* name, Index n, const char* what) const {
  if (a && a.shape() != Shape{n}) value_error(shaped(name, a) + ", expected " + text({n}) + what);
}

// --- dtype, layout and result ----------------------------------------------------------------------------------------

int Door::result_type() const {
  if (is_float(type_)) return type_;
  if (PyTypeNum_ISINTEGER(type_) || PyTypeNum_ISBOOL(type_)) return NPY_DOUBLE;
  type_error("the arguments' dtypes promote to one wider than float64");
}

namespace {

// A float64 mask may hold numbers beyond float32; they become infinite, and NumPy would warn the caller of a cast of
// ours.
Array narrowed(const Array& a) {
  const Array wide = Array::steal(PyArray_FromArray(a.get(), PyArray_DescrFromType(NPY_DOUBLE), NPY_ARRAY_CARRAY_RO));
  const Array narrow = new_array(a.shape(), NPY_FLOAT);
  const double* const from = wide.data<double>();
  std::transform(from, from + wide.size(), narrow.data<float>(), [](double x) { return float(x); });
  return narrow;
}

// Also where finding out, which can take exponentially long, is not worth it.
bool share_memory(const Array& a, const Array& b) {
  constexpr int kMostWork = 1000000;  // a tenth of a second
  const py::object shares_memory = py::module_::import("numpy").attr("shares_memory");
  try {
    return py::cast<bool>(shares_memory(a.object(), b.object(), kMostWork));
  } catch (py::error_already_set& error) {
    if (!error.matches(PyExc_RuntimeError)) throw;  // NumPy's TooHardError is one
    return true;
  }
}

}  // namespace

Array Door::ready(const Array& a, Layout layout) const {
  if (!a) return a;
  const int type = compute_type();
  PyArrayObject* p = a.get();
  bool fits = a.type() == type && PyArray_ISBEHAVED_RO(p);
  if (fits && layout == Layout::contiguous) fits = PyArray_IS_C_CONTIGUOUS(p);
  if (fits && layout == Layout::rows) fits = a.dim(-1) <= 1 || PyArray_STRIDE(p, a.ndim() - 1) == PyArray_ITEMSIZE(p);
  for (int i = 0; fits && i < a.ndim(); ++i) fits = (std::size_t(PyArray_STRIDE(p, i)) & (a.size_of_one() - 1)) == 0;
  if (fits) return a;
  if (a.type() == NPY_DOUBLE && type == NPY_FLOAT) return narrowed(a);
  return Array::steal(PyArray_FromArray(p, PyArray_DescrFromType(type), NPY_ARRAY_CARRAY_RO | NPY_ARRAY_FORCECAST));
}

void Door::expect_no_overlap(const Array& out, Overlap overlap) const {
  const auto bounds = [](PyArrayObject* a, const char*& low, const char*& high) {
    low = high = static_cast<const char*>(PyArray_DATA(a));
    for (int i = 0; i < PyArray_NDIM(a); ++i) {
      const Index reach = (PyArray_DIM(a, i) - 1) * PyArray_STRIDE(a, i);
      (reach < 0 ? low : high) += reach;
    }
    high += PyArray_ITEMSIZE(a);
  };
  const auto same_entries = [](PyArrayObject* a, PyArrayObject* b) {
    const int n = PyArray_NDIM(a);
    return PyArray_DATA(a) == PyArray_DATA(b) && n == PyArray_NDIM(b) &&
           std::equal(PyArray_STRIDES(a), PyArray_STRIDES(a) + n, PyArray_STRIDES(b)) &&
           PyArray_EquivTypes(PyArray_DESCR(a), PyArray_DESCR(b));
  };
  const char *low, *high, *their_low, *their_high;
  if (out.size() == 0) return;
  bounds(out.get(), low, high);
  for (int i = 0; i < count_; ++i) {
    if (taken_[i].size() == 0) continue;
    bounds(taken_[i].get(), their_low, their_high);
    if (low >= their_high || their_low >= high) continue;
    if (i == 0 && overlap == Overlap::in_place && same_entries(out.get(), taken_[i].get())) continue;
    if (share_memory(out, taken_[i]))
      value_error(std::string("out shares memory with ") + names_[i] + ", expected an array of its own");
  }
}

Output Door::output(py::handle out, const Shape& shape, Overlap overlap) const {
  const int type = result_type();
  if (out.is_none()) {
    Array work = new_array(shape, compute_type());
    return type == compute_type() ? Output(work, work) : Output(new_array(shape, type), work);
  }
  if (!PyArray_Check(out.ptr())) type_error("out is of type " + type_name(out) + ", expected numpy.ndarray");
  const Array target(py::reinterpret_borrow<py::object>(out));
  const auto wanted = py::reinterpret_steal<py::object>(reinterpret_cast<PyObject*>(PyArray_DescrFromType(type)));
  if (!PyArray_EquivTypes(PyArray_DESCR(target.get()), reinterpret_cast<PyArray_Descr*>(wanted.ptr())))
    type_error("out has dtype " + target.dtype() + ", expected " + std::string(py::str(wanted)));
  if (target.shape() != shape) value_error("out has shape " + text(target.shape()) + ", expected " + text(shape));
  if (!PyArray_ISWRITEABLE(target.get())) value_error("out is read-only, expected a writeable array");
  expect_no_overlap(target, overlap);
  const bool direct = type == compute_type() && PyArray_ISCARRAY(target.get());
  return Output(target, direct ? target : new_array(shape, compute_type()));
}

}  // namespace tfcore
