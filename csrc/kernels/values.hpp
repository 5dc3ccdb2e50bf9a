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
      const int columns = b.a.value_size - d < lanes<T> ? int(b.a.value_size - d) : lanes<T>;
      Vec<T> sum{};
      for (Index key = b.begin; key < b.end; ++key) {
        const Index at = (key - b.block) * L::key_stride + r * L::row_stride;
        if (key < b.rows.first[b.row + r] || key >= b.rows.last[b.row + r]) continue;
        if (b.a.mask_kind != MaskKind::none && b.w.bias[at] == kMinusInfinity<T>) continue;
        sum = fma(load_first(v + key * b.a.v_row + d, columns), b.w.scores[at], sum);
      }
      store(out + d, b.fresh ? sum : fma(load(out + d), b.rows.rescale[b.row + r], sum));
    }
  }
}

// Few rows: a few keys at a time, so that the values, read from memory, are asked for in its order and fetched while
// those before them are at work: 14 instead of 8 GB/s of values that 4 heads share, 16 instead of 13 for one.
constexpr Index kKeysAtATime = 32;

template <class T> void accumulate_few(const ScoreBlock<T>& b, Tile<T> t) {
  const Index keys = t.depth, width = t.c_stride;
  T* const out = t.c;
  const bool gaps = t.b_stride != b.a.value_size, last = b.block + kKeyBlock >= b.a.key_count;
  const T* const next_keys = last ? nullptr : keys_of(b.a, b.block + kKeyBlock) + (b.block + kKeyBlock) * b.a.k_row;
  t.c = b.w.out + kFewRows * width, t.accumulate = false;
  for (Index key = 0; key < keys; key += kKeysAtATime) {
    const bool more = key + kKeysAtATime < keys;
    t.depth = more ? kKeysAtATime : keys - key, t.resume = key > 0;
    t.rows_follow = !gaps && (more || !last);
    t.ahead = reinterpret_cast<const char*>(more ? t.b + kKeysAtATime * t.b_stride : next_keys);
    multiply_tiles<T, Adjacent::depth>(t, b.count, width / lanes<T>);
    t.a += kKeysAtATime, t.b += kKeysAtATime * t.b_stride;
  }
  for (Index r = 0; r < b.count; ++r)
    for (Index d = 0; d < width; d += lanes<T>) {
      const Vec<T> sum = load(t.c + r * width + d);
      store(out + r * width + d, b.fresh ? sum : fma(load(out + r * width + d), b.rows.rescale[b.row + r], sum));
    }
}

template <class T, class L> void accumulate(const ScoreBlock<T>& b, bool values_packed) {
  const Index width = padded<T>(b.a.value_size), keys = b.end - b.begin;
  const T* v = values_of(b.a, b.block) + b.begin * b.a.v_row;
  if (b.hides && !hidden_are_finite(b)) return accumulate_seen<T, L>(b);
  Tile<T> t{};
  t.depth = keys;
  t.a = b.w.scores + (b.begin - b.block) * L::key_stride;
  t.a_stride = L::row_stride;
  t.b = values_packed ? b.w.values + (b.begin - b.block) * width : v;
  t.b_stride = values_packed ? width : b.a.v_row, t.panel_stride = kPanel<T>;
  t.c = b.w.out + b.row * width, t.c_stride = width;
  t.accumulate = !b.fresh, t.c_scale = b.rows.rescale + b.row;
  if (L::adjacent == Adjacent::depth) return accumulate_few(b, t);
  const Index steps = Strips(b.count).count * t.depth * ((width / lanes<T> + 1) / 2);
  fetch_ahead<T>(b, b.a.next_v, b.a.next_out, b.a.value_size * Index(sizeof(T)), steps, t);
  multiply_tiles<T, L::adjacent>(t, b.count, width / lanes<T>);
}

// Values are read in place but for three cases. Rows that are not whole vectors. Rows a multiple of 4096 bytes apart,
// as heads of wide arrays are: they share a few sets of the nearest cache, which costs 20 % (with keys, or 2048 bytes
// apart, a copy gains nothing). And vectors that straddle cache lines, as in NumPy's arrays that begin at a multiple of
// 16: 5 % and, with this many rows, more than a copy.
template <class T> bool packs_values(const AttentionArgs<T>& a, Index rows) {
  const std::uintptr_t row_bytes = std::uintptr_t(a.v_row) * sizeof(T);
  const bool share_sets = row_bytes % 4096 == 0 && row_bytes > 0;
  const bool straddle = !a.blocks && (reinterpret_cast<std::uintptr_t>(a.v) | row_bytes) % kVecBytes;
  return a.value_size % lanes<T> != 0 || (share_sets && rows > kTileQueries<T>) || (straddle && rows > kQueryBlock / 2);
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
