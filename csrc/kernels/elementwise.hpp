#pragma once
// y = f(x), element by element: the functions of math.hpp over arrays. Bound by memory for large arrays.
#include "kernels/sine.hpp"
#include "kernels/table.hpp"
#include "kernels/way.hpp"

namespace tfcore {
namespace {

// Whether a pass over an array also asks for what lies further on.
enum class Next { leave, fetch };

// Bytes. 5 to 15 % where arrays come from L3 (Zen 3); wide vectors leave it, 1.1 to 1.3 times as fast for relu, the
// same for gelu, but 0.93 times for the powers of a softmax (Zen 4).
constexpr Index kFetchAhead = 4096;
constexpr Next kNextOfElements = kWide ? Next::leave : Next::fetch;

template <Next next = kNextOfElements, class T, class F>
TFCORE_INLINE void map_array(const T* x, T* out, Index n, F f) {
  const Index whole = n - n % lanes<T>;
  const Way way = way_through(x, out, 0, whole / lanes<T>);
  const Index ahead = way.step / lanes<T> * (kFetchAhead / Index(sizeof(T)));
  for (Index i = way.first, left = whole; left > 0; left -= lanes<T>, i += way.step) {
    if (next == Next::fetch) __builtin_prefetch(x + i + ahead), __builtin_prefetch(out + i + ahead, 1);
    store(out + i, f(load(x + i)));
  }
  if (const int count = int(n - whole)) store_first(out + whole, f(load_first(x + whole, count)), count);
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
