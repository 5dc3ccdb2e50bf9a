#pragma once
// The scores of one block of keys, in two layouts.
//
// With many rows the lanes hold queries, and the softmax never reduces across lanes; with a few (a decode step) they
// hold keys, turned in registers. Both give the same bits: each score is one chain over the head size, each sum of a
// block four chains by key modulo 4.
#include "kernels/rows.hpp"
#include "kernels/turned.hpp"

namespace tfcore {
namespace {

// While the product t of a tile of queries runs, (rows, vectors) of it, a share of the rows that come next: the first
// half of the tiles asks for the keys, or values, at `first`, the second for the queries, or output, at `second`.
// 5 to 25 % on heads of 32 to 128 rows out of L3. Up to two wide tiles are too few for both: they ask for the first.
template <class T, Adjacent adjacent> TFCORE_INLINE void fetch_ahead(const ScoreBlock<T>& b, const T* first,
                                                                     const T* second, Index row_bytes, Index rows,
                                                                     Index vectors, Tile<T>& t) {
  if (!first || t.depth == 0) return;
  const Index tiles = (b.rows.count + b.count - 1) / b.count, tile = b.row / kTileQueries<T>;
  const Index half = kWide && tiles <= 2 ? tiles : (tiles + 1) / 2;
  const bool early = tile < half;
  const Index shares = early ? half : tiles - half, share = early ? tile : tile - half;
  const Index bytes = (early ? b.a.keys : b.a.queries) * row_bytes / shares;
  t.ahead.from = reinterpret_cast<const char*>(early ? first : second) + bytes * share;
  t.ahead.step = (bytes / steps_of_tiles<T, adjacent>(rows, vectors, t.depth) + 15) & ~Index(15);
}

// --- the two layouts -------------------------------------------------------------------------------------------------

// Lanes hold queries: score (row, key) stands at [key][row].
template <class T> struct QueryLanes {
  static constexpr Adjacent adjacent = Adjacent::rows;
  static constexpr Index key_stride = kTileQueries<T>, row_stride = 1;
  TFCORE_INLINE static Vec<T> of_rows(const T* value) { return load(value); }
  TFCORE_INLINE static Vec<T> keys(Index key) { return splat(T(key)); }

  template <class F> TFCORE_INLINE static void for_each(const ScoreBlock<T>& b, Index begin, Index end, F f) {
    for (Index key = begin; key < end; ++key)
      for (Index r = 0; r < b.count; r += lanes<T>) f((key - b.block) * key_stride + r, key, r);
  }

  // queries[tile][d][row] = factor * q[row][d]; lanes past the last row repeat it.
  static void load_queries(const AttentionArgs<T>& a, const RowState<T>& s, T factor, T* queries) {
    for (Index r0 = 0; r0 < s.count; r0 += lanes<T>) {
      T* tile = queries + r0 / kTileQueries<T> * a.head_size * kTileQueries<T> + r0 % kTileQueries<T>;
      const T* rows[lanes<T>];
      for (Index r = 0; r < lanes<T>; ++r) rows[r] = query_row(a, s, min(r0 + r, s.count - 1));
      ask_for_next(a.next_q, a.head_size, s, r0, lanes<T>);
      const auto turn = [&](Index d, int columns) TFCORE_LAMBDA {
        Vec<T> square[lanes<T>];
        load_square<T>([&](int r) TFCORE_LAMBDA { return rows[r] + d; }, columns, square);
#pragma GCC unroll 16
        for (int i = 0; i < lanes<T>; ++i)
          if (i < columns) store(tile + (d + i) * kTileQueries<T>, factor * square[i]);
      };
      Index d = 0;
      for (; d + lanes<T> <= a.head_size; d += lanes<T>) turn(d, lanes<T>);
      if (d < a.head_size) turn(d, int(a.head_size - d));
    }
  }

  static void score(const ScoreBlock<T>& b) {
    const Index keys = b.end - b.begin, vectors = (b.count + lanes<T> - 1) / lanes<T>;
    Tile<T> t{};
    t.depth = b.a.head_size;
    t.a = keys_of(b.a, b.block) + b.begin * b.a.k_row, t.a_stride = b.a.k_row;
    t.b = b.w.queries + b.row * b.a.head_size, t.b_stride = kTileQueries<T>, t.panel_stride = kPanel<T>;
    t.c = b.scores + (b.begin - b.block) * key_stride, t.c_stride = key_stride;
    fetch_ahead<T, Adjacent::depth>(b, b.a.next_k, b.a.next_q, b.a.head_size * Index(sizeof(T)), keys, vectors, t);
    multiply_tiles<T, Adjacent::depth>(t, keys, vectors);
  }

  static void hide_past_end(const ScoreBlock<T>&) {}

  // values[r][key] into an area laid out as the scores are.
  static void store_square(const ScoreBlock<T>& b, Vec<T> (&values)[lanes<T>], Index row, int, Index key, int keys,
                           T* area) {
    transpose<T>(values);
    for (int i = 0; i < keys; ++i) store(area + (key - b.block + i) * key_stride + row, values[i]);
  }

  // Four chains in either pass, by key modulo 4 (the span begins at a multiple of 16), then one tree: one chain alone
  // would wait for its own latency, 4 cycles a key.
  static void take_max(const ScoreBlock<T>& b, T* max) {
    for (Index r = 0; r < b.count; r += lanes<T>) {
      Vec<T> chain[4] = {load(max + r), load(max + r), load(max + r), load(max + r)};
      for_each_four(b, r, [&](T* score, int c) TFCORE_LAMBDA { chain[c] = tfcore::max(chain[c], load(score)); });
      store(max + r, tfcore::max(tfcore::max(chain[0], chain[1]), tfcore::max(chain[2], chain[3])));
    }
  }

  // score = 2^(score - max), and their sums. By itself: inlined, its loop is compiled differently after each change of
  // what surrounds it, and is up to 1.5 times as slow.
  __attribute__((noinline)) static void exponentiate(const ScoreBlock<T>& b, const T* max, T* sum) {
    for (Index r = 0; r < b.count; r += lanes<T>) {
      const Reference<T> reference(load(max + r));
      if (reference.has_rest())
        for_each_four(b, r, [&](T* score, int) TFCORE_LAMBDA { store(score, load(score) - reference.rest); });
      const Exp2Less<T> weight_of(reference.even);
      Vec<T> chain[4] = {};
      for_each_four(b, r, [&](T* score, int c) TFCORE_LAMBDA {
        const Vec<T> weight = weight_of(load(score));
        store(score, weight);
        chain[c] = chain[c] + weight;
      });
      store(sum + r, (chain[0] + chain[1]) + (chain[2] + chain[3]));
    }
  }

 private:
  // f(the scores of one key, key modulo 4) for the column of rows at r
  template <class F> TFCORE_INLINE static void for_each_four(const ScoreBlock<T>& b, Index r, F f) {
    T* score = b.scores + (b.begin - b.block) * key_stride + r;
    Index left = b.end - b.begin;
    for (; left >= 4; left -= 4, score += 4 * key_stride)
#pragma GCC unroll 4
      for (int c = 0; c < 4; ++c) f(score + c * key_stride, c);
#pragma GCC unroll 4
    for (int c = 0; c < 3; ++c)
      if (c < left) f(score + c * key_stride, c);
  }
};

// Lanes hold keys: score (row, key) stands at [row][key].
template <class T> struct KeyLanes {
  static constexpr Adjacent adjacent = Adjacent::depth;
  static constexpr Index key_stride = 1, row_stride = kKeyBlock;
  TFCORE_INLINE static Vec<T> of_rows(const T* value) { return splat(*value); }
  TFCORE_INLINE static Vec<T> keys(Index key) {
    return splat(T(key)) + __builtin_convertvector(lane_index<T>(), Vec<T>);
  }

  template <class F> TFCORE_INLINE static void for_each(const ScoreBlock<T>& b, Index begin, Index end, F f) {
    for (Index r = 0; r < b.count; ++r)
      for (Index key = begin; key < end; key += lanes<T>) f(r * row_stride + key - b.block, key, r);
  }

  static void load_queries(const AttentionArgs<T>& a, const RowState<T>& s, T factor, T* queries) {
    for (Index r = 0; r < s.count; ++r)
      for (Index d = 0; d < a.head_size; ++d) queries[r * a.head_size + d] = factor * query_row(a, s, r)[d];
  }

  // Out of memory the streams lie apart, and each is read on by the next step: the hardware runs ahead of several
  // streams at once (Zen 3, on each of two cores: 13 GB/s, where one stream gives 10, with instructions that ask for it
  // too); wide vectors ask for the step after the next as well, 1.1 to 1.2 times as fast (Zen 4). Out of a cache the
  // streams lie side by side, and a step asks for the next one: whole vectors of scores, 1.08 times as fast (Zen 4).
  // A single row gets 15 bytes of k a cycle out of L2; its shuffles allow 16, and so does its chain. (Two wide squares,
  // columns put together by masked loads, or both: 13 to 16. Four squares in half registers: 20 out of L1, 13 of L3.)
  template <int R, int squares> static void score_rows(const ScoreBlock<T>& b) {
    using S = Step<T, squares, kStreams<T, squares>>;
    Index key = b.begin;
    if (b.a.far) {
      const Index length = (b.end - b.begin) / S::streams & ~Index(S::together - 1);
      for (Index i = 0; i < length; i += S::together)
        score_step<R, S>(b, b.begin + i, length, kWide ? 2 * S::together : 0);
      key += length * S::streams;
    }
    for (; key + S::rows <= b.end; key += S::rows) score_step<R, S>(b, key, S::together, S::rows);
    for (; squares > 1 && key + lanes<T> < b.end; key += S::rows)
      score_step<R, Step<T, squares, S::rows>>(b, key, 1, 0);
    for (; key < b.end; key += lanes<T>) score_step<R, Step<T, 1, lanes<T>>>(b, key, 1, 0);
  }

  // The scores of the keys from `first` on, in streams so many rows apart. It asks for what comes so many rows later.
  // Keys past the end repeat the last one and are hidden afterwards.
  template <int R, class S>
  TFCORE_INLINE static void score_step(const ScoreBlock<T>& b, Index first, Index stream, Index ahead) {
    Streams<T, S> keys(keys_of(b.a, b.block), b.a.k_row, first, stream, b.end - 1);
    Vec<T> sum[S::squares][R] = {};
    add_turned<T, R, S>(keys, b.w.queries, b.a.head_size, b.a.head_size, ahead, sum);
    store_scores<R, S>(sum, b.scores + first - b.block, stream);
  }

  // Whole vectors where the streams of a step lie side by side.
  template <int R, class S>
  TFCORE_INLINE static void store_scores(const Vec<T> (&sum)[S::squares][R], T* scores, Index stream) {
    const bool side_by_side = stream == S::together;
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r, scores += row_stride)
#pragma GCC unroll 2
      for (int s = 0; s < S::squares; ++s) {
        if (side_by_side) store(scores + s * lanes<T>, sum[s][r]);
#pragma GCC unroll 16
        for (int i = s * lanes<T>; !side_by_side && i < (s + 1) * lanes<T>; ++i)
          scores[i / S::together * stream + i % S::together] = sum[s][r][i % lanes<T>];
      }
  }

  template <int R = 1> static void score(const ScoreBlock<T>& b) {
    if (b.count == R) return b.a.far ? score_rows<R, kFarSquares<T>>(b) : score_rows<R, kNearSquares<T, R>>(b);
    if constexpr (R < kFewRows) score<R + 1>(b);
  }

  // In the last vector of keys.
  static void hide_past_end(const ScoreBlock<T>& b) {
    const Index left = b.end % lanes<T>;
    for (Index r = 0; left > 0 && r < b.count; ++r) {
      T* const last = b.scores + r * row_stride + b.end - left - b.block;
      store(last, first_lanes<T>(left) ? load(last) : splat(kMinusInfinity<T>));
    }
  }

  static void store_square(const ScoreBlock<T>& b, Vec<T> (&values)[lanes<T>], Index row, int rows, Index key, int,
                           T* area) {
    for (int r = 0; r < rows; ++r) store(area + (row + r) * row_stride + key - b.block, values[r]);
  }

  static void take_max(const ScoreBlock<T>& b, T* max) {
    for_each_row(b.count, max, [&](Index r) TFCORE_LAMBDA {
      Vec<T> m = splat(max[r]);
      for (Index key = b.begin; key < b.end; key += lanes<T>)
        m = tfcore::max(m, load(b.scores + r * row_stride + key - b.block));
      return largest_lane<T>(m);
    });
  }

  static void exponentiate(const ScoreBlock<T>& b, const T* max, T* sum) {
    for_each_row(b.count, sum, [&](Index r) TFCORE_LAMBDA {
      const Reference<T> reference(splat(max[r]));
      const Exp2Less<T> weight_of(reference.even);
      T* score = b.scores + r * row_stride - b.block;
      for (Index key = b.begin; key < b.end; key += lanes<T>)
        store(score + key, weight_of(load(score + key) - reference.rest));
      return sum_in_chains(score + b.begin, b.end - b.begin);
    });
  }

 private:
  // out[r] = f(r), in whole vectors, as they are read next: a vector of single stores would be waited for.
  template <class F> TFCORE_INLINE static void for_each_row(Index rows, T* out, F f) {
    for (Index first = 0; first < rows; first += lanes<T>) {
      Vec<T> all{};
      for (Index r = first; r < min(rows, first + lanes<T>); ++r)
        all = lane_index<T>() == IntVec<T>{} + Int<T>(r - first) ? splat(f(r)) : all;
      store(out + first, all);
    }
  }

  // Four chains in one register: in an array they went through memory, 10 % of a step with four rows.
  static T sum_in_chains(const T* weights, Index count) {
    typedef T Chains __attribute__((vector_size(4 * sizeof(T))));
    Chains chain{};
    Index i = 0;
    for (; i + 4 <= count; i += 4) {
      Chains next;
      __builtin_memcpy(&next, weights + i, sizeof next);
      chain += next;
    }
    for (int c = 0; c < 3; ++c)
      if (i + c < count) chain[c] += weights[i + c];
    return (chain[0] + chain[1]) + (chain[2] + chain[3]);
  }
};

}  // namespace
}  // namespace tfcore
