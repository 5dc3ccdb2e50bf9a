#pragma once
// Row-wise normalisations, x (rows, C):
//
//   softmax:     y = exp(x - max x) / sum exp(x - max x)
//   log_softmax: y = x - max x - log sum exp(x - max x)
//   layer_norm:  y = (x - mean x) / sqrt(mean (x - mean x)^2 + eps) * weight + bias
//   rms_norm:    y = x / sqrt(mean x^2 + eps) * weight
//
// Sums run in blocks of two chains of sixteen logical lanes and end in one tree, whatever the register width.
// Bound by memory: a row is read from it once and written once; the passes over it find it in the nearest cache.
#include "kernels/elementwise.hpp"
#include "kernels/math.hpp"
#include "kernels/table.hpp"
#include "kernels/way.hpp"

namespace tfcore {
namespace {

// A row is summed in blocks of this many elements, eight to a lane of each chain, and what the total loses to rounding
// when a block joins it is kept beside it. (One chain a row had 2.2 times the error of NumPy's pairwise sum at 3000
// columns; blocks of 128 took 10 % longer.)
constexpr Index kSumBlock = 256;

// A pass over a row may also ask for the rows after it, so that memory works while later passes compute: 10 to
// 18 % where rows come from L3, and 6 % more in the pass for the variance than in the one for the mean. (Taking four
// rows at a time, pass by pass, was slower by 3 to 10 %. The next row's mean in turns with this one's variance, block
// by block: 1.1 to 1.35 times as fast out of L2 at up to 1024 columns, 0.7 to 1 where rows come from memory, Zen 4.)
// Bytes. Half as far ahead to read, rms_norm takes 20 % longer out of memory.
constexpr Index kReadAhead = 8192, kWriteAhead = 4096;

template <class V> TFCORE_INLINE V add_exactly(V a, V b, V& lost) {  // Knuth's two-sum
  const V s = a + b, b_seen = s - a;
  lost = lost + ((a - (s - b_seen)) + (b - b_seen));
  return s;
}

// Lanes x and x + 8, then + 4, + 2, + 1: one tree, in double, where float needs no corrections of its own.
template <int step> TFCORE_INLINE double add_lanes(VecF64 x) {
  if constexpr (step == 0) return x[0];
  else return add_lanes<step / 2>(x + rotate_lanes<double, step>(x));
}

template <class T> TFCORE_INLINE double add_lanes(const Lanes16<T>& x) {
  Lanes16<double> wide;
  for (int p = 0; p < Lanes16<T>::kRegisters; ++p)
    if constexpr (sizeof(T) == 4) widen(x.part[p], wide.part[2 * p], wide.part[2 * p + 1]);
    else wide.part[p] = x.part[p];
  for (int step = Lanes16<double>::kRegisters / 2; step > 0; step /= 2)
    for (int p = 0; p < step; ++p) wide.part[p] = wide.part[p] + wide.part[p + step];
  return add_lanes<lanes<double> / 2>(wide.part[0]);
}

template <class T> struct Total {
  Lanes16<T> sum{}, lost{};

  TFCORE_INLINE void add(const Lanes16<T>& more) {
    for (int p = 0; p < Lanes16<T>::kRegisters; ++p) sum.part[p] = add_exactly(sum.part[p], more.part[p], lost.part[p]);
  }
  TFCORE_INLINE T value() const {
    const double total = add_lanes(sum), rest = add_lanes(lost);
    return T(rest == rest ? total + rest : total);  // an infinite sum has no correction
  }
};

// The sum over a block of what f(vector, chain, count) adds to a chain; past the block's end a vector holds zeros
// beyond `count`.
template <Next next, class T, class F> TFCORE_INLINE Lanes16<T> sum_block(const T* x, Index n, F f) {
  Lanes16<T> chain[2] = {};
  Index i = 0;
  for (; i + 32 <= n; i += 32)
    for (int c = 0; c < 2; ++c) {
      if (next == Next::fetch) __builtin_prefetch(x + i + 16 * c + kReadAhead / Index(sizeof(T)), 0, 2);
      for (int p = 0; p < Lanes16<T>::kRegisters; ++p)
        chain[c].part[p] = f(load(x + i + 16 * c + p * lanes<T>), chain[c].part[p], lanes<T>);
    }
  for (int c = 0; i < n; i += 16, ++c)
    for (int p = 0; p < Lanes16<T>::kRegisters; ++p) {
      const Index left = n - i - p * lanes<T>;
      const int count = left >= lanes<T> ? lanes<T> : (left > 0 ? int(left) : 0);
      chain[c].part[p] = f(load_first(x + i + p * lanes<T>, count), chain[c].part[p], count);
    }
  for (int p = 0; p < Lanes16<T>::kRegisters; ++p) chain[0].part[p] = chain[0].part[p] + chain[1].part[p];
  return chain[0];
}

// Of n terms, from block(first, size). In a single block nothing is lost.
template <class T, class F> TFCORE_INLINE T add_blocks(Index n, F block) {
  if (n <= kSumBlock) return T(add_lanes(block(0, n)));
  Total<T> total;
  for (Index i = 0; i < n; i += kSumBlock) total.add(block(i, min(n - i, kSumBlock)));
  return total.value();
}

template <Next next, class T, class F> TFCORE_INLINE T sum_of(const T* x, Index n, F f) {
  return add_blocks<T>(n, [&](Index i, Index size) TFCORE_LAMBDA { return sum_block<next>(x + i, size, f); });
}

constexpr auto kAdd = [](auto v, auto chain, int) TFCORE_LAMBDA { return chain + v; };

template <class T> TFCORE_INLINE T sum_row(const T* x, Index n) { return sum_of<Next::leave>(x, n, kAdd); }

template <class T> TFCORE_INLINE T sum_of_squares(const T* x, Index n) {
  return sum_of<Next::fetch>(x, n, [](Vec<T> v, Vec<T> chain, int) TFCORE_LAMBDA { return fma(v, v, chain); });
}

// v with zeros beyond `count`.
template <class T> TFCORE_INLINE Vec<T> first_of(Vec<T> v, int count) {
  return count < lanes<T> ? first_lanes<T>(count) ? v : Vec<T>{} : v;
}

template <class T> TFCORE_INLINE T sum_of_squares_around(T mean, const T* x, Index n) {
  return sum_of<Next::fetch>(x, n, [mean](Vec<T> v, Vec<T> chain, int count) TFCORE_LAMBDA {
    const Vec<T> away = first_of<T>(v - mean, count);
    return fma(away, away, chain);
  });
}

template <class T> TFCORE_INLINE T sum_of_powers_below(T most, const T* x, Index n) {
  return sum_of<Next::fetch>(x, n, [most](Vec<T> v, Vec<T> chain, int count) TFCORE_LAMBDA {
    return chain + first_of<T>(exp_nonpositive<T>(v - most), count);
  });
}

template <class T> TFCORE_INLINE T max_row(const T* x, Index n) {
  Vec<T> chain[4];
  for (Vec<T>& c : chain) c = splat(T(-__builtin_inf()));
  Index i = 0;
  for (; i + 4 * lanes<T> <= n; i += 4 * lanes<T>)
    for (int c = 0; c < 4; ++c) chain[c] = max(load(x + i + c * lanes<T>), chain[c]);
  Vec<T> most = max(max(chain[0], chain[1]), max(chain[2], chain[3]));
  for (; i + lanes<T> <= n; i += lanes<T>) most = max(load(x + i), most);
  if (i < n && n >= lanes<T>) most = max(load(x + n - lanes<T>), most), i = n;
  T result = largest_lane<T>(most);
  for (; i < n; ++i) result = result > x[i] ? result : x[i];
  return result;
}

// Up to where stores of whole registers do not straddle cache lines: 5 to 10 % where out is in memory.
template <class T> TFCORE_INLINE Index elements_to_line(const T* out) {
  return Index((0 - reinterpret_cast<std::uintptr_t>(out)) % kVecBytes / sizeof(T));
}

// out[i] = f(x[i]) over one row; f also gets the index, to read what else belongs to it. The first and the last
// register overlap their neighbours; what they need is read before it is overwritten, where out is x.
template <class T, class F> TFCORE_INLINE void map_row(const T* x, T* out, Index n, F f) {
  if (n < 2 * lanes<T>) {
    for (Index i = 0; i < n; i += lanes<T>) {
      const int count = lanes_of<T>(n - i);
      const auto at = [i, count](const T* p) TFCORE_LAMBDA { return load_first(p + i, count); };
      store_first(out + i, f(at(x), at), count);
    }
    return;
  }
  const auto value = [=](Index i) TFCORE_LAMBDA {
    const auto at = [i](const T* p) TFCORE_LAMBDA { return load(p + i); };
    return f(at(x), at);
  };
  const Index last = n - lanes<T>, begin = elements_to_line(out), count = (last - begin + lanes<T> - 1) / lanes<T>;
  const Way way = way_through(x, out, begin, count);
  const Vec<T> first_value = value(0), last_value = value(last);
  Index i = way.first;
  Vec<T> y = value(i);
  store(out, first_value);
  for (Index left = count;;) {
    __builtin_prefetch(out + i + kWriteAhead / Index(sizeof(T)), 1);
    store(out + i, y);
    if (--left == 0) break;
    i += way.step;
    y = value(i);
  }
  store(out + last, last_value);
}

// out = exp(x - most), and its sum, block by block: while one block is added up, a chain of waits, the powers of the
// next are under way. (Each power added as it is stored: as fast on AVX-512; AVX2 lacks the registers, 8 % slower than
// a pass for each.)
template <class T> TFCORE_INLINE T powers_below(T most, const T* x, T* out, Index n) {
  return add_blocks<T>(n, [=](Index i, Index size) TFCORE_LAMBDA {
    map_array<Next::fetch>(x + i, out + i, size,
                           [most](Vec<T> v) TFCORE_LAMBDA { return exp_nonpositive<T>(v - most); });
    return sum_block<Next::leave>(out + i, size, kAdd);
  });
}

// v / total by factor = 1 / total and one step of refinement: without a division for each.
template <class T> TFCORE_INLINE Vec<T> quotient(Vec<T> v, Vec<T> total, Vec<T> factor) {
  const Vec<T> y = v * factor;
  return fma(fma(-y, total, v), factor, y);
}

template <class T> void softmax_row(const T* x, T* out, Index n) {
  const T most = max_row(x, n), total = powers_below(most, x, out, n), factor = T(1) / total;
  map_row(out, out, n, [=](Vec<T> v, auto) TFCORE_LAMBDA { return quotient<T>(v, splat(total), splat(factor)); });
}

template <class T> void log_softmax_row(const T* x, T* out, Index n) {
  const T most = max_row(x, n);
  const T log_total = T(log_of(double(sum_of_powers_below(most, x, n))));
  map_row(x, out, n, [=](Vec<T> v, auto) TFCORE_LAMBDA { return v - most - log_total; });
}

template <class T> void softmax(SoftmaxKind kind, const T* x, T* out, Index rows, Index width) {
  const auto row = kind == SoftmaxKind::plain ? softmax_row<T> : log_softmax_row<T>;
  for (Index r = 0; r < rows; ++r) row(x + r * width, out + r * width, width);
}

// out = (x - center) * factor * weight + bias, either of the last two optional.
template <class T> TFCORE_INLINE void scale_row(const NormArgs<T>& a, const T* x, T* out, T center, T factor) {
  map_row(x, out, a.width, [&](Vec<T> v, auto at) TFCORE_LAMBDA {
    const Vec<T> y = (v - center) * factor;
    if (a.weight && a.bias) return fma(y, at(a.weight), at(a.bias));
    if (a.weight) return y * at(a.weight);
    return a.bias ? y + at(a.bias) : y;
  });
}

template <class T> TFCORE_INLINE T reciprocal_root(T x) {
  if constexpr (sizeof(T) == 4) return T(1) / __builtin_sqrtf(x);
  else return T(1) / __builtin_sqrt(x);
}

template <class T> void layer_norm(const NormArgs<T>& a, Index row_begin, Index row_end) {
  for (Index r = row_begin; r < row_end; ++r) {
    const T* x = a.x + r * a.width;
    const T mean = sum_row(x, a.width) / T(a.width);
    const T variance = sum_of_squares_around(mean, x, a.width) / T(a.width);
    scale_row(a, x, a.out + r * a.width, mean, reciprocal_root(variance + a.eps));
  }
}

template <class T> void rms_norm(const NormArgs<T>& a, Index row_begin, Index row_end) {
  for (Index r = row_begin; r < row_end; ++r) {
    const T* x = a.x + r * a.width;
    scale_row(a, x, a.out + r * a.width, T(0), reciprocal_root(sum_of_squares(x, a.width) / T(a.width) + a.eps));
  }
}

}  // namespace
}  // namespace tfcore
