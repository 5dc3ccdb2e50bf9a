#pragma once
// y = f(x), element by element: the functions of math.hpp over arrays. Bound by memory for large arrays.
#include "kernels/sine.hpp"
#include "kernels/table.hpp"
#include "kernels/way.hpp"

namespace tfcore {
namespace {

constexpr Index kFetchAhead = 4096;  // bytes: 5 to 15 % where arrays come from L3

template <class T, class F> TFCORE_INLINE void map_array(const T* x, T* out, Index n, F f) {
  const Index whole = n - n % lanes<T>;
  const Way way = way_through(x, out, 0, whole / lanes<T>);
  const Index ahead = way.step / lanes<T> * (kFetchAhead / Index(sizeof(T)));
  for (Index i = way.first, left = whole; left > 0; left -= lanes<T>, i += way.step) {
    __builtin_prefetch(x + i + ahead);
    __builtin_prefetch(out + i + ahead, 1);
    store(out + i, f(load(x + i)));
  }
  if (const int count = int(n - whole)) store_first(out + whole, f(load_first(x + whole, count)), count);
}

// sin and cos of any angle: lanes beyond the vector reduction's range are done one by one.
TFCORE_INLINE void sincos_any(VecF64 x, VecF64& s, VecF64& c) {
  sincos(x, s, c);
  const VecI64 far = ~(abs<double>(x) <= splat(kSinCosLimit));
  if (__builtin_expect(any(far), 0))
    for (int i = 0; i < lanes<double>; ++i)
      if (far[i]) {
        double si, ci;
        sincos_scalar(x[i], si, ci);
        s[i] = si, c[i] = ci;
      }
}

// float results of double angles; a far lane alone leaves the vector's way, or its neighbours' bits would depend on it.
TFCORE_INLINE void sincos_any(VecF64 low, VecF64 high, VecF32& s, VecF32& c) {
  sincos_narrow(low, high, s, c);
  const VecF64 limit = splat(kSinCosLimit);
  const VecI64 far[] = {~(abs<double>(low) <= limit), ~(abs<double>(high) <= limit)};
  if (__builtin_expect(any(far[0] | far[1]), 0))
    for (int i = 0; i < lanes<float>; ++i)
      if (far[i / lanes<double>][i % lanes<double>]) {
        double si, ci;
        sincos_scalar(i < lanes<double> ? low[i] : high[i - lanes<double>], si, ci);
        s[i] = float(si), c[i] = float(ci);
      }
}

template <class T> TFCORE_INLINE void sincos_of(Vec<T> x, Vec<T>& s, Vec<T>& c) {
  if constexpr (sizeof(T) == 8) {
    sincos_any(x, s, c);
  } else {
    VecF64 low, high;
    widen(x, low, high);
    sincos_any(low, high, s, c);
  }
}

template <class T> void elementwise(Function function, const T* x, T* out, Index n) {
  switch (function) {
    case Function::exp:
      return map_array(x, out, n, [](Vec<T> v) TFCORE_LAMBDA { return exp<T>(v); });
    case Function::exp2:
      return map_array(x, out, n, [](Vec<T> v) TFCORE_LAMBDA { return exp2<T>(v); });
    case Function::tanh:
      return map_array(x, out, n, [](Vec<T> v) TFCORE_LAMBDA { return tanh<T>(v); });
    case Function::erf:
      return map_array(x, out, n, [](Vec<T> v) TFCORE_LAMBDA { return erf<T>(v); });
    case Function::gelu:
      return map_array(x, out, n, [](Vec<T> v) TFCORE_LAMBDA { return gelu_erf<T>(v); });
    case Function::gelu_tanh:
      return map_array(x, out, n, [](Vec<T> v) TFCORE_LAMBDA { return gelu_tanh<T>(v); });
    case Function::silu:
      return map_array(x, out, n, [](Vec<T> v) TFCORE_LAMBDA { return silu<T>(v); });
    case Function::relu:
      return map_array(x, out, n, [](Vec<T> v) TFCORE_LAMBDA { return relu<T>(v); });
    case Function::sin:
      return map_array(x, out, n, [](Vec<T> v) TFCORE_LAMBDA {
        Vec<T> s, c;
        sincos_of<T>(v, s, c);
        return s;
      });
    case Function::cos:
      return map_array(x, out, n, [](Vec<T> v) TFCORE_LAMBDA {
        Vec<T> s, c;
        sincos_of<T>(v, s, c);
        return c;
      });
  }
}

}  // namespace
}  // namespace tfcore
