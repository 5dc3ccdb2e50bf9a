#pragma once
// Matrix product on panels, with everything that follows a product inside a layer:
//
//   c[i][j] = activation(sum_k a[i][k] * b[k][j] + bias[j]) + residual[i][j]        a (M, K), b (K, N), c (M, N)
//   gated[i][j] = activation(c of its gate) * c of what it gates                    with the two as panels in turn
//
// b is read as panels of 64 bytes of columns: packed once for weights, in place for a few rows, over column-major b by
// turning it (turned.hpp), else packed block by block into scratch; or as narrow panels (narrow.hpp), widened. The
// depth is cut at multiples of depth_block(K); each block is one chain from zero, k ascending, and blocks add up in
// order, so an element's bits depend on its row, its column and K alone.
//
// Bound: FMA issue for M >= 12; for M = 1 each weight is used once, so the bound is the cache or memory that holds b.
#include "kernels/math.hpp"
#include "kernels/narrow.hpp"
#include "kernels/strips.hpp"
#include "kernels/table.hpp"
#include "kernels/turned.hpp"

namespace tfcore {
namespace {

// At most this many rows read row-major b in place: packing would cost as much as the product.
constexpr Index kInPlaceRows = 8;

// And this many over a column-major b: of double, or on AVX2, 5 to 8 take 1 to 1.3 times as long as with packing.
template <class T> constexpr int kTurnedRows = kWide && sizeof(T) == sizeof(float) ? 8 : 4;

// The depths of a chain: the fewest blocks of at most kDepthBlock, as even as runs of narrow weights allow, on every
// ISA and for every shape. Sums of 384 are as near to float64 as OpenBLAS's, whose blocks are as long; those of 768
// twice as far as NumPy's and torch's. (256 are 1 to 1.6 % slower in the mean, up to 4 at K = 384, where each sum was
// stored twice: Zen 4, AVX2 and AVX-512. 768 were 1 to 5 % faster than 256: Zen 3.)
constexpr Index kDepthBlock = 384, kDepthUnit = 32;
TFCORE_INLINE Index depth_block(Index k) {
  const Index blocks = max((k + kDepthBlock - 1) / kDepthBlock, Index(1)), units = blocks * kDepthUnit;
  return max((k + units - 1) / units, Index(1)) * kDepthUnit;
}

// --- packing ---------------------------------------------------------------------------------------------------------

// lanes × lanes of a column-major b, turned in registers.
template <class T> TFCORE_INLINE void pack_square(const T* b, Index b_column, T* panel) {
  Vec<T> rows[lanes<T>];
  for (int j = 0; j < lanes<T>; ++j) rows[j] = load(b + j * b_column);
  transpose<T>(rows);
  for (int k = 0; k < lanes<T>; ++k) store(panel + k * kPanel<T>, rows[k]);
}

// Depths [k0, k1) of one panel: panel[k - k0][j] = b[k][first + j], zero past the last column.
template <class T> void pack_panel(const GemmArgs<T>& g, Index first, Index k0, Index k1, T* panel) {
  const Index columns = min(g.n - first, kPanel<T>);
  const T* b = g.b + first * g.b_column;
  if (g.b_column == 1) {
    for (Index k = k0; k < k1; ++k)
      for (Index j = 0; j < kPanel<T>; j += lanes<T>)
        store(panel + (k - k0) * kPanel<T> + j, load_first(b + k * g.b_row + j, max(lanes_of<T>(columns - j), 0)));
    return;
  }
  Index k = k0;
  if (columns == kPanel<T> && g.b_row == 1)
    for (; k + lanes<T> <= k1; k += lanes<T>)
      for (int j = 0; j < kPanel<T>; j += lanes<T>)
        pack_square(b + k + j * g.b_column, g.b_column, panel + (k - k0) * kPanel<T> + j);
  for (; k < k1; ++k)
    for (Index j = 0; j < kPanel<T>; ++j)
      panel[(k - k0) * kPanel<T> + j] = j < columns ? b[k * g.b_row + j * g.b_column] : T(0);
}

// A few panels of a row-major b at a time: the lines of one panel alone, a row apart, come one by one and share sets.
// (10 x 512 to 1024 columns 1.9 times as fast, 32 x 1024 to 1024 1.13; two at a time 1.4 and 1.02, eight as four:
// Zen 4.)
constexpr Index kSideBySide = 4;

// Depths [k0, k1) of panels [first, last), one panel after the other.
template <class T> void pack_panels(const GemmArgs<T>& g, Index first, Index last, Index k0, Index k1, T* panels) {
  const Index size = (k1 - k0) * kPanel<T>, whole = min(last, g.n / kPanel<T>);
  Index p = first;
  for (; g.b_column == 1 && p + kSideBySide <= whole; p += kSideBySide, panels += kSideBySide * size)
    for (Index k = k0; k < k1; ++k)
      for (Index i = 0; i < kSideBySide; ++i)
        __builtin_memcpy(panels + i * size + (k - k0) * kPanel<T>, g.b + k * g.b_row + (p + i) * kPanel<T>, 64);
  for (; p < last; ++p, panels += size) pack_panel(g, p * kPanel<T>, k0, k1, panels);
}

template <class T> void pack(const GemmArgs<T>& g, Index panel_begin, Index panel_end, T* panels) {
  for (Index p = panel_begin; p < panel_end; ++p) pack_panel(g, p * kPanel<T>, 0, g.k, panels + p * g.k * kPanel<T>);
}

// --- what follows the product ----------------------------------------------------------------------------------------

template <class T, Activation activation> TFCORE_INLINE Vec<T> activate(Vec<T> x) {
  if constexpr (activation == Activation::relu) return relu<T>(x);
  else if constexpr (activation == Activation::gelu) return gelu_erf<T>(x);
  else if constexpr (activation == Activation::gelu_tanh) return gelu_tanh<T>(x);
  else if constexpr (activation == Activation::silu) return silu<T>(x);
  else if constexpr (activation == Activation::tanh) return tanh<T>(x);
  else return x;
}

// x = activation(x + bias) + residual over one row of a block that is still in the nearest cache.
template <class T, Activation activation> void finish_row(T* x, const T* bias, const T* residual, Index n) {
  for (Index j = 0; j < n; j += lanes<T>) {
    const int count = lanes_of<T>(n - j);
    const bool whole = count == lanes<T>;
    const auto at = [&](const T* p) TFCORE_LAMBDA { return whole ? load(p + j) : load_first(p + j, count); };
    Vec<T> y = at(x);
    if (bias) y = y + at(bias);
    y = activate<T, activation>(y);
    if (residual) y = y + at(residual);
    if (whole) store(x + j, y);
    else store_first(x + j, y, count);
  }
}

// out = activation(gate + its bias) * (up + its bias) over one row, whose panels are a gate's and an up's in turn.
template <class T, Activation activation> void gate_row(const T* x, const T* bias, T* out, Index n) {
  constexpr Index pair = 2 * kPanel<T>;
  for (Index j = 0; j < n; j += lanes<T>) {
    const Index at = j / kPanel<T> * pair + j % kPanel<T>;
    Vec<T> gate = load(x + at), up = load(x + at + kPanel<T>);
    if (bias) gate = gate + load(bias + at), up = up + load(bias + at + kPanel<T>);
    store_first(out + j, activate<T, activation>(gate) * up, lanes_of<T>(n - j));
  }
}

template <class T> struct Finish {
  void (*row)(T*, const T*, const T*, Index);
  void (*gated)(const T*, const T*, T*, Index);
};
template <class T, Activation activation>
constexpr Finish<T> kFinishWith = {finish_row<T, activation>, gate_row<T, activation>};

template <class T> void finish(const GemmArgs<T>& g, Index row0, Index row1, Index column, Index n) {
  if (!g.bias && !g.residual && !g.gated && g.activation == Activation::none) return;
  static constexpr Finish<T> kFinish[] = {kFinishWith<T, Activation::none>, kFinishWith<T, Activation::relu>,
                                          kFinishWith<T, Activation::gelu>, kFinishWith<T, Activation::gelu_tanh>,
                                          kFinishWith<T, Activation::silu>, kFinishWith<T, Activation::tanh>};
  const Finish<T> f = kFinish[int(g.activation)];
  const T* bias = g.bias ? g.bias + column : nullptr;
  const Index left = g.gated_width - column / 2;
  for (Index i = row0; i < row1; ++i) {
    T* x = g.c + i * g.n + column;
    if (g.gated) f.gated(x, bias, g.gated + i * g.gated_width + column / 2, min(n / 2, left));
    else f.row(x, bias, g.residual ? g.residual + i * g.n + column : nullptr, n);
  }
}

// --- the product -----------------------------------------------------------------------------------------------------

// Rows of a that stay in L2 beside the panels; twice as many gain nothing.
constexpr Index kRowBlock = kStripsPerRowBlock * kWideTileRows;

template <class T>
TFCORE_INLINE void read_to_scratch(const GemmArgs<T>& g, Index first, Index last, Index k0, Index k1, T* scratch) {
  if constexpr (sizeof(T) == sizeof(float))
    if (g.narrow) {
      for (Index p = first; p < last; ++p, scratch += (k1 - k0) * kPanel<T>)
        widen_panel(g.stored, g.narrow, g.k, p, k0, k1, scratch);
      return;
    }
  pack_panels(g, first, last, k0, k1, scratch);
}

// Where panels [first, last) at depth k0 are read: packed weights, b itself, or scratch filled here.
template <class T> TFCORE_INLINE void read_panels(const GemmArgs<T>& g, Index first, Index last, Index k0, Index k1,
                                                  bool in_place, T* scratch, Tile<T>& t, Source<T>& source) {
  t.depth = k1 - k0, source = {!in_place, g.far, nullptr};
  if (g.packed) {
    t.b = g.b + first * g.k * kPanel<T> + k0 * kPanel<T>;
    t.b_stride = kPanel<T>, t.panel_stride = g.k * kPanel<T>;
    if (k1 < g.k) source.after = t.b + t.depth * kPanel<T>;
  } else if (in_place) {
    t.b = g.b + k0 * g.b_row + first * kPanel<T>;
    t.b_stride = g.b_row, t.panel_stride = kPanel<T>;
  } else {
    read_to_scratch(g, first, last, k0, k1, scratch);
    t.b = scratch;
    t.b_stride = kPanel<T>, t.panel_stride = (k1 - k0) * kPanel<T>;
  }
}

// In this order: a ragged panel's columns of a row block, the panels of b.
template <class T> std::size_t gemm_scratch(const GemmArgs<T>& g) {
  const Index panels = g.packed ? 0 : kPanelsToPack * min(g.k, kDepthBlock);
  return std::size_t((kRowBlock + panels) * kPanel<T>);
}

// The last, ragged panel goes through a buffer of whole panels, so that tiles never write past a row of c.
template <class T> void multiply_ragged(const GemmArgs<T>& g, Tile<T> t, const Source<T>& source, Index row, Index rows,
                                        Index column, T* buffer) {
  const Index n = g.n - column;
  T* c = g.c + row * g.n + column;
  if (t.accumulate)
    for (Index i = 0; i < rows; ++i) __builtin_memcpy(buffer + i * kPanel<T>, c + i * g.n, n * sizeof(T));
  t.c = buffer, t.c_stride = kPanel<T>;
  multiply_tiles<T, Adjacent::depth>(t, rows, kPanelVectors<T>, source);
  for (Index i = 0; i < rows; ++i) __builtin_memcpy(c + i * g.n, buffer + i * kPanel<T>, n * sizeof(T));
}

// Panels [first, last), at most kPanelsToPack when b is not packed, of the rows of `range`.
// (A column that runs down 1024 depths before the next one begins, so that its sums stay in the nearest cache, is 0 to
// 6 % slower at K = 384 to 3072: the block of a it needs is larger. Finished by itself it loses 5 to 18 %, for rows of
// a residual are then read in pieces.)
template <class T>
void multiply_panels(const GemmArgs<T>& g, const GemmRange& range, Index first, Index last, T* scratch) {
  T* const buffer = scratch;
  T* const panels = scratch + kRowBlock * kPanel<T>;
  const Index whole = min(g.n / kPanel<T>, last);  // panels [first, whole) are full
  const bool in_place = !g.packed && !g.narrow && g.b_column == 1 && whole == last && g.m <= kInPlaceRows;
  const Index columns = min(g.n, last * kPanel<T>) - first * kPanel<T>;
  const Index depths = depth_block(g.k);
  for (Index k0 = 0; k0 == 0 || k0 < g.k; k0 += depths) {
    const Index k1 = min(g.k, k0 + depths);
    Tile<T> t{};
    Source<T> source{};
    read_panels(g, first, last, k0, k1, in_place, panels, t, source);
    for (Index i = range.row_begin; i < range.row_end; i += kRowBlock) {
      const Index rows = min(range.row_end - i, kRowBlock);
      t.a = g.a + i * g.a_row + k0, t.a_stride = g.a_row;
      t.c = g.c + i * g.n + first * kPanel<T>, t.c_stride = g.n;
      t.accumulate = k0 > 0;
      Tile<T> tile = t;
      multiply_tiles<T, Adjacent::depth>(tile, rows, (whole - first) * kPanelVectors<T>, source);
      if (whole < last) {
        Tile<T> ragged = t;
        ragged.b += (whole - first) * t.panel_stride;
        multiply_ragged(g, ragged, source, i, rows, whole * kPanel<T>, buffer);
      }
      if (k1 == g.k) finish(g, i, i + rows, first * kPanel<T>, columns);
    }
  }
}

// R rows over the columns of a column-major b from j on that a step S takes, up to `last`; it asks for those `ahead`.
template <class T, int R, class S>
void multiply_turned(const GemmArgs<T>& g, Index row, Index j, Index last, Index ahead) {
  const Index depths = depth_block(g.k);
  const T* const a = g.a + row * g.a_row;
  Vec<T> total[S::squares][R];
  for (Index k0 = 0; k0 == 0 || k0 < g.k; k0 += depths) {
    Streams<T, S> b(g.b + k0, g.b_column, j, S::together, last - 1);
    Vec<T> sum[S::squares][R] = {};
    add_turned<T, R, S>(b, a + k0, g.a_row, min(g.k - k0, depths), ahead, sum);
    for (int s = 0; s < S::squares; ++s)
      for (int r = 0; r < R; ++r) total[s][r] = k0 > 0 ? total[s][r] + sum[s][r] : sum[s][r];
  }
  for (int s = 0; s < S::squares; ++s, j += lanes<T>)
    for (int r = 0; r < R; ++r) store_first(g.c + (row + r) * g.n + j, total[s][r], lanes_of<T>(last - j));
}

template <class T, int R = 1> void multiply_turned_rows(const GemmArgs<T>& g, const GemmRange& range) {
  if constexpr (R < kTurnedRows<T>)
    if (range.row_end - range.row_begin > R) return multiply_turned_rows<T, R + 1>(g, range);
  constexpr int squares = kNearSquares<T, R>;
  using S = Step<T, squares, kStreams<T, squares>>;
  const Index row = range.row_begin, first = range.panel_begin * kPanel<T>,
              last = min(g.n, range.panel_end * kPanel<T>);
  Index j = first;
  for (; j + S::rows <= last; j += S::rows) multiply_turned<T, R, S>(g, row, j, last, S::rows);
  for (; j < last; j += lanes<T>) multiply_turned<T, R, Step<T, 1, lanes<T>>>(g, row, j, last, 0);
  finish(g, row, range.row_end, first, last - first);
}

// What few rows ask for out of narrow panels: the same place of the next ones, where L2 has room for that, or some
// lines further on in their own. (Zen 3, out of memory: 10 to 11 numbers a ns instead of 8, whether with or without
// lines further on.)
constexpr Index kFarthestAhead = Index(1) << 17, kLinesAhead = 1024;

// c[:, panels first to last) += a[:, k0:k1] @ b[k0:k1] for rows that read narrow panels as they are.
TFCORE_INLINE void multiply_few_rows(const GemmArgs<float>& g, Index rows, Index first, Index last, Index k0,
                                     const Tile<float>& into) {
  const NarrowLayout layout(g.stored, g.k);
  const Index next = (last - first) * layout.panel_bytes;
  const NarrowTile t{layout,         g.narrow + layout.at(first, k0),
                     into.depth,     next <= kFarthestAhead ? next : kLinesAhead,
                     into.a,         into.a_stride,
                     into.c,         into.c_stride,
                     into.accumulate};
  with_columns(g.stored, [&](auto reader) TFCORE_LAMBDA { multiply_narrow<decltype(reader)>(rows, last - first, t); });
}

// One row block reads narrow panels one after the other, each from its first depth to its last: few rows as they are,
// two at a time, others widened a block of depths at a time, which stays in the nearest cache.
void multiply_narrow_panels(const GemmArgs<float>& g, const GemmRange& range, Index first, Index last, float* scratch) {
  float* const buffer = scratch;
  float* const panel = scratch + kRowBlock * kColumns;
  const Index rows = range.row_end - range.row_begin;
  const bool few = rows <= kNarrowRows;
  const Index depths = depth_block(g.k);
  for (Index p = first; p < last; p += few ? 2 : 1) {
    const Index end = few ? min(p + 2, last) : p + 1, column = p * kColumns;
    const bool ragged = end * kColumns > g.n;
    Tile<float> t{};
    t.a_stride = g.a_row;
    float* const c = g.c + range.row_begin * g.n + column;
    t.c = ragged ? buffer : c, t.c_stride = ragged ? (end - p) * kColumns : g.n;
    for (Index k0 = 0; k0 == 0 || k0 < g.k; k0 += depths) {
      t.depth = min(g.k - k0, depths), t.accumulate = k0 > 0;
      t.a = g.a + range.row_begin * g.a_row + k0;
      if (few) {
        multiply_few_rows(g, rows, p, end, k0, t);
        continue;
      }
      widen_panel(g.stored, g.narrow, g.k, p, k0, k0 + t.depth, panel);
      t.b = panel, t.b_stride = kColumns, t.panel_stride = t.depth * kColumns;
      Tile<float> tile = t;
      multiply_tiles<float, Adjacent::depth>(tile, rows, kColumnVectors);
    }
    for (Index i = 0; ragged && i < rows; ++i)
      __builtin_memcpy(c + i * g.n, buffer + i * t.c_stride, std::size_t(g.n - column) * sizeof(float));
  }
  finish(g, range.row_begin, range.row_end, first * kColumns, min(g.n, last * kColumns) - first * kColumns);
}

template <class T> void gemm(const GemmArgs<T>& g, const GemmRange& range, T* scratch) {
  if constexpr (sizeof(T) == sizeof(float))
    if (g.narrow && range.row_end - range.row_begin <= kRowBlock)
      return multiply_narrow_panels(g, range, range.panel_begin, range.panel_end, scratch);
  if (!g.packed && !g.narrow && g.b_row == 1 && g.b_column != 1 && g.m <= kTurnedRows<T>)
    return multiply_turned_rows(g, range);
  const Index step = g.packed ? range.panel_end - range.panel_begin : kPanelsToPack;
  for (Index p = range.panel_begin; p < range.panel_end; p += step)
    multiply_panels(g, range, p, min(p + step, range.panel_end), scratch);
}

}  // namespace
}  // namespace tfcore
