#pragma once
// Operators as functions of a Python module, called by position. CPython hands over the arguments where they lie;
// pybind11's dispatcher would first gather them, 0.3 us for fifteen.
#include <pybind11/pybind11.h>

#include <new>
#include <string>
#include <utility>

namespace tfcore {

namespace py = pybind11;

template <class... Handle> constexpr Py_ssize_t arity(py::object (*)(Handle...)) { return sizeof...(Handle); }

template <class... Handle, std::size_t... i>
py::object call_with(py::object (*f)(Handle...), PyObject* const* arguments, std::index_sequence<i...>) {
  return f(py::handle(arguments[i])...);
}

template <auto f> PyObject* call_operator(PyObject*, PyObject* const* arguments, Py_ssize_t count) {
  constexpr Py_ssize_t wanted = arity(f);
  if (count != wanted) return PyErr_Format(PyExc_TypeError, "got %zd arguments, expected %zd", count, wanted);
  try {
    return call_with(f, arguments, std::make_index_sequence<wanted>()).release().ptr();
  } catch (py::error_already_set& error) { error.restore(); } catch (const py::builtin_exception& error) {
    error.set_error();
  } catch (const std::bad_alloc&) { PyErr_NoMemory(); } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return nullptr;
}

// "name(arg0, arg1, /)" and the line that makes it the signature that `inspect` reports.
inline std::string signature(const char* name, Py_ssize_t arguments) {
  std::string text = std::string(name) + "(";
  for (Py_ssize_t i = 0; i < arguments; ++i) text += "arg" + std::to_string(i) + ", ";
  return text + "/)\n--\n\n";
}

// f takes py::handles and returns a py::object.
template <auto f> void define_operator(py::module_& m, const char* name) {
  static const std::string doc = signature(name, arity(f));
  static PyMethodDef definition{};
  const auto entry = reinterpret_cast<void (*)()>(&call_operator<f>);
  definition = {name, reinterpret_cast<PyCFunction>(entry), METH_FASTCALL, doc.c_str()};
  m.add_object(name, PyCFunction_NewEx(&definition, nullptr, m.attr("__name__").ptr()));
}

}  // namespace tfcore
