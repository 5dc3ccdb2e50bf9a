#pragma once
// The one inner loop of every product here: a register tile of R rows × V vectors.
//
//   c[r][j] = sum_k a[r][k] * b[k][j]  (+ c[r][j], or + c_scale[r] * c[r][j])        r < R, j < V * lanes, k < depth
//
// Each sum is one chain of fused multiply-adds, k ascending, whatever R and V: the tile's shape never shows in the
// bits. Bound by FMA issue where R * V accumulators cover the FMA's latency (8 to 10 chains) and R + V loads cost less
// than R * V FMAs; by the loads of b (64 bytes a cycle) when R is 1.

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
template <class T, int vectors> constexpr int kPanels = vectors > kPanelVectors<T> ? vectors / kPanelVectors<T> : 1;

// Which index of a is adjacent in memory. The other one's stride is a_stride where depths are, kRowsStride where rows
// are.
enum class Adjacent { depth, rows };
template <class T> constexpr Index kRowsStride = 2 * lanes<T>;

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
  // What is wanted in L2 soon: lines from `ahead` on, in steps of ahead_step bytes; or there and ahead_stride bytes
  // further on in turn. Null asks for nothing.
  const char* ahead;
  Index ahead_step, ahead_stride;
  // b comes from memory, where few rows wait for it. Each load of wide vectors asks for b itself, from L2, where more
  // requests are under way at a time than the nearest cache allows (AVX-512, Zen 4: 0.9 of the memory's bandwidth
  // instead of 0.6 to 0.75; out of L3 it would lose 15 %). Narrow ones leave it to the hardware (AVX2, Zen 3, a row on
  // each core: 15 GB/s instead of 11).
  bool far;
  bool panels_follow;  // b is packed: what comes next is its next column, whatever `ahead` says
  const T* after;      // and after its last column this, or null for the panel beyond
  bool alone;          // b is packed, and no other strip reads it
  bool two_panels;     // `ahead` stands in two panels
  bool all_panels;     // or in all of a column, ahead_stride apart
};

// Fewer than kAheadRows rows wait for b. Where each load asks for it itself, it is kFewRowsAhead bytes on (8192 is 10 %
// slower); instructions of our own cost 5 to 15 % out of the L3 of a Zen 3.
constexpr int kAheadRows = 4;
constexpr int kFewRowsAhead = 2048;
constexpr bool kAsksForFar = kVecRegisters == 32;
constexpr int kOneStripAhead = 4096;  // the whole next column is 4 % slower at 9 rows, 12 % at 4 (AVX-512)

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
template <class T, Adjacent adjacent> struct RowPointers {
  const T *rows0, *rows2, *rows4, *rows6, *rows8, *rows10;
  Index stride;

  explicit TFCORE_INLINE RowPointers(const Tile<T>& t) : rows0(t.a), stride(t.a_stride) {
    rows2 = rows0 + 2 * stride, rows4 = rows2 + 2 * stride, rows6 = rows4 + 2 * stride;
    rows8 = rows6 + 2 * stride, rows10 = rows8 + 2 * stride;
  }
  TFCORE_INLINE T at(int r, int k) const {
    if constexpr (adjacent == Adjacent::rows) return rows0[k * kRowsStride<T> + r];
    const T* pair = r < 2 ? rows0 : r < 4 ? rows2 : r < 6 ? rows4 : r < 8 ? rows6 : r < 10 ? rows8 : rows10;
    return pair[r % 2 * stride + k];
  }
  TFCORE_INLINE void advance(int depths) {
    if constexpr (adjacent == Adjacent::rows) {
      rows0 += depths * kRowsStride<T>;
    } else {
      rows0 += depths, rows2 += depths, rows4 += depths, rows6 += depths, rows8 += depths, rows10 += depths;
      asm("" : "+r"(rows0), "+r"(rows2), "+r"(rows4));
      if constexpr (kTileRows > 6) asm("" : "+r"(rows6), "+r"(rows8), "+r"(rows10));
    }
  }
};

// What a tile asks for while it runs: nothing; lines of its own b at each load; or, of what others will want, lines
// from `ahead` on at every other depth, or at each, or in two panels at each, once or twice, or in all of a column.
enum class Asks { nothing, own, own_column, ahead, ahead_often, two_panels, two_panels_twice, all_panels };

// Of kUnroll depths.
template <Asks asks, int panels> TFCORE_INLINE void ask(const char*& ahead, Index step, Index stride) {
  if constexpr (asks == Asks::all_panels) {
#pragma GCC unroll 8
    for (int i = 0; i < panels; ++i) __builtin_prefetch(ahead + i * stride, 0, 2);
    ahead += kLineBytes;
    return;
  }
  constexpr int places = asks >= Asks::two_panels ? 2 : 1, every = asks == Asks::ahead ? 2 : 1;
  constexpr int times = asks == Asks::two_panels_twice ? 2 : 1;
#pragma GCC unroll 4
  for (int k = 0; k < kUnroll; k += every)
#pragma GCC unroll 2
    for (int i = 0; i < times; ++i) __builtin_prefetch(ahead + k / places * step + k % places * stride, 0, 2);
  ahead += kUnroll / places * step;
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
  RowPointers<T, adjacent> a(t);
  const T* b = t.b;
  const char* ahead = t.ahead;
  const Index b_stride = t.b_stride, panel_stride = t.panel_stride;
  const Index ahead_step = t.ahead_step, ahead_stride = t.ahead_stride;
  const auto step = [&](int k) TFCORE_LAMBDA {
    Vec<T> bk[V];
#pragma GCC unroll 12
    for (int j = 0; j < V; ++j) {
      const T* from = b + (j / kPanelVectors<T>)*panel_stride + (j % kPanelVectors<T>)*lanes<T>;
      if (asks == Asks::own) __builtin_prefetch(from + kFewRowsAhead / int(sizeof(T)), 0, 2);
      if (asks == Asks::own_column && j % kPanelVectors<T> == 0)
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
    if constexpr (asks >= Asks::ahead) ask<asks, kPanels<T, V>>(ahead, ahead_step, ahead_stride);
  }
  for (; depth > 0; --depth) {
    step(0);
    a.advance(1);
  }
  store_sums(t, sum);
}

template <class T, int R, int V, Adjacent adjacent> void multiply_tile(const Tile<T>& t) {
  constexpr bool few = R < kAheadRows;
  if constexpr (adjacent == Adjacent::depth && kAsksForFar) {
    if (few ? t.far : t.alone) return run_tile<T, R, V, adjacent, few ? Asks::own : Asks::own_column>(t);
    if (!few && t.all_panels) return run_tile<T, R, V, adjacent, Asks::all_panels>(t);
    if (!few && t.far && t.ahead_step == kLineBytes) return run_tile<T, R, V, adjacent, Asks::ahead_often>(t);
  } else if constexpr (adjacent == Adjacent::depth && R > 1 && V <= kPanelVectors<T>) {
    if (t.two_panels && t.alone) return run_tile<T, R, V, adjacent, Asks::two_panels_twice>(t);
    if (t.two_panels) return run_tile<T, R, V, adjacent, Asks::two_panels>(t);
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

// The rows of a product as evenly as possible over the fewest strips of tiles: 16 is 8 + 8, not 12 + 4.
struct Strips {
  int count, rows, longer;  // the first `longer` strips have one row more than `rows`
  Strips(std::int64_t total, std::int64_t vectors)
      : count(int(vectors > kNarrowVectors ? (total + kWideTileRows - 1) / kWideTileRows
                                           : (total + kTileRows - 1) / kTileRows)),
        rows(count ? int(total / count) : 0), longer(count ? int(total % count) : 0) {}
  int size(int i) const { return rows + (i < longer); }
  int widest() const { return rows + (longer > 0); }
};

// What the strips over one column ask for: the columns from `next` on, a share in each strip, one panel after the other
// over all depths.
template <class T> struct NextColumn {
  const T* panel;
  Index step, from = 0;  // bytes a depth, bytes of the panel asked for

  NextColumn(const T* next, int vectors, int strips) : panel(next) {
    const int panels = vectors > kPanelVectors<T> ? vectors / kPanelVectors<T> : 1,
              share = panels * kLineBytes / strips;
    step = share < 16 ? 16 : share > kLineBytes ? kLineBytes : share;
  }
  TFCORE_INLINE void give_share(Tile<T>& t) {
    const Index each = t.depth * kLineBytes;
    for (; from >= each; from -= each) panel += t.panel_stride;
    t.ahead = reinterpret_cast<const char*>(panel) + from, t.ahead_step = step;
    from += step * t.depth;
  }
};

// Of few rows that wait for b out of memory, narrow vectors ask for the second half of the next panel and the first
// half of the one after it, line by line in turn. A core has so many lines under way at a time; the hardware adds some
// of its own wherever it sees lines read one after the other, and in two panels it sees that twice. (Zen 3, both cores:
// 4 to 7 rows 1.2 to 1.27 times as fast as with lines of the next panel alone, 9 and 12 rows 1.07 and 1.03; half as
// much of it if a strip by itself asked for a line once. Out of L3 up to 5 % slower, but 7 rows 1.16 times as fast.
// Four panels at a time are another 1.1 at up to 6 rows, yet only where a panel is read whole before the next, which
// costs more than that at K = 1536. Two places within a panel, or a panel further on: nothing. More than two strips:
// nothing.)
constexpr int kTwoPanelStrips = kAsksForFar ? 0 : 2;

template <class T> void ask_in_two_panels(const T* next, const T* second, int strips, int strip, Tile<T>& t) {
  const Index half = t.depth * kLineBytes / 2;
  t.ahead = reinterpret_cast<const char*>(next) + half + half * strip / strips;
  t.ahead_stride = (second - next) * Index(sizeof(T)) - half, t.ahead_step = kLineBytes / strips;
}

// Wide vectors that wait for memory ask for the next column in all its panels at a time, half of it in either of the
// first two strips; three strips for a panel each. (Zen 4, both cores, MiniLM-L6 and BERT-base: 1.1 to 1.2 times as
// fast at 9 to 24 rows as with every other line of a share in each strip, 1.05 at 32, 0.98 at 64. Three strips in all
// panels 0.97; one panel after the other in two strips 1.1 and 0.95.)
constexpr int kAllPanelStrips = kAsksForFar ? 4 : 0;

template <class T> void ask_in_all_panels(const T* next, int strip, Tile<T>& t) {
  t.all_panels = strip < 2;
  t.ahead = reinterpret_cast<const char*>(t.all_panels ? next + strip * (t.depth / 2) * kPanel<T> : t.b);
  t.ahead_stride = t.panel_stride * Index(sizeof(T));
}

// Over so few depths, as attention's scores are, a strip asks for the first lines of the next one's rows: 5 % at
// 8,12,128,128,64, 2 to 7 % at 32,12,32,32,64, 1 % elsewhere; over more depths, nothing (Zen 4).
constexpr Index kShortDepth = 128;

// All of c[rows][vectors] by tiles; the strips of rows run inside, so that a column of b stays in the nearest cache.
// While they run, the next column of packed panels is fetched, a share in each: 3 to 10 % where b comes from L3.
// (To ask for the lines of c before a strip writes them, and for the next strip's first lines of a, is 4 to 6 % for a
// thread by itself beside another program's, and between -2 and 4 % for the threads of a product, differently each
// day.)
template <class T, Adjacent adjacent> void multiply_tiles(Tile<T> t, std::int64_t rows, std::int64_t vectors) {
  const Strips strips(rows, vectors);
  const T* const a = t.a;
  const T* const b = t.b;
  T* const c = t.c;
  const T* const c_scale = t.c_scale;
  const Index a_step = adjacent == Adjacent::depth ? t.a_stride : 1;
  if (!t.ahead) t.ahead = reinterpret_cast<const char*>(b);  // at hand, where address 0 would be looked for each time
  t.alone = t.panels_follow && strips.count == 1;
  t.two_panels = t.panels_follow && t.far && rows > 1 && strips.count <= kTwoPanelStrips;
  const bool shares = t.panels_follow && strips.count > 1 && t.depth > 0;
  const bool in_all_panels = shares && t.far && strips.count <= kAllPanelStrips && strips.count != 3;
  const Index widest = t.two_panels ? kPanelVectors<T> : kTileVectors;
  const auto panel = [&](Index j) {  // of the vector j, counted on into what comes after the last
    return j < vectors || !t.after ? b + j / kPanelVectors<T> * t.panel_stride
                                   : t.after + (j - vectors) / kPanelVectors<T> * t.panel_stride;
  };
  for (Index j = 0; j < vectors;) {
    const int v = widest_tile<T, adjacent>(strips.widest(), min(vectors - j, widest));
    NextColumn<T> following(panel(j + v), v, strips.count);
    t.a = a, t.b = panel(j) + j % kPanelVectors<T> * lanes<T>, t.c = c + j * lanes<T>, t.c_scale = c_scale;
    for (int i = 0; i < strips.count; ++i) {
      const Index size = strips.size(i);
      if (t.two_panels) ask_in_two_panels(panel(j + v), panel(j + 2 * v), strips.count, i, t);
      else if (in_all_panels) ask_in_all_panels(panel(j + v), i, t);
      else if (shares) following.give_share(t);
      if (adjacent == Adjacent::depth && t.depth <= kShortDepth)
        for (Index r = 0; r < size; ++r) __builtin_prefetch(t.a + (size + r) * a_step, 0, 3);
      kTiles<T, adjacent>.at[size][v](t);
      t.a += size * a_step, t.c += size * t.c_stride, t.ahead += t.ahead_step * t.depth;
      if (c_scale) t.c_scale += size;
    }
    j += v;
  }
}

}  // namespace
}  // namespace tfcore
