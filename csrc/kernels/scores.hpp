#pragma once
// The state of attention's rows in flight, and one block of keys against them: its scores in two layouts.
//
// With many rows the lanes hold queries, and the softmax never reduces across lanes; with a few (a decode step) they
// hold keys, turned in registers. Both give the same bits: each score is one chain over the head size, each sum of a
// block four chains by key modulo 4.
#include "kernels/math.hpp"
#include "kernels/strips.hpp"
#include "kernels/table.hpp"

namespace tfcore {
namespace {

template <class T> constexpr T kMinusInfinity = -__builtin_inf();

// Up to here lanes hold keys: a tile of queries would waste most of its lanes. Wide ones, 5 to 8 rows: 1.4 to 1.9 times
// as fast as a tile, but with fewer keys than lanes up to 1.2 times as slow.
constexpr bool kWide = kVecBytes == 64;
constexpr int kFewRows = kWide ? 8 : 4;
template <class T> bool lanes_hold_keys(const AttentionArgs<T>& a, Index rows) {
  return rows <= 4 || (rows <= kFewRows && a.keys >= lanes<T>);
}

// --- the rows in flight ----------------------------------------------------------------------------------------------

template <class T> struct RowState {
  Index count;
  Index head[kQueryBlock], query[kQueryBlock];       // query head and position of a row
  Index first[kQueryBlock], last[kQueryBlock];       // the keys a row may see: first <= j < last
  T max[kQueryBlock], sum[kQueryBlock];              // of the span's scores in base 2 so far, and of 2^(score - max)
  T total_max[kQueryBlock], total_sum[kQueryBlock];  // of the spans before it
  T rescale[2][kQueryBlock];                         // 2^(old max - new max) of the one or two blocks at hand
  T slope[kQueryBlock], position[kQueryBlock];       // ALiBi, in base 2
};

template <class T> void start_rows(const AttentionArgs<T>& a, Index row_begin, Index row_end, RowState<T>& s) {
  s.count = row_end - row_begin;
  Index head = row_begin / a.queries, query = row_begin % a.queries;
  for (Index r = 0; r < s.count; ++r) {
    const Index position = query + a.offset, first = position - a.left, last = position + a.right + 1;
    s.head[r] = head, s.query[r] = query;
    s.first[r] = max(first, Index(0));
    s.last[r] = min(last, a.key_count);
    s.slope[r] = a.slopes ? in_base_2(a.slopes[head]) : T(0);
    s.position[r] = T(position);
    if (++query == a.queries) query = 0, ++head;
  }
  for (Index r = s.count; r % lanes<T>; ++r) s.slope[r] = s.position[r] = T(0);
}

// The keys that some row of a tile may see, and those that every row sees.
struct KeySpan {
  Index begin, end;
};
struct TileSpan {
  KeySpan some, every;
};

template <class T> TileSpan tile_span(const RowState<T>& s, Index row, Index count) {
  constexpr Index beyond = Index(1) << 62;  // of a row that sees nothing, the last key may be before key 0
  TileSpan t{{beyond, 0}, {0, s.last[row]}};
  for (Index r = row; r < row + count; ++r) {
    const Index first = s.first[r], last = s.last[r];
    t.every.begin = max(first, t.every.begin);
    t.every.end = min(last, t.every.end);
    if (first >= last) continue;
    t.some.begin = min(first, t.some.begin);
    t.some.end = max(last, t.some.end);
  }
  return t;
}

// What of `span` falls into [begin, end), from whole vectors of keys on; empty where begin >= end.
TFCORE_INLINE KeySpan within(KeySpan span, Index begin, Index end) {
  return {max(span.begin, begin) & ~Index(15), min(span.end, end)};
}

// --- scratch ---------------------------------------------------------------------------------------------------------

template <class T> constexpr Index kTileQueries = kRowsStride<T>;
template <class T> constexpr Index kScoreArea =
    kKeyBlock * (kTileQueries<T> > 2 * kFewRows ? kTileQueries<T> : 2 * kFewRows);

template <class T> Index padded(Index size) { return (size + lanes<T> - 1) / lanes<T> * lanes<T>; }

template <class T> struct Workspace {
  T* queries;  // tiles × (D, kTileQueries), or (rows, D): scaled, turned
  T* scores;   // (keys, kTileQueries), or two blocks of (kFewRows, kKeyBlock)
  T* bias;     // as scores: their mask, -inf where it hides
  T* out;      // (kQueryBlock, padded Dv), of the span of keys at hand
  T* total;    // (kQueryBlock, padded Dv), of the spans before it
  T* values;   // (kKeyBlock, padded Dv), where packs_values says so
};

template <class T> std::size_t attention_scratch(const AttentionSizes& a) {
  const Index width = padded<T>(a.value_size);
  return std::size_t(kQueryBlock * a.head_size + 2 * kScoreArea<T> + (2 * kQueryBlock + kKeyBlock) * width);
}

template <class T> Workspace<T> lay_out(const AttentionArgs<T>& a, T* scratch) {
  Workspace<T> w;
  w.scores = scratch;
  w.bias = w.scores + kScoreArea<T>;
  w.queries = w.bias + kScoreArea<T>;
  w.out = w.queries + kQueryBlock * a.head_size;
  w.total = w.out + kQueryBlock * padded<T>(a.value_size);
  w.values = w.total + kQueryBlock * padded<T>(a.value_size);
  return w;
}

// One block of keys against the rows [row, row + count): what the passes below work on.
template <class T> struct ScoreBlock {
  const AttentionArgs<T>& a;
  RowState<T>& rows;
  const Workspace<T>& w;
  T* scores;
  T* bias;
  T* rescale;        // (count,)
  Index row, count;  // within `rows`
  Index block;       // first key of the block; the span is [begin, end)
  Index begin, end;
  KeySpan every;  // the keys that every row sees, before masks
  bool hides;     // some row does not see some key of the span
  bool fresh;     // no earlier block reached these rows of `out`
};

// f(begin, end) for the keys of the block that some row does not see, and a few more, from whole vectors on.
template <class T, class F> TFCORE_INLINE void for_each_edge(const ScoreBlock<T>& b, F f) {
  const auto inside = [&](Index key) { return key < b.begin ? b.begin : min(key, b.end); };
  const Index before = inside(b.every.begin), after = inside(b.every.end) & ~Index(15);
  if (after <= before) return f(b.begin, b.end);
  if (b.begin < before) f(b.begin, before);
  if (after < b.end) f(after, b.end);
}

template <class T> TFCORE_INLINE const T* query_row(const AttentionArgs<T>& a, const RowState<T>& s, Index r) {
  return a.q + s.head[r] * a.q_head + s.query[r] * a.q_row;
}

// Where key 0, value 0 of the array would be of which the block is a part.
template <class T> TFCORE_INLINE const T* keys_of(const AttentionArgs<T>& a, Index block) {
  return a.blocks ? a.blocks[block / kKeyBlock] + a.k_offset - block * a.k_row : a.k;
}

template <class T> TFCORE_INLINE const T* values_of(const AttentionArgs<T>& a, Index block) {
  return a.blocks ? a.blocks[block / kKeyBlock] + a.v_offset - block * a.v_row : a.v;
}

template <class T> TFCORE_INLINE Vec<T> finite_or_zero(Vec<T> max) {  // a row that has seen nothing has max = -inf
  return max == splat(kMinusInfinity<T>) ? Vec<T>{} : max;
}

// What the scores of a row are held against, cut in two: an even integer below kMostReference, and what must be taken
// off beforehand, 0 in nearly all rows.
template <class T> struct Reference {
  Vec<T> even, rest;
  explicit TFCORE_INLINE Reference(Vec<T> max) {
    const Vec<T> finite = finite_or_zero<T>(max);
    const auto fits = (abs<T>(finite) < MathConstants<T>::kMostReference) & (nearest_even<T>(finite) == finite);
    even = fits ? finite : Vec<T>{}, rest = fits ? Vec<T>{} : finite;
  }
  bool has_rest() const { return any(rest != Vec<T>{}); }
};

// While the product t of a tile of queries runs, (rows, vectors) of it, a share of the rows that come next: the first
// half of the tiles asks for the keys, or values, at `first`, the second for the queries, or output, at `second`.
// 5 to 25 % on heads of 32 to 128 rows out of L3.
template <class T, Adjacent adjacent> TFCORE_INLINE void fetch_ahead(const ScoreBlock<T>& b, const T* first,
                                                                     const T* second, Index row_bytes, Index rows,
                                                                     Index vectors, Tile<T>& t) {
  if (!first || t.depth == 0) return;
  const Index tiles = (b.rows.count + b.count - 1) / b.count, tile = b.row / kTileQueries<T>, half = (tiles + 1) / 2;
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
      const auto turn = [&](Index d, int columns) TFCORE_LAMBDA {
        Vec<T> square[lanes<T>];
#pragma GCC unroll 16
        for (int r = 0; r < lanes<T>; ++r)
          square[r] = factor * (columns == lanes<T> ? load(rows[r] + d) : load_first(rows[r] + d, columns));
        transpose<T>(square);
#pragma GCC unroll 16
        for (int i = 0; i < lanes<T>; ++i)
          if (i < columns) store(tile + (d + i) * kTileQueries<T>, square[i]);
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

  // Squares of k are turned, then each of their depths meets every row: two at a time where few lanes, or a single row
  // in a cache, would wait for their chain (out of memory two are 20 % slower). The keys of a step are a few streams
  // apart, and each stream is read on by the next step: out of memory the hardware runs ahead of several streams at
  // once (Zen 3, on each of two cores: 13 GB/s, where one stream gives 10, with instructions that ask for it too). Wide
  // vectors ask for the step after the next as well, 1.1 to 1.2 times as fast out of memory (Zen 4).
  template <int squares_, int streams_> struct Step {
    static constexpr int squares = squares_, keys = squares * lanes<T>, streams = streams_, together = keys / streams;
  };
  static constexpr int kSquares = lanes<T> <= 4 ? 2 : 1;

  // Where a step reads: a pointer to each stream, which the empty asm keeps from being derived from another one with an
  // instruction for every load.
  template <class S> struct Streams {
    const T* at[S::streams];
    Index k_row;

    TFCORE_INLINE const T* row(int key) const { return at[key / S::together] + key % S::together * k_row; }
    TFCORE_INLINE void advance(int depths) {
#pragma GCC unroll 16
      for (int i = 0; i < S::streams; ++i) {
        at[i] += depths;
        asm("" : "+r"(at[i]));
      }
    }
    TFCORE_INLINE void ask_ahead() const {
#pragma GCC unroll 16
      for (int key = 0; key < S::keys; ++key) __builtin_prefetch(row(key) + 2 * S::together * k_row, 0, 2);
    }
  };

  template <int R, int squares> static void score_rows(const ScoreBlock<T>& b) {
    using S = Step < squares, squares* lanes<T><8 ? squares * lanes<T> : 8>;
    static_assert(R == 1 || S::keys <= 16);  // the last step of a block may end beyond it, in the next row's scores
    const Index length = (b.end - b.begin) / S::streams & ~Index(S::together - 1);
    for (Index i = 0; i < length; i += S::together) score_step<R, S>(b, b.begin + i, length);
    for (Index key = b.begin + length * S::streams; key < b.end; key += lanes<T>)
      score_step<R, Step<1, lanes<T>>>(b, key, 1);
  }

  // Keys past the end repeat the last one and are hidden afterwards.
  template <int R, class S> TFCORE_INLINE static void score_step(const ScoreBlock<T>& b, Index first, Index stream) {
    const T* q = b.w.queries;
    const T* const all = keys_of(b.a, b.block);
    const Index size = b.a.head_size;
    Streams<S> streams{{}, b.a.k_row};
    for (int i = 0; i < S::streams; ++i) streams.at[i] = all + min(first + i * stream, b.end - 1) * b.a.k_row;
    Vec<T> sum[S::squares][R] = {};
    const auto add_depths = [&](int count) TFCORE_LAMBDA {
#pragma GCC unroll 2
      for (int s = 0; s < S::squares; ++s)
        add_square<R>([&](int i) TFCORE_LAMBDA { return streams.row(s * lanes<T> + i); }, q, size, count, sum[s]);
      q += count;
      streams.advance(count);
    };
    Index left = size;
    for (; left >= lanes<T>; left -= lanes<T>) {
      if (kWide) streams.ask_ahead();
      add_depths(lanes<T>);
    }
    if (left > 0) add_depths(int(left));
    for (int r = 0; r < R; ++r)
      for (int i = 0; i < S::keys; ++i) {
        const Index key = first + i / S::together * stream + i % S::together;
        b.scores[r * row_stride + key - b.block] = sum[i / lanes<T>][r][i % lanes<T>];
      }
  }

  // The next `count` depths of lanes keys.
  template <int R, class Row>
  TFCORE_INLINE static void add_square(Row row, const T* q, Index size, int count, Vec<T> (&sum)[R]) {
    Vec<T> square[lanes<T>];
    if (count == lanes<T>) {
      load_columns<T>(row, square);
    } else {
      for (int i = 0; i < lanes<T>; ++i) square[i] = load_first(row(i), count);
      transpose<T>(square);
    }
#pragma GCC unroll 16
    for (int i = 0; i < lanes<T>; ++i) {
      if (i == count) break;
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) sum[r] = fma(square[i], q[r * size + i], sum[r]);
    }
  }

  template <int R = 1> static void score_as_many(const ScoreBlock<T>& b) {
    if (b.count == R) return score_rows<R, kSquares>(b);
    if constexpr (R < kFewRows) score_as_many<R + 1>(b);
  }

  static void score(const ScoreBlock<T>& b) {
    if (b.count == 1 && !b.a.far && !kWide) score_rows<1, 2>(b);
    else score_as_many(b);
  }

  static void store_square(const ScoreBlock<T>& b, Vec<T> (&values)[lanes<T>], Index row, int rows, Index key, int,
                           T* area) {
    for (int r = 0; r < rows; ++r) store(area + (row + r) * row_stride + key - b.block, values[r]);
  }

  static void take_max(const ScoreBlock<T>& b, T* max) {
    for (Index r = 0; r < b.count; ++r) {
      Vec<T> m = splat(max[r]);
      for (Index key = b.begin; key < b.end; key += lanes<T>)
        m = tfcore::max(m, load(b.scores + r * row_stride + key - b.block));
      max[r] = largest_lane<T>(m);
    }
  }

  static void exponentiate(const ScoreBlock<T>& b, const T* max, T* sum) {
    for (Index r = 0; r < b.count; ++r) {
      const Reference<T> reference(splat(max[r]));
      const Exp2Less<T> weight_of(reference.even);
      T* score = b.scores + r * row_stride - b.block;
      for (Index key = b.begin; key < b.end; key += lanes<T>)
        store(score + key, weight_of(load(score + key) - reference.rest));
      sum[r] = sum_in_chains(score + b.begin, b.end - b.begin);
    }
  }

 private:
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
