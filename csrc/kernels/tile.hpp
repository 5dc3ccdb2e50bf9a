#pragma once
// The one inner loop of every product here: a register tile of R rows × V vectors.
//
//   c[r][j] = sum_k a[r][k] * b[k][j]  (+ c[r][j], or + c_scale[r] * c[r][j])        r < R, j < V * lanes, k < depth
//
// Each sum is one chain of fused multiply-adds, k ascending, whatever R and V: the tile's shape never shows in the
// bits. Bound by FMA issue where R * V accumulators cover the FMA's latency (8 to 10 chains) and R + V loads cost less
// than R * V FMAs; by the loads of b (64 bytes a cycle) when R is 1.
#include <cstddef>

#include "kernels/table.hpp"
#include "simd/vec.hpp"

namespace tfcore {
namespace {

// Accumulators that fit the registers beside V operands of b and one broadcast: 6 × 2 of 16, 12 × 2 of 32.
constexpr int kTileAccumulators = kVecRegisters == 32 ? 24 : 12;
constexpr int kTileRows = kTileAccumulators / 2;
constexpr int kTileVectors = 8;

// A panel of b is 64 bytes wide on every ISA: the packed form of weights, and what is contiguous in every other use.
template <class T> constexpr int kPanel = 64 / int(sizeof(T));
template <class T> constexpr int kPanelVectors = kPanel<T> / lanes<T>;

enum class Adjacent { depth, rows };  // which index of a is adjacent in memory; a_stride belongs to the other one

template <class T> struct Tile {
  std::int64_t depth;
  const T* a;
  std::int64_t a_stride;
  const T* b;  // row k, vector j: b + k * b_stride + (panel of j) * panel_stride + (place of j in its panel)
  std::int64_t b_stride, panel_stride;
  T* c;
  std::int64_t c_stride;
  bool accumulate;   // false: c is overwritten, never read
  const T* c_scale;  // (R,), or null for ones
  // What is wanted in L2 soon: at every k one line is asked for, from `ahead` on in steps of ahead_step bytes. Costs
  // nothing where FMAs are the bound. Null asks for nothing.
  const char* ahead;
  Index ahead_step;
  // b comes from memory: what few rows ask for goes to L2, where more requests are under way at a time than the nearest
  // cache allows (0.9 of the memory's bandwidth instead of 0.6 to 0.75 on a Zen 4; out of L3 it would lose 15 %).
  bool far;
  bool panels_follow;  // b is packed: what comes next is its next column, whatever `ahead` says
  const T* after;      // and after its last column this, or null for the panel beyond
  bool alone;          // b is packed, and no other strip reads it: each load asks for b itself, kOneStripAhead on
};

// Fewer than kAheadRows rows wait for b: there each load asks for b itself, kFewRowsAhead bytes on (3 to 10 % out of
// L3; 4096 is as good, 8192 loses 10 %).
constexpr int kAheadRows = 4;
constexpr int kFewRowsAhead = 2048;
constexpr int kOneStripAhead = 4096;  // the whole next column is 4 % slower at 9 rows, 12 % at 4

// A vector count must divide a panel or fill whole ones, so that a tile may start wherever another one ended.
template <class T> constexpr bool fits_panel(int vectors) {
  return vectors % kPanelVectors<T> == 0 || kPanelVectors<T> % vectors == 0;
}

// The rows of a, four to a pointer: one pointer a row would not fit the integer registers, and reloading it costs an
// issue slot for every few FMAs. The empty asm keeps the compiler from deriving all pointers from one again.
template <class T, Adjacent adjacent> struct RowPointers {
  const char *rows0, *rows4, *rows8;  // of rows 0 to 3, 4 to 7, 8 to 11
  std::ptrdiff_t stride, step;

  explicit TFCORE_INLINE RowPointers(const Tile<T>& t)
      : rows0(reinterpret_cast<const char*>(t.a)), stride(t.a_stride * Index(sizeof(T))),
        step(adjacent == Adjacent::depth ? Index(sizeof(T)) : stride) {
    rows4 = rows0 + 4 * stride, rows8 = rows4 + 4 * stride;
  }
  TFCORE_INLINE T at(int r) const {
    const char* group = r < 4 ? rows0 : r < 8 ? rows4 : rows8;
    T x;
    __builtin_memcpy(&x, adjacent == Adjacent::depth ? group + (r % 4) * stride : rows0 + r * int(sizeof(T)), sizeof x);
    return x;
  }
  TFCORE_INLINE void advance() {
    rows0 += step, rows4 += step, rows8 += step;
    if (adjacent == Adjacent::depth) asm("" : "+r"(rows0), "+r"(rows4), "+r"(rows8));
  }
};

template <class T, int R, int V, Adjacent adjacent> void multiply_tile(const Tile<T>& arguments) {
  const Tile<T> t = arguments;  // a copy that no store to c can change
  static_assert(R <= 12);
  Vec<T> sum[R][V] = {};
  RowPointers<T, adjacent> a(t);
  const T* b = t.b;
  const char* ahead = t.ahead;
  for (std::int64_t k = t.depth; k > 0; --k) {
    Vec<T> bk[V];
#pragma GCC unroll 12
    for (int j = 0; j < V; ++j) {
      const T* from = b + (j / kPanelVectors<T>)*t.panel_stride + (j % kPanelVectors<T>)*lanes<T>;
      if (R < kAheadRows && t.far) __builtin_prefetch(from + kFewRowsAhead / int(sizeof(T)), 0, 2);
      else if (R < kAheadRows) __builtin_prefetch(from + kFewRowsAhead / int(sizeof(T)));
      else if (t.alone && j % kPanelVectors<T> == 0) __builtin_prefetch(from + kOneStripAhead / int(sizeof(T)), 0, 2);
      bk[j] = load(from);
    }
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
      const Vec<T> ar = splat(a.at(r));
#pragma GCC unroll 12
      for (int j = 0; j < V; ++j) sum[r][j] = fma(ar, bk[j], sum[r][j]);
    }
    if (R >= kAheadRows && !t.alone) {
      __builtin_prefetch(ahead, 0, 2);
      ahead += t.ahead_step;
    }
    a.advance();
    b += t.b_stride;
  }
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 12
    for (int j = 0; j < V; ++j) {
      T* c = t.c + r * t.c_stride + j * lanes<T>;
      if (t.accumulate) sum[r][j] = t.c_scale ? fma(load(c), t.c_scale[r], sum[r][j]) : load(c) + sum[r][j];
      store(c, sum[r][j]);
    }
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

// `count` rows as evenly as possible over the fewest strips of at most kTileRows: 16 is 8 + 8, not 12 + 4.
struct Strips {
  int count, rows, longer;  // the first `longer` strips have one row more than `rows`
  explicit Strips(std::int64_t total)
      : count(int((total + kTileRows - 1) / kTileRows)), rows(count ? int(total / count) : 0),
        longer(count ? int(total % count) : 0) {}
  int size(int i) const { return rows + (i < longer); }
  int widest() const { return rows + (longer > 0); }
};

// The share of one strip in asking for the next column: a panel after the other, each over all depths.
template <class T> TFCORE_INLINE void share_column(const T* next, int vectors, int strip, int strips, Tile<T>& t) {
  const Index panels = vectors > kPanelVectors<T> ? vectors / kPanelVectors<T> : 1, each = t.depth * 64;
  const Index from = panels * each * strip / strips & ~Index(63), step = panels * 64 / strips;
  t.ahead = reinterpret_cast<const char*>(next + from / each * t.panel_stride) + from % each;
  t.ahead_step = step < 16 ? 16 : step > 64 ? 64 : step;
}

// All of c[rows][vectors] by tiles; the strips of rows run inside, so that a column of b stays in the nearest cache.
// While they run, the next column of packed panels is fetched, a share in each: 3 to 10 % where b comes from L3.
template <class T, Adjacent adjacent> void multiply_tiles(Tile<T> t, std::int64_t rows, std::int64_t vectors) {
  const Strips strips(rows);
  const T* a = t.a;
  const T* c_scale = t.c_scale;
  if (!t.ahead) t.ahead = reinterpret_cast<const char*>(t.b);  // at hand, where address 0 would be looked for each time
  t.alone = t.panels_follow && strips.count == 1;
  const bool shares = t.panels_follow && strips.count > 1 && t.depth > 0;
  for (std::int64_t j = 0; j < vectors;) {
    const int v = widest_tile<T, adjacent>(strips.widest(), vectors - j);
    T* c = t.c + j * lanes<T>;
    Tile<T> step = t;
    step.b = t.b + (j / kPanelVectors<T>)*t.panel_stride + (j % kPanelVectors<T>)*lanes<T>;
    const T* next = j + v < vectors || !t.after ? t.b + (j + v) / kPanelVectors<T> * t.panel_stride : t.after;
    for (std::int64_t i = 0, r = 0; i < strips.count; r += strips.size(int(i)), ++i) {
      if (shares) share_column(next, v, int(i), strips.count, step);
      step.a = a + r * (adjacent == Adjacent::depth ? t.a_stride : 1);
      step.c = c + r * t.c_stride;
      step.c_scale = c_scale ? c_scale + r : nullptr;
      kTiles<T, adjacent>.at[strips.size(int(i))][v](step);
      step.ahead += step.ahead_step * t.depth;
    }
    t.ahead = step.ahead;
    j += v;
  }
}

}  // namespace
}  // namespace tfcore
