#pragma once
// The one inner loop of every product here: a register tile of R rows × V vectors.
//
//   c[r][j] = sum_k a[r][k] * b[k][j]  (+ c[r][j], or + c_scale[r] * c[r][j])        r < R, j < V * lanes, k < depth
//
// Each sum is one chain of fused multiply-adds, k ascending, whatever R and V: the tile's shape never shows in the
// bits. Bound by FMA issue where R * V accumulators cover the FMA's latency (8 to 10 chains) and R + V loads cost less
// than R * V FMAs; by the loads of b (64 bytes a cycle) when R is 1. How tiles make up a product: strips.hpp.

#include "kernels/table.hpp"
#include "simd/vec.hpp"

namespace tfcore {
namespace {

// Accumulators that fit the registers beside V operands of b and one broadcast: 6 × 2 of 16; of 32, 12 × 2 where b is
// narrow, else 8 × 3 or, on NEON, where tiles fill panels, 6 × 4: at most 8 rows, for as many lines of one set does the
// nearest cache hold, and rows of a wide matrix often share one (8 × 3 beside 12 × 2, AVX-512: 2 to 6 % faster from
// K = 1536 on, where 12 rows had to be copied apart first, within 2 % below; Zen 4 and Xeon). (Of 16, 3 × 4, whose 19
// operations for 12 FMAs are one fewer, were 2 to 7 % slower: twice as much of b must stay near. FMAs that read b
// themselves, 18 or 17 operations, are 3 to 15 % slower where another thread shares the core and its load ports.)
constexpr int kTileAccumulators = kVecRegisters == 32 ? 24 : 12;
constexpr int kTileRows = kTileAccumulators / 2;
constexpr int kWideTileRows = kVecRegisters == 16 || kVecBytes == 16 ? 6 : 8;
constexpr int kTileVectors = 8;
// Up to here b is narrow: attention's queries and values, and the last columns of a matrix.
constexpr int kNarrowVectors = 4;

template <class T> constexpr int kPanelVectors = int(kPanel<T>) / lanes<T>;
template <class T> constexpr int panels_of(int vectors) {
  return vectors > kPanelVectors<T> ? vectors / kPanelVectors<T> : 1;
}

// Which index of a is adjacent in memory. The other one's stride is a_stride where depths are, kRowsStride where rows
// are.
enum class Adjacent { depth, rows };
template <class T> constexpr Index kRowsStride = 2 * lanes<T>;

// What a tile asks for while it runs, so that memory works at the same time. `own`: b, before its own loads need it. Of
// what others will want, at every other depth: a line; that at each depth; two lines, a stride apart; those twice; a
// line in each of its panels.
enum class Asks { nothing, own_lines, own_panels, ahead, ahead_often, two_ahead, two_ahead_twice, all_ahead };

struct Ahead {
  Asks asks;
  const char* from;  // the first line, where it is not b itself
  Index step;        // bytes a depth
  Index stride;      // bytes to the next place
};

// Wide vectors ask for their own b from L2, where more requests are under way at a time than the nearest cache allows
// (AVX-512, Zen 4: 0.9 of the memory's bandwidth instead of 0.6 to 0.75; out of L3 it would lose 15 %). Narrow ones
// leave it to the hardware (AVX2, Zen 3, a row on each core: 15 GB/s instead of 11; out of L3 instructions of our own
// cost 5 to 15 %).
constexpr bool kAsksForOwn = kVecRegisters == 32;
constexpr int kAheadRows = 4;         // fewer only ask for their own b
constexpr int kFewRowsAhead = 2048;   // bytes; 8192 is 10 % slower
constexpr int kOneStripAhead = 4096;  // bytes; the whole next column is 4 % slower at 9 rows, 12 % at 4 (AVX-512)

template <class T> struct Tile {
  std::int64_t depth;
  const T* a;
  std::int64_t a_stride;
  const T* b;  // row k, vector j: b + k * b_stride + (panel of j) * panel_stride + (place of j in its panel)
  std::int64_t b_stride, panel_stride;
  T* c;
  std::int64_t c_stride;
  bool accumulate;   // false: what is in c is left out
  const T* c_scale;  // (R,), or null for ones
  Ahead ahead;
};

// A vector count must divide a panel or fill whole ones, so that a tile may start wherever another one ended.
template <class T> constexpr bool fits_panel(int vectors) {
  return vectors % kPanelVectors<T> == 0 || kPanelVectors<T> % vectors == 0;
}

// Depths taken at a time. 23 instructions for 12 FMAs, where one depth at a time takes 27: up to 20 % on a core whose
// front end is shared with another thread, 1 to 3 % on one that is not (6 × 16, AVX2; 8 depths, or a stride of b known
// beforehand, gain no more). With 32 registers and tiles of twice the size there is less to gain, and 4 would not fit
// the integer registers.
constexpr int kUnroll = kVecRegisters == 32 ? 2 : 4;

// The rows of a. Adjacent depths: a pointer to every other row; more would not fit the integer registers, and the empty
// asm keeps the compiler from deriving them from one another, an instruction for every few FMAs. Adjacent rows: one
// pointer, since depths are kRowsStride apart.
template <class T, Adjacent adjacent, int R> struct RowPointers {
  static constexpr int kPairs = adjacent == Adjacent::rows ? 1 : (R + 1) / 2;
  const T* pair[kPairs];
  Index stride;

  explicit TFCORE_INLINE RowPointers(const Tile<T>& t) : stride(t.a_stride) {
    pair[0] = t.a;
#pragma GCC unroll 6
    for (int i = 1; i < kPairs; ++i) pair[i] = pair[i - 1] + 2 * stride;
  }
  TFCORE_INLINE T at(int r, int k) const {
    if constexpr (adjacent == Adjacent::rows) return pair[0][k * kRowsStride<T> + r];
    return pair[r / 2][r % 2 * stride + k];
  }
  TFCORE_INLINE void advance(int depths) {
    if constexpr (adjacent == Adjacent::rows) {
      pair[0] += depths * kRowsStride<T>;
    } else {
#pragma GCC unroll 6
      for (int i = 0; i < kPairs; ++i) {
        pair[i] += depths;
        asm("" : "+r"(pair[i]));
      }
    }
  }
};

// Of kUnroll depths.
template <Asks asks, int panels> TFCORE_INLINE void ask(Ahead& ahead) {
  constexpr int places = asks == Asks::all_ahead ? panels : asks >= Asks::two_ahead ? 2 : 1;
  constexpr int every = asks == Asks::ahead_often ? 1 : 2, times = asks == Asks::two_ahead_twice ? 2 : 1;
#pragma GCC unroll 4
  for (int k = 0; k < kUnroll; k += every)
#pragma GCC unroll 8
    for (int p = 0; p < places; ++p)
#pragma GCC unroll 2
      for (int i = 0; i < times; ++i) __builtin_prefetch(ahead.from + k * ahead.step + p * ahead.stride, 0, 2);
  ahead.from += kUnroll * ahead.step;
}

template <class T, int R, int V> TFCORE_INLINE void store_sums(const Tile<T>& t, Vec<T> (&sum)[R][V]) {
  T* const c0 = t.c;  // copied here, where stores to c would have them loaded again
  const T* const c_scale = t.c_scale;
  const Index c_stride = t.c_stride;
  const bool accumulate = t.accumulate;
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 12
    for (int j = 0; j < V; ++j) {
      T* c = c0 + r * c_stride + j * lanes<T>;
      if (accumulate) sum[r][j] = c_scale ? fma(load(c), c_scale[r], sum[r][j]) : load(c) + sum[r][j];
      store(c, sum[r][j]);
    }
}

template <class T, int R, int V, Adjacent adjacent, Asks asks> TFCORE_INLINE void run_tile(const Tile<T>& t) {
  static_assert(R <= 12);
  Vec<T> sum[R][V] = {};
  RowPointers<T, adjacent, R> a(t);
  const T* b = t.b;
  Ahead ahead = t.ahead;
  const Index b_stride = t.b_stride, panel_stride = t.panel_stride;
  const auto step = [&](int k) TFCORE_LAMBDA {
    Vec<T> bk[V];
#pragma GCC unroll 12
    for (int j = 0; j < V; ++j) {
      const T* from = b + (j / kPanelVectors<T>)*panel_stride + (j % kPanelVectors<T>)*lanes<T>;
      if (asks == Asks::own_lines) __builtin_prefetch(from + kFewRowsAhead / int(sizeof(T)), 0, 2);
      if (asks == Asks::own_panels && j % kPanelVectors<T> == 0)
        __builtin_prefetch(from + kOneStripAhead / int(sizeof(T)), 0, 2);
      bk[j] = load(from);
    }
    b += b_stride;
    asm("" : "+r"(b));
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
      const Vec<T> ar = splat(a.at(r, k));
#pragma GCC unroll 12
      for (int j = 0; j < V; ++j) fma_into(sum[r][j], ar, bk[j]);
    }
  };
  Index depth = t.depth;
  for (; depth >= kUnroll; depth -= kUnroll) {
#pragma GCC unroll 4
    for (int k = 0; k < kUnroll; ++k) step(k);
    a.advance(kUnroll);
    if constexpr (asks >= Asks::ahead) ask<asks, panels_of<T>(V)>(ahead);
  }
  for (; depth > 0; --depth) {
    step(0);
    a.advance(1);
  }
  store_sums(t, sum);
}

// What is asked for was chosen for all tiles of a product; each is compiled with what its shape may meet.
template <class T, int R, int V, Adjacent adjacent> void multiply_tile(const Tile<T>& t) {
  constexpr bool few = R < kAheadRows, of_b = adjacent == Adjacent::depth;
  const Asks asks = t.ahead.asks;
  if constexpr (of_b && kAsksForOwn && few) {
    if (asks == Asks::own_lines) return run_tile<T, R, V, adjacent, Asks::own_lines>(t);
  } else if constexpr (of_b && kAsksForOwn) {
    if (asks == Asks::own_panels) return run_tile<T, R, V, adjacent, Asks::own_panels>(t);
    if (asks == Asks::ahead_often) return run_tile<T, R, V, adjacent, Asks::ahead_often>(t);
    if (asks == Asks::all_ahead) return run_tile<T, R, V, adjacent, Asks::all_ahead>(t);
  } else if constexpr (of_b && R > 1 && V <= kPanelVectors<T>) {
    if (asks == Asks::two_ahead_twice) return run_tile<T, R, V, adjacent, Asks::two_ahead_twice>(t);
    if (asks == Asks::two_ahead) return run_tile<T, R, V, adjacent, Asks::two_ahead>(t);
  }
  run_tile<T, R, V, adjacent, few ? Asks::nothing : Asks::ahead>(t);
}

// Every shape that fits the registers, by rows and vectors.
template <class T> using TileFunction = void (*)(const Tile<T>&);
template <class T> struct TileTable {
  TileFunction<T> at[kTileRows + 1][kTileVectors + 1];
};

template <class T, Adjacent adjacent, int R, int V> constexpr void fill_vectors(TileTable<T>& table) {
  if constexpr (V <= kTileVectors && R * V <= kTileAccumulators) {
    if constexpr (fits_panel<T>(V) && V != 5 && V != 7) table.at[R][V] = multiply_tile<T, R, V, adjacent>;
    fill_vectors<T, adjacent, R, V + 1>(table);
  }
}

template <class T, Adjacent adjacent, int R = 1> constexpr TileTable<T> make_tile_table(TileTable<T> table = {}) {
  fill_vectors<T, adjacent, R, 1>(table);
  if constexpr (R < kTileRows) return make_tile_table<T, adjacent, R + 1>(table);
  else return table;
}

template <class T, Adjacent adjacent> constexpr TileTable<T> kTiles = make_tile_table<T, adjacent>();

// The widest tile of `rows` rows that is at most `vectors` wide.
template <class T, Adjacent adjacent> TFCORE_INLINE int widest_tile(int rows, std::int64_t vectors) {
  int v = vectors < kTileVectors ? int(vectors) : kTileVectors;
  while (!kTiles<T, adjacent>.at[rows][v]) --v;
  return v;
}

}  // namespace
}  // namespace tfcore
