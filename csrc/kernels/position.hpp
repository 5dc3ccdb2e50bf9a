#pragma once
// Positions as sines.
//
//   positions:  out[p][.] = sin(p * f[i]), cos(p * f[i]), interleaved or in two halves    (Vaswani et al. 2017, 3.5)
//
//   rotary:     out = x * cos(p * f) + turned(x) * sin(p * f)                             (Su et al. 2021)
//
// Angles are products in double, as NumPy's are; float32 results come from double angles, reduced in double.
// Bound: a reduction with its polynomials is some 50 instructions a vector, a turn of doubles 20, of pairs 36, or 23
// where the sine or the cosine alone is used: so arithmetic, until some cores together reach memory's speed for large
// arrays; rotary by memory.
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
// of them for float64. Absolute errors are below 2^-48 and 2^-68, so what is smaller than kSmallTurn is computed
// directly. Tried for pairs: products and sums with their errors (Dekker, Knuth) instead of the grid: twice as slow.
template <class T> constexpr T kSmallTurn = sizeof(T) == 4 ? T(0x1p-20) : T(0x1p-13);

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

template <class T> TFCORE_INLINE TableSines<T> sines_of_product(VecF64 p, VecF64 f) {
  const VecF64 angle = p * f, rest = rounded_off(p, f, angle);
  if constexpr (sizeof(T) == 8) {
    return on_grid(sines_of(Pair{angle, rest}));
  } else {
    TableSines<T> sines;
    sincos(angle, sines.sine, sines.cosine);
    return turn_by(sines, rest);
  }
}

template <class T> void tabulate_position(const PositionArgs<T>& a, double position, double* table) {
  const VecF64 p = splat(position);
  for (Index i = 0; i < a.columns; i += lanes<double>) {
    const int count = lanes_of<double>(a.columns - i);
    store_sines(a, sines_of_product<T>(p, load_up_to(a.frequencies + i, count)), table, i, count);
  }
}

template <class T> void position_tables(const PositionArgs<T>& a, Index begin, Index end, double* tables) {
  for (Index i = begin; i < end; ++i)
    tabulate_position(a, double(a.tabulated(i)), tables + a.place_of(i) * a.table_size());
}

// A vector of sines and one of cosines: from the same columns' frequencies, or from their own.
struct Columns {
  Index sine, cosine;
  int sines, cosines;
};

template <class T> TFCORE_INLINE bool columns_shared(const PositionArgs<T>& a) {
  return a.columns == (a.model_width + 1) / 2;
}

// visit(columns), all of a row.
template <class T, class F> TFCORE_INLINE void each_columns(const PositionArgs<T>& a, F visit) {
  const Index sines = (a.model_width + 1) / 2, cosines = a.model_width / 2;
  const Index first_cosine = columns_shared(a) ? 0 : sines;
  Index i = 0;
  for (; i + lanes<T> <= cosines; i += lanes<T>) visit(Columns{i, first_cosine + i, lanes<T>, lanes<T>});
  if (i < sines) visit(Columns{i, first_cosine + i, int(sines - i), int(cosines - i)});
}

// Bytes. Where each row lies on a page of its own, nothing else runs ahead of the stores: float64 results out of memory
// 1.3 times as fast. (Stores past the caches: 1.1 times that on two threads; they need aligned rows and a fence.)
constexpr Index kColumnsAhead = 256;

// Asks for the lines of a row that the columns after the next are stored to.
template <class T> TFCORE_INLINE void fetch_columns_ahead(const PositionArgs<T>& a, const Columns& at, Index row) {
  const Index sines = (a.model_width + 1) / 2;
  const T* const out = a.out + row * a.model_width + (a.split ? at.sine : 2 * at.sine) + kColumnsAhead / sizeof(T);
  __builtin_prefetch(out, 1);
  if (a.split) __builtin_prefetch(out + sines, 1);
  else if (2 * kVecBytes > kLineBytes) __builtin_prefetch(out + lanes<T>, 1);
}

template <class T>
TFCORE_INLINE void store_columns(const PositionArgs<T>& a, const Columns& at, Index row, const Sines<Vec<T>>& v) {
  T* const out = a.out + row * a.model_width;
  if (a.split) {
    store_first(out + at.sine, v.sine, at.sines);
    store_first(out + (a.model_width + 1) / 2 + at.sine, v.cosine, at.cosines);
    return;
  }
  const int both = at.sines + at.cosines;
  store_first(out + 2 * at.sine, interleave<T, 0>(v.sine, v.cosine), both < lanes<T> ? both : lanes<T>);
  if (both > lanes<T>) store_first(out + 2 * at.sine + lanes<T>, interleave<T, 1>(v.sine, v.cosine), both - lanes<T>);
}

template <class T> TFCORE_INLINE Sines<Vec<T>> direct_at(const PositionArgs<T>& a, const Columns& at, Index row) {
  const double position = double(a.offset + row);
  Sines<Vec<T>> sines;
  Vec<T> unused;
  sines_at<T>(position, a.frequencies + at.sine, at.sines, sines.sine, sines.cosine);
  if (at.cosine != at.sine) sines_at<T>(position, a.frequencies + at.cosine, at.cosines, unused, sines.cosine);
  return sines;
}

template <class T> void direct_row(const PositionArgs<T>& a, Index row) {
  each_columns(a, [&](const Columns& at) TFCORE_LAMBDA { store_columns(a, at, row, direct_at(a, at, row)); });
}

struct TurnedRows {
  Index begin, end;          // of one origin
  const double *far, *near;  // its tables
};

// What they share in some columns.
template <class T> struct Origin {
  VecF64 frequency[kAngleVectors<T>];
  TableSines<T> sines[kAngleVectors<T>];
};

template <class T>
TFCORE_INLINE Origin<T> origin_at(const PositionArgs<T>& a, const TurnedRows& rows, Index i, int count) {
  Origin<T> origin;
  for (int j = 0; j < kAngleVectors<T>; ++j) {
    const Index first = i + j * lanes<double>, left = count - j * lanes<double>;
    origin.frequency[j] = load_up_to(a.frequencies + first, left);
    origin.sines[j] = on_grid(turn(load_sines(a, rows.far, first, left), load_sines(a, rows.near, first, left)));
  }
  return origin;
}

template <bool both, class T> TFCORE_INLINE Sines<Vec<T>> turned_at(const PositionArgs<T>& a, const Origin<T>& origin,
                                                                    const double* step, VecF64 minus_p, Index i,
                                                                    int count) {
  VecF64 sine[kAngleVectors<T>], cosine[kAngleVectors<T>];
  for (int j = 0; j < kAngleVectors<T>; ++j) {
    const VecF64 f = origin.frequency[j], e = rounded_off(minus_p, f, minus_p * f);
    const TableSines<T> by = load_sines(a, step, i + j * lanes<double>, count - j * lanes<double>);
    const Sines<VecF64> sines = turn<both>(origin.sines[j], by, e);
    sine[j] = sines.sine, cosine[j] = sines.cosine;
  }
  return {narrowed<T>(sine), narrowed<T>(cosine)};
}

// Lanes of `sizes` below kSmallTurn; but not those of frequency 0, as past the last column: their sines are 0 exactly.
template <class T> TFCORE_INLINE IntVec<T> small_lanes(const Origin<T>& origin, Vec<T> sizes) {
  VecF64 turns[kAngleVectors<T>];
  for (int j = 0; j < kAngleVectors<T>; ++j) turns[j] = origin.frequency[j] == 0.0 ? VecF64{} : splat(1.0);
  return IntVec<T>(sizes < splat(kSmallTurn<T>)) & IntVec<T>(narrowed<T>(turns) > T(0));
}

// Rows of one origin in some columns: what they share stays in registers. Small lanes are replaced, or looked for. (All
// rows of a far part in a column's turn: 0.75 as fast out of memory. Small lanes looked for in every row: 0.9.)
template <bool both, bool replace, class T>
TFCORE_INLINE bool turned_columns(const PositionArgs<T>& a, const TurnedRows& rows, const Columns& at) {
  const Origin<T> of_sines = origin_at(a, rows, at.sine, at.sines);
  const Origin<T> of_cosines = both ? of_sines : origin_at(a, rows, at.cosine, at.cosines);
  const auto small_of = [&](const Sines<Vec<T>>& sizes) TFCORE_LAMBDA -> IntVec<T> {
    return small_lanes(of_sines, sizes.sine) | small_lanes(of_cosines, sizes.cosine);
  };
  const Vec<T> one = splat(T(1));
  Sines<Vec<T>> least{one, one};
  const Index first = a.offset + rows.begin;
  const double* step = a.step_table(first);
  VecF64 minus_p = splat(-double(first));
  for (Index row = rows.begin; row < rows.end; ++row, minus_p -= 1.0, step += a.table_size()) {
    Sines<Vec<T>> sines = turned_at<both>(a, of_sines, step, minus_p, at.sine, at.sines);
    if (!both) sines.cosine = turned_at<both>(a, of_cosines, step, minus_p, at.cosine, at.cosines).cosine;
    // Of the same angle, the product of both, which is no larger than either, tells as much.
    const Sines<Vec<T>> sizes{abs<T>(both ? sines.sine * sines.cosine : sines.sine), both ? one : abs<T>(sines.cosine)};
    least = {min(least.sine, sizes.sine), min(least.cosine, sizes.cosine)};
    if (replace) {
      const IntVec<T> small = small_of(sizes);
      if (any(small)) {
        const Sines<Vec<T>> direct = direct_at(a, at, row);
        sines = {small ? direct.sine : sines.sine, small ? direct.cosine : sines.cosine};
      }
    } else {
      fetch_columns_ahead(a, at, row);
    }
    store_columns(a, at, row, sines);
  }
  return any(small_of(least));
}

template <bool both, class T>
__attribute__((noinline)) void replace_small(const PositionArgs<T>& a, const TurnedRows& rows, const Columns& at) {
  turned_columns<both, true>(a, rows, at);
}

template <bool both, class T> void turned_rows(const PositionArgs<T>& args, const TurnedRows& rows) {
  const PositionArgs<T> a = args;  // a copy that no store can change
  each_columns(a, [&](const Columns& at) TFCORE_LAMBDA {
    if (__builtin_expect(turned_columns<both, false>(a, rows, at), 0)) replace_small<both>(a, rows, at);
  });
}

// scratch: a table.
template <class T> void positions(const PositionArgs<T>& a, Index row_begin, Index row_end, double* scratch) {
  const auto turns = [&](Index row) {
    const Index position = a.offset + row;
    const bool first = position >= 0 && position < kFirstTurnedRow<T>;
    return !first && __builtin_fabs(double(position)) * a.largest <= kSinCosLimit;
  };
  Index last_far = Index(1) << 62;  // whose table this is: of none yet
  for (Index row = row_begin, end; row < row_end; row = end) {
    end = row + 1;
    if (!turns(row)) {
      direct_row(a, row);
      continue;
    }
    const Index origin = origin_of(a.offset + row), far = origin - near_of(origin);
    while (end < row_end && origin_of(a.offset + end) == origin && turns(end)) ++end;
    if (far != last_far) tabulate_position(a, double(far), scratch);
    last_far = far;
    const TurnedRows rows{row, end, scratch, a.near_table(origin)};
    if (columns_shared(a)) turned_rows<true>(a, rows);
    else turned_rows<false>(a, rows);
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
