#pragma once
// The weighted values of one block of keys join the output rows of attention.
//
//   out[r] = out[r] * rescale[r] + sum_j weight[r][j] * v[j]        r < rows of a tile, j < keys of the block
//
// Each sum is one chain, j ascending, in every form below.
#include "kernels/scores.hpp"

namespace tfcore {
namespace {

// Whether 0 times the values of keys [begin, end) is 0.
template <class T> bool all_finite(const ScoreBlock<T>& b, Index begin, Index end) {
  const Index width = b.a.value_size;
  Vec<T> poison{};
  for (Index key = begin; key < end; ++key) {
    const T* v = values_of(b.a, b.block) + key * b.a.v_row;
    Index d = 0;
    for (; d + lanes<T> <= width; d += lanes<T>) poison = fma(load(v + d), Vec<T>{}, poison);
    if (d < width) poison = fma(load_first(v + d, int(width - d)), Vec<T>{}, poison);
  }
  return !any(poison != poison);
}

template <class T> bool hidden_are_finite(const ScoreBlock<T>& b) {
  if (b.a.mask_kind != MaskKind::none) return all_finite(b, b.begin, b.end);
  bool finite = true;
  for_each_edge(b, [&](Index begin, Index end) { finite = finite && all_finite(b, begin, end); });
  return finite;
}

// Row by row, reading only the values a row sees: 0 * NaN must not reach it. The same sums as the tiles'.
template <class T, class L> void accumulate_seen(const ScoreBlock<T>& b) {
  const Index width = padded<T>(b.a.value_size);
  const T* v = values_of(b.a, b.block);
  for (Index r = 0; r < b.count; ++r) {
    T* out = b.w.out + (b.row + r) * width;
    for (Index d = 0; d < width; d += lanes<T>) {
      const int columns = lanes_of<T>(b.a.value_size - d);
      Vec<T> sum{};
      for (Index key = b.begin; key < b.end; ++key) {
        const Index at = (key - b.block) * L::key_stride + r * L::row_stride;
        if (key < b.rows.first[b.row + r] || key >= b.rows.last[b.row + r]) continue;
        if (b.a.mask_kind != MaskKind::none && b.bias[at] == kMinusInfinity<T>) continue;
        sum = fma(load_first(v + key * b.a.v_row + d, columns), b.scores[at], sum);
      }
      store(out + d, b.fresh ? sum : fma(load(out + d), b.rescale[r], sum));
    }
  }
}

template <class T, class L> void accumulate(const ScoreBlock<T>& b, bool values_packed) {
  const Index width = padded<T>(b.a.value_size), keys = b.end - b.begin;
  if (b.hides && !hidden_are_finite(b)) return accumulate_seen<T, L>(b);
  Tile<T> t{};
  t.depth = keys;
  t.a = b.scores + (b.begin - b.block) * L::key_stride, t.a_stride = L::row_stride;
  t.b = values_packed ? b.w.values + (b.begin - b.block) * width : values_of(b.a, b.block) + b.begin * b.a.v_row;
  t.b_stride = values_packed ? width : b.a.v_row, t.panel_stride = kPanel<T>;
  t.c = b.w.out + b.row * width, t.c_stride = width;
  t.accumulate = !b.fresh, t.c_scale = b.rescale;
  const Index vectors = width / lanes<T>;
  fetch_ahead<T, L::adjacent>(b, b.a.next_v, b.a.next_out, b.a.value_size * Index(sizeof(T)), b.count, vectors, t);
  multiply_tiles<T, L::adjacent>(t, b.count, vectors);
}

// Few rows over two blocks, whose values are a stream each, read a few rows of either in turn: all at once where they
// are in a cache, but row by row, as they lie, out of memory (Zen 3, on each of two cores: 10 GB/s, where four rows
// side by side, or tiles of them with the next rows asked for, give 6). Several rows in a cache ask for the turn after
// the next: 20 % out of L3, where a single one loses 4. For narrow vectors alone: wide tiles are as fast out of memory,
// and 1.05 to 1.1 times as fast out of a cache (Zen 4).
constexpr int kKeysInTurn = 4;

// sum[r] += weight[r][j] * v[j] for R rows, j < count
template <class T, int R, int count>
TFCORE_INLINE void add_values(const T* weights, const T* v, Index v_row, Index width, T* sum) {
  Vec<T> weight[R][count];
  for (int r = 0; r < R; ++r)
    for (int j = 0; j < count; ++j) weight[r][j] = splat(weights[r * KeyLanes<T>::row_stride + j]);
#pragma GCC unroll 4
  for (Index d = 0; d < width; d += lanes<T>) {
    Vec<T> value[count];
#pragma GCC unroll 4
    for (int j = 0; j < count; ++j) {
      if (R > 1 && count > 1 && d % kPanel<T> == 0) __builtin_prefetch(v + (j + 2 * count) * v_row + d, 0, 2);
      value[j] = load(v + j * v_row + d);
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      Vec<T> s = load(sum + r * width + d);
#pragma GCC unroll 4
      for (int j = 0; j < count; ++j) fma_into(s, weight[r][j], value[j]);
      store(sum + r * width + d, s);
    }
  }
}

template <class T, int R, bool far> void accumulate_rows(const ScoreBlock<T> (&pair)[2]) {
  constexpr int count = far ? 1 : kKeysInTurn;
  const Index width = pair[0].a.value_size, v_row = pair[0].a.v_row;
  T* const out = pair[0].w.out;
  T* const sums = out + kFewRows * width;
  __builtin_memset(sums, 0, std::size_t(2 * R * width) * sizeof(T));
  for (Index turn = 0; turn < kKeyBlock; turn += kKeysInTurn)
    for (int i = 0; i < 2; ++i) {
      const ScoreBlock<T>& b = pair[i];
      const T* const weights = b.scores - b.block;
      const T* const v = values_of(b.a, b.block);
      Index key = b.begin + turn;
      const Index last = min(key + kKeysInTurn, b.end);
      for (; key + count <= last; key += count)
        add_values<T, R, count>(weights + key, v + key * v_row, v_row, width, sums + i * R * width);
      for (; key < last; ++key) add_values<T, R, 1>(weights + key, v + key * v_row, v_row, width, sums + i * R * width);
    }
  for (Index r = 0; r < R; ++r)
    for (Index d = 0; d < width; d += lanes<T>) {
      const Vec<T> first = load(sums + r * width + d), second = load(sums + (R + r) * width + d);
      T* const to = out + r * width + d;
      store(to, fma(pair[0].fresh ? first : fma(load(to), pair[0].rescale[r], first), pair[1].rescale[r], second));
    }
}

template <class T> void accumulate_pair(const ScoreBlock<T> (&pair)[2]) {
  using Accumulate = void (*)(const ScoreBlock<T>(&)[2]);
  static constexpr Accumulate kAccumulate[2][kFewRows] = {{accumulate_rows<T, 1, false>, accumulate_rows<T, 2, false>,
                                                           accumulate_rows<T, 3, false>, accumulate_rows<T, 4, false>},
                                                          {accumulate_rows<T, 1, true>, accumulate_rows<T, 2, true>,
                                                           accumulate_rows<T, 3, true>, accumulate_rows<T, 4, true>}};
  kAccumulate[pair[0].a.far][pair[0].count - 1](pair);
}

// Values are read in place but for three cases. Rows that are not whole vectors. Rows a multiple of 4096 bytes apart,
// as heads of wide arrays are: they share a few sets of the nearest cache, which costs 20 % (with keys, or 2048 bytes
// apart, a copy gains nothing). And vectors that straddle cache lines, as in NumPy's arrays that begin at a multiple of
// 16: 5 % and, with this many rows, more than a copy, which costs 3 (also where the first tile's product makes it).
template <class T> bool packs_values(const AttentionArgs<T>& a, Index rows) {
  const std::uintptr_t row_bytes = std::uintptr_t(a.v_row) * sizeof(T);
  const bool share_sets = row_bytes % 4096 == 0 && row_bytes > 0;
  const bool straddle = !a.blocks && (reinterpret_cast<std::uintptr_t>(a.v) | row_bytes) % kVecBytes;
  return a.value_size % lanes<T> != 0 || (share_sets && rows > kTileQueries<T>) || (straddle && rows > kQueryBlock / 4);
}

// The values of the keys [begin, end) of the block, zero beyond Dv.
template <class T> void pack_values(const AttentionArgs<T>& a, Index block, KeySpan span, T* values) {
  const Index width = padded<T>(a.value_size);
  const T* v = values_of(a, block);
  for (Index key = span.begin; key < span.end; ++key) {
    const T* from = v + key * a.v_row;
    T* to = values + (key - block) * width;
    Index d = 0;
    for (; d + lanes<T> <= a.value_size; d += lanes<T>) store(to + d, load(from + d));
    if (d < a.value_size) store(to + d, load_first(from + d, int(a.value_size - d)));
  }
}

}  // namespace
}  // namespace tfcore
