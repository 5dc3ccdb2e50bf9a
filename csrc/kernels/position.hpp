#pragma once
// Positions as sines.
//
//   positions:  out[p][.] = sin(p * f[i]), cos(p * f[i]), interleaved or in two halves        (Vaswani et al. 2017,
//   §3.5) rotary:     out = x * cos(p * f) + turned(x) * sin(p * f)                                 (Su et al. 2021)
//
// Angles are products in double, as NumPy's are; float32 results come from double angles, reduced in double.
// Bound: sincos is some 40 instructions a vector, so arithmetic on one core and write bandwidth on several.
#include "kernels/elementwise.hpp"
#include "kernels/table.hpp"

namespace tfcore {
namespace {

// A register of T takes one or two registers of double angles.
template <class T> constexpr int kAngleVectors = lanes<T> / lanes<double>;

// sin and cos of position * frequency[i], for the first `count` lanes.
template <class T>
TFCORE_INLINE void sines_at(double position, const double* frequency, int count, Vec<T>& s, Vec<T>& c) {
  VecF64 angle[kAngleVectors<T>];
  for (int i = 0; i < kAngleVectors<T>; ++i) {
    const int left = count - i * lanes<double>;
    angle[i] = position * (left >= lanes<double> ? load(frequency + i * lanes<double>)
                                                 : load_first(frequency + i * lanes<double>, left > 0 ? left : 0));
  }
  if constexpr (sizeof(T) == 8) sincos_any(angle[0], s, c);
  else sincos_any(angle[0], angle[1], s, c);
}

// One row: sines[i] and cosines[i] at frequencies of their own, or of the same when `shared`.
template <class T> void position_row(const PositionArgs<T>& a, double position, T* out) {
  const Index sines = (a.model_width + 1) / 2, cosines = a.model_width / 2;
  for (Index i = 0; i < sines; i += lanes<T>) {
    const int count = sines - i < lanes<T> ? int(sines - i) : lanes<T>;
    const int cosine_count = cosines - i < lanes<T> ? int(cosines - i) : lanes<T>;
    Vec<T> s, c, unused;
    sines_at<T>(position, a.frequencies + i, count, s, c);
    if (a.scheme == Scheme::linear) sines_at<T>(position, a.frequencies + sines + i, cosine_count, unused, c);
    if (a.split) {
      store_first(out + i, s, count);
      store_first(out + sines + i, c, cosine_count);
      continue;
    }
    const Vec<T> low = interleave<T, 0>(s, c), high = interleave<T, 1>(s, c);
    const int both = count + cosine_count;
    store_first(out + 2 * i, low, both < lanes<T> ? both : lanes<T>);
    store_first(out + 2 * i + lanes<T>, high, both > lanes<T> ? both - lanes<T> : 0);
  }
}

template <class T> void positions(const PositionArgs<T>& a, Index row_begin, Index row_end) {
  for (Index row = row_begin; row < row_end; ++row)
    position_row(a, a.offset + double(row), a.out + row * a.model_width);
}

// cosine[j] and sine[j] for every rotated column j, the sine carrying the sign of its half of the pair.
template <class T> void tabulate(const RotaryArgs<T>& a, double position, T* cosine, T* sine) {
  const Index half = a.rotary / 2;
  for (Index i = 0; i < half; i += lanes<T>) {
    const int count = half - i < lanes<T> ? int(half - i) : lanes<T>;
    Vec<T> s, c;
    sines_at<T>(position, a.frequencies + i, count, s, c);
    s = s * T(a.magnitude), c = c * T(a.magnitude);
    if (a.interleaved) {
      for (int j = 0; j < count; ++j) {
        cosine[2 * (i + j)] = cosine[2 * (i + j) + 1] = c[j];
        sine[2 * (i + j)] = -s[j], sine[2 * (i + j) + 1] = s[j];
      }
    } else {
      store_first(cosine + i, c, count), store_first(cosine + half + i, c, count);
      store_first(sine + i, -s, count), store_first(sine + half + i, s, count);
    }
  }
}

template <class T> void rotary_tables(const RotaryArgs<T>& a, Index row_begin, Index row_end, T* tables) {
  for (Index row = row_begin; row < row_end; ++row)
    tabulate(a, a.positions[row], tables + row * 2 * a.rotary, tables + (row * 2 + 1) * a.rotary);
}

// out[j] = x[j] * cosine[j] + partner[j] * sine[j] over n columns
template <class T>
TFCORE_INLINE void rotate(const T* x, const T* partner, const T* cosine, const T* sine, T* out, Index n) {
  for (Index j = 0; j < n; j += lanes<T>) {
    const int count = n - j < lanes<T> ? int(n - j) : lanes<T>;
    const auto at = [&](const T* p)
                        TFCORE_LAMBDA { return count == lanes<T> ? load(p + j) : load_first(p + j, count); };
    store_first(out + j, fma(at(partner), at(sine), at(x) * at(cosine)), count);
  }
}

template <class T> void rotary(const RotaryArgs<T>& a, Index row_begin, Index row_end, T* scratch) {
  const Index half = a.rotary / 2;
  T* const swapped = scratch + 2 * a.rotary;  // the other column of each interleaved pair
  for (Index row = row_begin; row < row_end; ++row) {
    if (!a.tables) tabulate(a, a.positions[row], scratch, scratch + a.rotary);
    const T* cosine = a.tables ? a.tables + row * 2 * a.rotary : scratch;
    const T* sine = cosine + a.rotary;
    for (Index i = 0; i < a.lead; ++i) {
      const T* x = a.x + row * a.x_row + i * a.x_lead;
      T* out = a.out + row * a.out_row + i * a.out_lead;
      if (a.interleaved) {
        for (Index j = 0; j < a.rotary; ++j) swapped[j] = x[j ^ 1];
        rotate(x, swapped, cosine, sine, out, a.rotary);
      } else {
        rotate(x, x + half, cosine, sine, out, half);
        rotate(x + half, x, cosine + half, sine + half, out + half, half);
      }
      __builtin_memcpy(out + a.rotary, x + a.rotary, std::size_t(a.width - a.rotary) * sizeof(T));
    }
  }
}

}  // namespace
}  // namespace tfcore
