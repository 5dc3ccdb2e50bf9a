#pragma once
// Positions as sines.
//
//   positions:  out[p][.] = sin(p * f[i]), cos(p * f[i]), interleaved or in two halves    (Vaswani et al. 2017, 3.5)
//
//   rotary:     out = x * cos(p * f) + turned(x) * sin(p * f)                             (Su et al. 2021)
//
// Angles are products in double, as NumPy's are; float32 results come from double angles, reduced in double.
// Bound: a reduction with its polynomials is some 50 instructions a vector, so arithmetic; rotary by memory.
#include "kernels/elementwise.hpp"
#include "kernels/table.hpp"

namespace tfcore {
namespace {

// A register of T takes one or two registers of double angles.
template <class T> constexpr int kAngleVectors = lanes<T> / lanes<double>;

// The first `left` elements, or as many as fit; none where it is negative.
template <class T> TFCORE_INLINE Vec<T> load_up_to(const T* p, Index left) {
  return left >= lanes<T> ? load(p) : load_first(p, left > 0 ? int(left) : 0);
}

// sin and cos of position * frequency[i], for the first `count` lanes.
template <class T>
TFCORE_INLINE void sines_at(double position, const double* frequency, int count, Vec<T>& s, Vec<T>& c) {
  VecF64 angle[kAngleVectors<T>];
  for (int i = 0; i < kAngleVectors<T>; ++i)
    angle[i] = position * load_up_to(frequency + i * lanes<double>, count - i * lanes<double>);
  if constexpr (sizeof(T) == 8) sincos_any(angle[0], s, c);
  else sincos_any(angle[0], angle[1], s, c);
}

// A table of sines: the cosines of a row's columns, then their sines.
template <class T>
TFCORE_INLINE void tabulate(const double* frequencies, Index columns, double position, double magnitude, T* table) {
  for (Index i = 0; i < columns; i += lanes<T>) {
    const int count = columns - i < lanes<T> ? int(columns - i) : lanes<T>;
    Vec<T> s, c;
    sines_at<T>(position, frequencies + i, count, s, c);
    store_first(table + i, c * T(magnitude), count);
    store_first(table + columns + i, s * T(magnitude), count);
  }
}

// --- positions -------------------------------------------------------------------------------------------------------

// float32 rows are turned into place: the row of p = q kStepRows + d, d < kStepRows, follows from the rows of
// q kStepRows and of d by the addition theorems, in double:
//   S = S0 c + C0 s    C = C0 c - S0 s    sin = S + (a - a0 - a1) C    cos = C - (a - a0 - a1) S
// where a = p f, a0 = (p - d) f and a1 = d f are rounded products. Absolute error: 2^-48, so what is below kSmallTurn
// is computed directly. Two thirds of the time that reductions and polynomials take.
constexpr float kSmallTurn = 0x1p-20;

struct TurnedRow {
  double origin, step;
  const double *at_origin, *at_step;  // tables
};

TFCORE_INLINE void turned_at(const PositionArgs<float>& a, const TurnedRow& row, Index i, int count, VecF32& s,
                             VecF32& c) {
  VecF64 sine[2], cosine[2];
  for (int j = 0; j < 2; ++j) {
    const Index done = j * lanes<double>;
    const auto at = [=](const double* p) TFCORE_LAMBDA { return load_up_to(p + i + done, count - done); };
    const VecF64 f = at(a.frequencies), rest = (f * (row.origin + row.step) - f * row.origin) - f * row.step;
    const VecF64 c0 = at(row.at_origin), s0 = at(row.at_origin + a.columns);
    const VecF64 c1 = at(row.at_step), s1 = at(row.at_step + a.columns);
    const VecF64 exact_sine = fma(s0, c1, c0 * s1), exact_cosine = fma(c0, c1, -(s0 * s1));
    sine[j] = fma(rest, exact_cosine, exact_sine), cosine[j] = fma(-rest, exact_sine, exact_cosine);
  }
  s = narrow(sine[0], sine[1]), c = narrow(cosine[0], cosine[1]);
  const VecI32 small = min(abs<float>(s), abs<float>(c)) < splat(kSmallTurn);
  if (__builtin_expect(any(small), 0)) {
    VecF32 direct_s, direct_c;
    sines_at<float>(row.origin + row.step, a.frequencies + i, count, direct_s, direct_c);
    s = small ? direct_s : s, c = small ? direct_c : c;
  }
}

// One row, whose sines share their columns' frequencies with the cosines or have their own.
template <class T, class At> TFCORE_INLINE void position_row(const PositionArgs<T>& a, T* out, At sines_from) {
  const Index sines = (a.model_width + 1) / 2, cosines = a.model_width / 2;
  const bool split = a.split, shared = a.columns == sines;
  const auto vector = [&](Index i, int count, int cosine_count) TFCORE_LAMBDA {
    Vec<T> s, c, unused;
    sines_from(i, count, s, c);
    if (!shared) sines_from(sines + i, cosine_count, unused, c);
    if (split) {
      store_first(out + i, s, count);
      store_first(out + sines + i, c, cosine_count);
      return;
    }
    const int both = count + cosine_count;
    store_first(out + 2 * i, interleave<T, 0>(s, c), both < lanes<T> ? both : lanes<T>);
    if (both > lanes<T>) store_first(out + 2 * i + lanes<T>, interleave<T, 1>(s, c), both - lanes<T>);
  };
  Index i = 0;
  for (; i + lanes<T> <= cosines; i += lanes<T>) vector(i, lanes<T>, lanes<T>);
  if (i < sines) vector(i, int(sines - i), int(cosines - i));
}

template <class T> void direct_row(const PositionArgs<T>& a, Index row) {
  const double position = double(a.offset + row);
  const double* const frequencies = a.frequencies;
  position_row(a, a.out + row * a.model_width, [=](Index i, int count, Vec<T>& s, Vec<T>& c) TFCORE_LAMBDA {
    sines_at<T>(position, frequencies + i, count, s, c);
  });
}

inline void turned_row(const PositionArgs<float>& a, Index row, const double* at_origin) {
  const Index step = step_of(a.offset + row);
  const TurnedRow turned{double(a.offset + row - step), double(step), at_origin,
                         a.steps + row % kStepRows * 2 * a.columns};
  const PositionArgs<float> args = a;  // a copy that no store can change
  position_row(a, a.out + row * a.model_width, [=](Index i, int count, VecF32& s, VecF32& c) TFCORE_LAMBDA {
    turned_at(args, turned, i, count, s, c);
  });
}

template <class T> void positions(const PositionArgs<T>& a, Index row_begin, Index row_end, double* scratch) {
  Index tabulated = Index(1) << 62;  // the position whose table is in scratch: none yet
  for (Index row = row_begin; row < row_end; ++row) {
    const Index position = a.offset + row, origin = position - step_of(position);
    if (sizeof(T) == 8 || !(__builtin_fabs(double(position)) * a.largest <= kSinCosLimit<double>)) {
      direct_row(a, row);
    } else if constexpr (sizeof(T) == 4) {
      if (origin != tabulated) tabulate(a.frequencies, a.columns, double(origin), 1.0, scratch);
      tabulated = origin;
      turned_row(a, row, scratch);
    }
  }
}

// --- rotary ----------------------------------------------------------------------------------------------------------

template <class T> TFCORE_INLINE void tabulate(const RotaryArgs<T>& a, Index row, T* table) {
  tabulate(a.frequencies, a.rotary / 2, a.positions[row], a.magnitude, table);
}

template <class T> void rotary_tables(const RotaryArgs<T>& a, Index row_begin, Index row_end, T* tables) {
  for (Index row = row_begin; row < row_end; ++row) tabulate(a, row, tables + row * a.rotary);
}

// Columns i and i + half turn together.
template <class T> TFCORE_INLINE void rotate_halves(const T* x, const T* table, T* out, Index half) {
  for (Index i = 0; i < half; i += lanes<T>) {
    const int count = half - i < lanes<T> ? int(half - i) : lanes<T>;
    const Vec<T> c = load_up_to(table + i, count), s = load_up_to(table + half + i, count);
    const Vec<T> low = load_up_to(x + i, count), high = load_up_to(x + half + i, count);
    store_first(out + i, fma(-high, s, low * c), count);
    store_first(out + half + i, fma(low, s, high * c), count);
  }
}

// Columns 2 i and 2 i + 1 turn together.
template <class T, int part> TFCORE_INLINE void rotate_pairs_with(Vec<T> c, Vec<T> s, const T* x, T* out, int count) {
  const Vec<T> v = load_up_to(x, count);
  store_first(out, fma(swap_pairs<T>(v), interleave<T, part>(-s, s), v * interleave<T, part>(c, c)), count);
}

template <class T> TFCORE_INLINE void rotate_pairs(const T* x, const T* table, T* out, Index half) {
  for (Index i = 0; i < half; i += lanes<T>) {
    const int count = half - i < lanes<T> ? int(half - i) : lanes<T>;
    const Vec<T> c = load_up_to(table + i, count), s = load_up_to(table + half + i, count);
    rotate_pairs_with<T, 0>(c, s, x + 2 * i, out + 2 * i, 2 * count < lanes<T> ? 2 * count : lanes<T>);
    if (2 * count > lanes<T>)
      rotate_pairs_with<T, 1>(c, s, x + 2 * i + lanes<T>, out + 2 * i + lanes<T>, 2 * count - lanes<T>);
  }
}

// x and out may be the same.
template <class T> void rotary(const RotaryArgs<T>& a, Index row_begin, Index row_end, T* scratch) {
  const std::size_t unturned = std::size_t(a.width - a.rotary) * sizeof(T);
  for (Index first = row_begin; first < row_end; first += kRotaryRows) {
    const Index end = row_end - first < kRotaryRows ? row_end : first + kRotaryRows;
    for (Index row = first; !a.tables && row < end; ++row) tabulate(a, row, scratch + (row - first) * a.rotary);
    const T* const tables = a.tables ? a.tables + first * a.rotary : scratch;
    for (Index i = 0; i < a.lead; ++i)
      for (Index row = first; row < end; ++row) {
        const T* const x = a.x + row * a.x_row + i * a.x_lead;
        T* const out = a.out + row * a.out_row + i * a.out_lead;
        const T* const table = tables + (row - first) * a.rotary;
        if (a.interleaved) rotate_pairs(x, table, out, a.rotary / 2);
        else rotate_halves(x, table, out, a.rotary / 2);
        if (x != out) __builtin_memcpy(out + a.rotary, x + a.rotary, unturned);
      }
  }
}

}  // namespace
}  // namespace tfcore
