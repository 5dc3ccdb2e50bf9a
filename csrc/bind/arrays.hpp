#pragma once
// The door: what comes from Python is checked here once, by argument name, and nowhere further in.
// Wrong kind is a TypeError, wrong value a ValueError; every message names the operator, the argument, what came and
// what was wanted.
#include <pybind11/pybind11.h>

#define PY_ARRAY_UNIQUE_SYMBOL tfcore_numpy_api
#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#define NPY_TARGET_VERSION NPY_1_23_API_VERSION
#ifndef TFCORE_IMPORTS_NUMPY
#define NO_IMPORT_ARRAY
#endif
#include <numpy/arrayobject.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "bind/shape.hpp"
#include "kernels/table.hpp"

namespace tfcore {

namespace py = pybind11;

std::string text(const Shape& shape);  // as Python prints a tuple

// A NumPy array and one reference to it.
class Array {
 public:
  Array() = default;
  explicit Array(py::object object) : object_(std::move(object)) {}
  static Array steal(PyObject* p);  // takes over a reference; a null pointer throws the Python error that is set

  explicit operator bool() const { return bool(object_); }
  PyArrayObject* get() const { return reinterpret_cast<PyArrayObject*>(object_.ptr()); }
  const py::object& object() const { return object_; }
  int ndim() const { return PyArray_NDIM(get()); }
  int type() const { return PyArray_TYPE(get()); }
  Index size() const { return PyArray_SIZE(get()); }
  Index dim(int axis) const { return PyArray_DIM(get(), axis < 0 ? ndim() + axis : axis); }
  Index stride(int axis) const {  // in elements
    return PyArray_STRIDE(get(), axis < 0 ? ndim() + axis : axis) >> __builtin_ctzll(size_of_one());
  }
  // Bytes. Of numbers it is a power of two: a division for every axis of every array would be 5 % of a small call.
  std::size_t size_of_one() const { return std::size_t(PyArray_ITEMSIZE(get())); }
  Shape shape() const { return Shape(PyArray_DIMS(get()), PyArray_DIMS(get()) + ndim()); }
  template <class T> T* data() const { return static_cast<T*>(PyArray_DATA(get())); }
  std::string dtype() const;

 private:
  py::object object_;
};

Array new_array(const Shape& shape, int type);

std::string shaped(const char* name, const Array& a);  // "name has shape (…)", as messages begin
Shape leading(const Array& a, int trailing);           // the shape without its last `trailing` axes
Index product(const Shape& shape);

// Offset, in elements, of each index of `shape`'s flattened leading axes in an array whose own leading axes broadcast
// to it.
class LeadingOffsets {
 public:
  LeadingOffsets() = default;
  LeadingOffsets(const Array& array, const Shape& leading, int trailing_axes);
  Index operator()(Index flat) const {
    Index offset = 0;
    for (std::size_t axis = dims_.size(); axis-- > 1; flat /= dims_[axis])
      offset += flat % dims_[axis] * strides_[axis];
    return dims_.size() == 0 ? 0 : offset + flat * strides_[0];
  }

 private:
  Shape dims_, strides_;
};

// A number and what it was given as.
struct Number {
  std::string name;
  py::object given;
  double value;
};

enum class Layout { any, rows, contiguous };  // any strides; last axis adjacent; C order

// The result of an operator: a new array, or the caller's `out`.
class Output {
 public:
  Output(Array target, Array work) : target_(std::move(target)), work_(std::move(work)) {}
  template <class T> T* data() const { return work_.data<T>(); }
  const Array& array() const { return work_; }
  py::object finish() const;  // copies into `out` where it could not be written directly

 private:
  Array target_, work_;
};

// What `out` may share memory with: nothing, or all of the first input, entry for entry, where each result is written
// after everything it depends on was read.
enum class Overlap { none, in_place };

// One call of one operator.
class Door {
 public:
  explicit Door(const char* op) : op_(op) {}

  [[noreturn]] void type_error(const std::string& message) const;
  [[noreturn]] void value_error(const std::string& message) const;

  // An array of real numbers. Those that promote decide the dtype of the computation together, as NumPy promotes.
  Array array(py::handle value, const char* name, bool promotes = true);
  Array optional_array(py::handle value, const char* name, bool promotes = true);
  Array mask(py::handle value, const char* name);                                           // booleans or floats
  std::vector<Index> integers(py::handle value, const char* name, Shape* shape = nullptr);  // an array's, flattened

  // (B + 1,) offsets of packed sequences, from 0 up to `total`
  std::vector<Index> cu_seqlens(py::handle value, const char* name, Index total);

  Index integer(py::handle value, const char* name, Index least, Index most) const;
  double number(py::handle value, const char* name) const;  // finite
  // Of attention: that both fit the computation's dtype, in base 2, too.
  void expect_scale(const Number& scale, const Number& softcap) const;
  bool flag(py::handle value, const char* name) const;
  std::string word(py::handle value, const char* name) const;
  template <class T> struct Choice {
    const char* word;
    T value;
  };
  // What a word stands for; `others` is what else may be given, as the message begins its list.
  template <class T> T one_of(py::handle value, const char* name, std::initializer_list<Choice<T>> choices,
                              const char* others = "") const {
    const std::string given = word(value, name);
    for (const Choice<T>& choice : choices)
      if (given == choice.word) return choice.value;
    std::vector<std::string> words;
    for (const Choice<T>& choice : choices) words.push_back(choice.word);
    none_of(name, given, words, others);
  }
  Activation activation(py::handle value) const;  // None or one of the names
  void expect_rank(const Array& a, const char* name, int least) const;
  void expect_vector(const Array& a, const char* name, Index n, const char* what = "") const;  // (n,), or no array

  void use_type(int type);  // as of a further array
  int result_type() const;  // of the arrays so far: half, float or double
  int compute_type() const { return result_type() == NPY_DOUBLE ? NPY_DOUBLE : NPY_FLOAT; }
  bool in_double() const { return compute_type() == NPY_DOUBLE; }
  // f(T()) for the computation's T
  template <class F> void in_type(const F& f) const { in_double() ? f(double()) : f(float()); }
  // In the computation's dtype, aligned, laid out as asked; where no array was given, none.
  Array ready(const Array& a, Layout layout) const;
  Output output(py::handle out, const Shape& shape, Overlap overlap = Overlap::none) const;

 private:
  Array take(py::handle value, const char* name);
  Array made(py::handle value, const char* name) const;
  void expect_no_overlap(const Array& out, Overlap overlap) const;
  [[noreturn]] void none_of(const char* name, const std::string& given, const std::vector<std::string>& words,
                            const char* others) const;

  const char* op_;
  int type_ = NPY_NOTYPE;
  int count_ = 0;
  static constexpr int kMost = 12;
  Array taken_[kMost];
  const char* names_[kMost] = {};
};

// NumPy's broadcasting of an array's leading axes, all but its last `trailing`, against those of the arrays before it,
// of which the message shows the first.
Shape broadcast(const Door& door, const Shape& before, const Array& first, const char* name, const Array& array,
                int trailing);

// The GIL is released for work that is worth it: letting go and taking it back costs about as much as 20 kFLOP.
class WithoutGil {
 public:
  explicit WithoutGil(double flops) : state_(flops > 20e3 ? PyEval_SaveThread() : nullptr) {}
  WithoutGil() : state_(PyEval_SaveThread()) {}
  // A daemon thread that comes back while the interpreter ends is ended by it, by unwinding its stack, which must not
  // pass a destructor: it stays here until the process is gone, as later versions of Python have it stay.
  ~WithoutGil() {
    try {
      if (state_) PyEval_RestoreThread(state_);
    } catch (...) {
      for (;;) ::pause();
    }
  }
  WithoutGil(const WithoutGil&) = delete;
  WithoutGil& operator=(const WithoutGil&) = delete;

 private:
  PyThreadState* state_;
};

void bind_attention(py::module_& m);
void bind_dequantize(py::module_& m);
void bind_layers(py::module_& m);
void bind_positions(py::module_& m);
void bind_stack(py::module_& m);
void bind_probe(py::module_& m);

}  // namespace tfcore
