#pragma once
// Positions as sines.
//
//   positions:  out[p][.] = sin(p * f[i]), cos(p * f[i]), interleaved or in two halves    (Vaswani et al. 2017, 3.5)
//
//   rotary:     out = x * cos(p * f) + turned(x) * sin(p * f)                             (Su et al. 2021)
//
// Angles are products in double, as NumPy's are; float32 results come from double angles, reduced in double.
// Bound: a reduction with its polynomials is some 50 instructions a vector, a turn of doubles 20, of pairs 36: so
// arithmetic, until some cores together reach memory's speed for large arrays; rotary by memory.
#include "kernels/pair.hpp"
#include "kernels/table.hpp"
#include "kernels/way.hpp"

namespace tfcore {
namespace {

// A register of T takes one or two registers of double angles.
template <class T> constexpr int kAngleVectors = lanes<T> / lanes<double>;

template <class T> TFCORE_INLINE Vec<T> narrowed(const VecF64 (&v)[kAngleVectors<T>]) {
  if constexpr (sizeof(T) == 8) return v[0];
  else return narrow(v[0], v[1]);
}

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
    const int count = lanes_of<T>(columns - i);
    Vec<T> s, c;
    sines_at<T>(position, frequencies + i, count, s, c);
    store_first(table + i, c * T(magnitude), count);
    store_first(table + columns + i, s * T(magnitude), count);
  }
}

// --- positions -------------------------------------------------------------------------------------------------------

// Rows are turned into place: the row of p = far + near + step, multiples of kStepRows^2, of kStepRows below that, and
// the rest, follows from tables of the rows of each by the addition theorems,
//   sin(x + y) = sin x cos y + cos x sin y    cos(x + y) = cos x cos y - sin x sin y
// and at last by e = a - p f, where a = p f as rounded: sin a = sin(p f) + e cos(p f). In doubles for float32, in pairs
// of them for float64. Absolute errors are below 2^-48 and 2^-65, so what is smaller than kSmallTurn is computed
// directly. Tried for pairs: products and sums with their errors (Dekker, Knuth) instead of the grid: twice as slow.
template <class T> constexpr T kSmallTurn = sizeof(T) == 4 ? T(0x1p-20) : T(0x1p-9);

// A row of a table: sines and cosines; of pairs, then the lower parts of both.
template <class T> using TableSines = Sines<std::conditional_t<sizeof(T) == 4, VecF64, Pair>>;

template <class T>
TFCORE_INLINE TableSines<T> load_sines(const PositionArgs<T>& a, const double* table, Index i, Index count) {
  const Index size = a.array_size();
  const auto at = [=](Index array) TFCORE_LAMBDA { return load_up_to(table + array * size + i, count); };
  if constexpr (sizeof(T) == 4) return {at(0), at(1)};
  else return {{at(0), at(2)}, {at(1), at(3)}};
}

template <class T>
TFCORE_INLINE void store_sines(const PositionArgs<T>& a, TableSines<T> v, double* table, Index i, int count) {
  const Index size = a.array_size();
  const auto store_at = [=](Index array, VecF64 x) TFCORE_LAMBDA { store_first(table + array * size + i, x, count); };
  if constexpr (sizeof(T) == 4) store_at(0, v.sine), store_at(1, v.cosine);
  else store_at(0, v.sine.high), store_at(1, v.cosine.high), store_at(2, v.sine.low), store_at(3, v.cosine.low);
}

// table[i] = of(i, count)
template <class T, class F> TFCORE_INLINE void fill_table(const PositionArgs<T>& a, double* table, F of) {
  Index i = 0;
  for (; i + lanes<double> <= a.columns; i += lanes<double>)
    store_sines(a, on_grid(of(i, lanes<double>)), table, i, lanes<double>);
  if (const int count = int(a.columns - i)) store_sines(a, on_grid(of(i, count)), table, i, count);
}

template <class T> void tabulate_position(const PositionArgs<T>& a, double position, double* table) {
  fill_table(a, table, [=](Index i, int count) TFCORE_LAMBDA -> TableSines<T> {
    const VecF64 p = splat(position), f = load_up_to(a.frequencies + i, count), angle = p * f;
    const VecF64 rest = rounded_off(p, f, angle);
    if constexpr (sizeof(T) == 8) {
      return sines_of(Pair{angle, rest});
    } else {
      TableSines<T> sines;
      sincos(angle, sines.sine, sines.cosine);
      return turn_by(sines, rest);
    }
  });
}

template <class T> void position_tables(const PositionArgs<T>& a, Index begin, Index end, double* tables) {
  for (Index i = begin; i < end; ++i) tabulate_position(a, double(a.tabulated(i)), tables + i * a.table_size());
}

struct TurnedRow {
  double position;
  const double *origin, *step;  // tables
};

template <class T>
TFCORE_INLINE void turned_at(const PositionArgs<T>& a, const TurnedRow& row, Index i, int count, Vec<T>& s, Vec<T>& c) {
  VecF64 sine[kAngleVectors<T>], cosine[kAngleVectors<T>];
  for (int j = 0; j < kAngleVectors<T>; ++j) {
    const Index first = i + j * lanes<double>, left = count - j * lanes<double>;
    const VecF64 f = load_up_to(a.frequencies + first, left), minus_p = splat(-row.position);
    const VecF64 e = rounded_off(minus_p, f, minus_p * f);
    const Sines<VecF64> sines =
        turn_by(turn(load_sines(a, row.origin, first, left), load_sines(a, row.step, first, left)), e);
    sine[j] = sines.sine, cosine[j] = sines.cosine;
  }
  s = narrowed<T>(sine), c = narrowed<T>(cosine);
}

// A vector of sines and one of cosines: from the same columns' frequencies, or from their own.
struct Columns {
  Index sine, cosine;
  int sines, cosines;
};

template <class T, class At> TFCORE_INLINE void fill_columns(const Columns& columns, At at, Vec<T>& s, Vec<T>& c) {
  Vec<T> unused;
  at(columns.sine, columns.sines, s, c);
  if (columns.cosine != columns.sine) at(columns.cosine, columns.cosines, unused, c);
}

template <class T, class F> TFCORE_INLINE void position_row(const PositionArgs<T>& a, T* out, F fill) {
  const Index sines = (a.model_width + 1) / 2, cosines = a.model_width / 2;
  const Index first_cosine = a.columns == sines ? 0 : sines;
  const bool split = a.split;
  const auto vector = [&](Index i, int count, int cosine_count) TFCORE_LAMBDA {
    Vec<T> s, c;
    for (int line = 0; line < 2 * kVecBytes; line += kLineBytes)
      __builtin_prefetch(reinterpret_cast<const char*>(out + 2 * i) + kFetchAhead + line, 1);
    fill(Columns{i, first_cosine + i, count, cosine_count}, s, c);
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
  const auto direct = [=](Index i, int count, Vec<T>& s, Vec<T>& c)
                          TFCORE_LAMBDA { sines_at<T>(position, frequencies + i, count, s, c); };
  position_row(a, a.out + row * a.model_width, [=](const Columns& columns, Vec<T>& s, Vec<T>& c) TFCORE_LAMBDA {
    fill_columns<T>(columns, direct, s, c);
  });
}

template <class T> void turned_row(const PositionArgs<T>& a, Index row, const double* origin) {
  const TurnedRow parts{double(a.offset + row), origin, a.tables + row % kStepRows * a.table_size()};
  const PositionArgs<T> args = a;  // a copy that no store can change
  const auto turned = [=](Index i, int count, Vec<T>& s, Vec<T>& c)
                          TFCORE_LAMBDA { turned_at(args, parts, i, count, s, c); };
  const auto direct = [=](Index i, int count, Vec<T>& s, Vec<T>& c)
                          TFCORE_LAMBDA { sines_at<T>(parts.position, args.frequencies + i, count, s, c); };
  position_row(a, a.out + row * a.model_width, [=](const Columns& columns, Vec<T>& s, Vec<T>& c) TFCORE_LAMBDA {
    fill_columns<T>(columns, turned, s, c);
    const IntVec<T> filled = lane_index<T>() < IntVec<T>{} + Int<T>(columns.sines);
    const IntVec<T> small = filled & IntVec<T>(min(abs<T>(s), abs<T>(c)) < splat(kSmallTurn<T>));
    if (__builtin_expect(any(small), 0)) {
      Vec<T> direct_s, direct_c;
      fill_columns<T>(columns, direct, direct_s, direct_c);
      s = small ? direct_s : s, c = small ? direct_c : c;
    }
  });
}

// scratch: two tables, of far + near and of far.
template <class T> void positions(const PositionArgs<T>& a, Index row_begin, Index row_end, double* scratch) {
  double *const at_origin = scratch, *const at_far = scratch + a.table_size();
  Index last_origin = Index(1) << 62, last_far = last_origin;  // whose tables these are: of none yet
  for (Index row = row_begin; row < row_end; ++row) {
    const Index position = a.offset + row, origin = position - step_of(position), far = origin - near_of(origin);
    const bool first = position >= 0 && position < kFirstTurnedRow<T>;
    if (first || !(__builtin_fabs(double(position)) * a.largest <= kSinCosLimit)) {
      direct_row(a, row);
      continue;
    }
    if (far != last_far) tabulate_position(a, double(far), at_far);
    if (origin != last_origin) {
      const double* const at_near = a.near_table(origin);
      fill_table(a, at_origin, [&](Index i, int count) TFCORE_LAMBDA {
        return turn(load_sines(a, at_far, i, count), load_sines(a, at_near, i, count));
      });
    }
    last_far = far, last_origin = origin;
    turned_row(a, row, at_origin);
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
    const int count = lanes_of<T>(half - i);
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
    const int count = lanes_of<T>(half - i);
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
    const Index end = min(row_end, first + kRotaryRows);
    for (Index row = first; !a.tables && row < end; ++row) tabulate(a, row, scratch + (row - first) * a.rotary);
    const T* const tables = a.tables ? a.tables + first * a.rotary : scratch;
    for (Index i = 0; i < a.lead; ++i)
      for (Index row = first; row < end; ++row) {
        const Index at = row * a.row_stride + i * a.lead_stride;
        const T* const x = a.x + at;
        T* const out = a.out + at;
        const T* const table = tables + (row - first) * a.rotary;
        if (a.interleaved) rotate_pairs(x, table, out, a.rotary / 2);
        else rotate_halves(x, table, out, a.rotary / 2);
        if (x != out) __builtin_memcpy(out + a.rotary, x + a.rotary, unturned);
      }
  }
}

}  // namespace
}  // namespace tfcore
