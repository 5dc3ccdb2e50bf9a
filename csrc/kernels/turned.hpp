#pragma once
// A few rows times a matrix that lies column by column, which is read once, where it is:
//
//   sum[r][j] = sum_k a[r][k] * b[j][k]        r < R; lanes are columns j of the product, rows of b in memory
//
// A step turns a few squares of b in registers, lanes rows and kSquare depths each; every depth then meets every row of
// a. A sum is one chain, k ascending, as in tile.hpp. Bound by the shuffles, 16 bytes of b a cycle, and by memory.
#include "kernels/table.hpp"
#include "simd/vec.hpp"

namespace tfcore {
namespace {

// square[i][j] = row(j)[i] for i < count
template <class T, class Row> TFCORE_INLINE void load_square(Row row, int count, Vec<T> (&square)[lanes<T>]) {
  if (count == lanes<T>) {
#pragma GCC unroll 8
    for (int i = 0; i < lanes<T>; i += kSquare<T>)
      load_columns<T>([&](int j) TFCORE_LAMBDA { return row(j) + i; }, square + i);
    return;
  }
  for (int i = 0; i < lanes<T>; ++i) square[i] = load_first(row(i), count);
  transpose<T>(square);
}

// The rows of b of a step are a few streams of adjacent ones.
template <class T, int squares_, int streams_> struct Step {
  static constexpr int squares = squares_, rows = squares * lanes<T>, streams = streams_, together = rows / streams;
};
// Two squares in turn where one would wait for its chain, and registers are enough.
template <class T> constexpr int kFarSquares = lanes<T> <= 4 ? 2 : 1;
template <class T, int R> constexpr int kNearSquares = !kWide && R <= 2 ? 2 : kFarSquares<T>;
template <class T, int squares> constexpr int kStreams = squares * lanes<T> < 8 ? squares * lanes<T> : 8;

// Where a step reads: a pointer to each stream, which the empty asm keeps from being derived from another one with an
// instruction for every load.
template <class T, class S> struct Streams {
  const T* at[S::streams];
  Index stride;  // from a row to the next

  // Streams begin so many rows apart; rows past the last one repeat it.
  Streams(const T* b, Index stride, Index first, Index apart, Index last) : stride(stride) {
    for (int i = 0; i < S::streams; ++i) at[i] = b + min(first + i * apart, last) * stride;
  }
  TFCORE_INLINE const T* row(int j) const { return at[j / S::together] + j % S::together * stride; }
  TFCORE_INLINE void advance(int depths) {
#pragma GCC unroll 16
    for (int i = 0; i < S::streams; ++i) {
      at[i] += depths;
      asm("" : "+r"(at[i]));
    }
  }
  TFCORE_INLINE void ask_ahead(Index rows) const {
#pragma GCC unroll 32
    for (int j = 0; j < S::rows; ++j) __builtin_prefetch(row(j) + rows * stride, 0, 2);
  }
};

// sum[r] += a[r][i] * columns[i] for i < count
template <int R, int most, class T>
TFCORE_INLINE void add_columns(const Vec<T> (&columns)[most], int count, const T* a, Index a_row, Vec<T> (&sum)[R]) {
#pragma GCC unroll 16
  for (int i = 0; i < most; ++i) {
    if (i == count) break;
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) sum[r] = fma(columns[i], a[r * a_row + i], sum[r]);
  }
}

// One step over all depths, on which `b` moves (a copy of it went through memory: 10 to 20 % of a row, AVX2). It asks
// for what comes `ahead` rows later.
template <class T, int R, class S> TFCORE_INLINE void add_turned(Streams<T, S>& b, const T* a, Index a_row, Index depth,
                                                                 Index ahead, Vec<T> (&sum)[S::squares][R]) {
  const auto add_depths = [&](int depths) TFCORE_LAMBDA {
#pragma GCC unroll 8
    for (int k = 0; k < depths; k += kSquare<T>)
#pragma GCC unroll 2
      for (int s = 0; s < S::squares; ++s) {
        Vec<T> columns[kSquare<T>];
        load_columns<T>([&](int j) TFCORE_LAMBDA { return b.row(s * lanes<T> + j) + k; }, columns);
        add_columns<R, kSquare<T>, T>(columns, kSquare<T>, a + k, a_row, sum[s]);
      }
    a += depths;
    b.advance(depths);
  };
  constexpr int line = int(kPanel<T>);
  for (; depth >= line; depth -= line) {
    if (ahead) b.ask_ahead(ahead);
    add_depths(line);
  }
  for (; depth >= kSquare<T>; depth -= kSquare<T>) add_depths(kSquare<T>);
#pragma GCC unroll 2
  for (int s = 0; depth > 0 && s < S::squares; ++s) {
    Vec<T> square[lanes<T>];
    load_square<T>([&](int j) TFCORE_LAMBDA { return b.row(s * lanes<T> + j); }, int(depth), square);
    add_columns<R, lanes<T>, T>(square, int(depth), a, a_row, sum[s]);
  }
}

}  // namespace
}  // namespace tfcore
