#pragma once
// Fused attention with a running softmax: no L × S array.
//
//   out[i] = sum_j softmax_j(cap(scale * q[i] . k[j]) - slope * |i + offset - j| + mask[i][j]) * v[j]
//   q (L, D), k (S, D), v (S, Dv), out (L, Dv); the query rows of all heads that share k and v are taken together
//
// Keys come in absolute blocks of kKeyBlock, and blocks in spans of kKeySpan. A block's scores against a tile of
// queries are one product, the softmax works on them in place, and their product with v joins the output rows, rescaled
// when the running maximum rose. Each span starts afresh and is merged into the total of those before it, in order,
// whoever computed it. A row's arithmetic depends on its own visible keys alone: a block or span that a row cannot see
// leaves its state as it was, bit for bit.
//
// Bound with many rows: FMA issue, 4 * D operations a score, beside about a dozen for its exponential; with a few rows,
// the memory that holds the keys and values. Of the FMA issue 87 % are reached at D = 64 on a core of our own (Zen 3:
// 94 % in either product, 2 ns for the softmax of 8 scores), 64 % where another thread shares it and its front end.
#include "kernels/mask.hpp"
#include "kernels/math.hpp"
#include "kernels/scores.hpp"
#include "kernels/values.hpp"

namespace tfcore {
namespace {

// --- passes over a block of scores -----------------------------------------------------------------------------------

template <class T, class L> void cap_scores(const ScoreBlock<T>& b) {
  const T factor = T(b.a.softcap * kLog2e);
  L::for_each(b, b.begin, b.end, [&](Index at, Index, Index) TFCORE_LAMBDA {
    store(b.scores + at, factor * tanh<T>(load(b.scores + at)));
  });
}

template <class T, class L> void add_slopes(const ScoreBlock<T>& b) {
  L::for_each(b, b.begin, b.end, [&](Index at, Index key, Index r) TFCORE_LAMBDA {
    const Vec<T> distance = abs<T>(L::of_rows(b.rows.position + b.row + r) - L::keys(key));
    store(b.scores + at, fma(-L::of_rows(b.rows.slope + b.row + r), distance, load(b.scores + at)));
  });
}

// A hidden score becomes -inf whatever it was, NaN included.
template <class T, class L> void add_mask(const ScoreBlock<T>& b) {
  L::for_each(b, b.begin, b.end, [&](Index at, Index, Index) TFCORE_LAMBDA {
    const Vec<T> bias = load(b.bias + at), hidden = splat(kMinusInfinity<T>);
    store(b.scores + at, bias == hidden ? hidden : load(b.scores + at) + bias);
  });
}

// Rows whose span is narrower than the block's. Bounds are compared within the block, where they are exact in T.
template <class T, class L> void hide_outside(const ScoreBlock<T>& b) {
  T first[kQueryBlock], last[kQueryBlock];
  for (Index r = 0; r < b.count; ++r) {
    const auto within = [&](Index key) { return T(key < b.begin ? 0 : min(key, b.end) - b.block); };
    first[r] = within(b.rows.first[b.row + r]), last[r] = within(b.rows.last[b.row + r]);
  }
  for (Index r = b.count; r < padded<T>(b.count); ++r) first[r] = last[r] = 0;
  for_each_edge(b, [&](Index begin, Index end) {
    L::for_each(b, begin, end, [&](Index at, Index key, Index r) TFCORE_LAMBDA {
      const Vec<T> k = L::keys(key - b.block);
      const auto seen = (k >= L::of_rows(first + r)) & (k < L::of_rows(last + r));
      store(b.scores + at, seen ? load(b.scores + at) : splat(kMinusInfinity<T>));
    });
  });
}

// Scores in base 2, -inf where a row does not see a key. False when no row sees any.
template <class T, class L> bool compute_scores(ScoreBlock<T>& b) {
  const bool spans_differ = b.hides;
  if (b.a.mask_kind != MaskKind::none && !read_mask<T, L>(b)) return false;
  L::score(b);
  if (b.a.softcap > 0) cap_scores<T, L>(b);
  if (b.a.slopes) add_slopes<T, L>(b);
  if (b.a.mask_kind != MaskKind::none) add_mask<T, L>(b);
  if (spans_differ) hide_outside<T, L>(b);
  else L::hide_past_end(b);
  return true;
}

// max, rescale and sum take in the block; its scores become 2^(score - max). An even integer stands for the maximum, so
// that the rescaling is exact, too.
template <class T, class L> void absorb(const ScoreBlock<T>& b) {
  T* const max = b.rows.max + b.row;
  T* const sum = b.rows.sum + b.row;
  T* const rescale = b.rescale;
  for (Index r = 0; r < b.count; r += lanes<T>) store(rescale + r, load(max + r));
  L::take_max(b, max);
  for (Index r = 0; r < b.count; r += lanes<T>) store(max + r, nearest_even<T>(load(max + r)));
  if (b.fresh) return L::exponentiate(b, max, sum);  // nothing to rescale
  T block_sum[kQueryBlock];
  L::exponentiate(b, max, block_sum);
  for (Index r = 0; r < b.count; r += lanes<T>) {
    store(rescale + r, exp2_nonpositive<T>(load(rescale + r) - finite_or_zero<T>(load(max + r))));
    store(sum + r, fma(load(sum + r), load(rescale + r), load(block_sum + r)));
  }
}

// --- a task ----------------------------------------------------------------------------------------------------------

// What a row of `out` is multiplied by, in the place of its sum: 1 / sum; 2^(max - most) / (sum * 2^(max - most) +
// 2^(sink - most)) beside a sink, with most = max(max, sink); and 0 for a row that has seen nothing.
template <class T> void invert_sums(const AttentionArgs<T>& a, RowState<T>& s) {
  T sinks[kQueryBlock];
  for (Index r = 0; a.sinks && r < padded<T>(s.count); ++r)
    sinks[r] = r < s.count ? in_base_2(a.sinks[s.head[r]]) : T(0);
  for (Index r = 0; r < s.count; r += lanes<T>) {
    const Vec<T> sum = load(s.sum + r);
    Vec<T> factor = T(1) / sum;
    if (a.sinks) {
      const Vec<T> own = load(s.max + r), sink = load(sinks + r), most = max(own, sink);
      const Vec<T> scale = exp2_nonpositive<T>(own - most);
      factor = scale / fma(sum, scale, exp2_nonpositive<T>(sink - most));
    }
    store(s.sum + r, sum == Vec<T>{} ? Vec<T>{} : factor);
  }
}

template <class T> void write_out(const AttentionArgs<T>& a, const RowState<T>& s, const T* out) {
  const Index size = a.value_size, width = padded<T>(size);  // of a they would be read again behind each store
  for (Index r = 0; r < s.count; ++r, out += width) {
    ask_for_next<T>(a.next_out, size, s, r, 1);
    const Vec<T> factor = splat(s.sum[r]);
    T* const to = a.out + s.head[r] * a.out_head + s.query[r] * a.out_row;
    const auto at = [&](Index d) TFCORE_LAMBDA { return fma(load(out + d), factor, Vec<T>{}); };  // + 0: -0 becomes 0
    Index d = 0;
#pragma GCC unroll 4
    for (; d + lanes<T> <= size; d += lanes<T>) store(to + d, at(d));
    if (d < size) store_first(to + d, at(d), int(size - d));
  }
}

// weights[row][key] = 2^(score - max) / sum, with the final max and inverted sum; the scores are computed a second
// time. A hidden key's stays 0, also where sum is no number.
template <class T, class L> void write_weights(ScoreBlock<T>& b) {
  if (!compute_scores<T, L>(b)) return;
  T sum[kQueryBlock];
  L::exponentiate(b, b.rows.max + b.row, sum);
  for (Index r = 0; r < b.count; ++r) {
    const Index row = b.row + r;
    T* to = b.a.weights + b.rows.head[row] * b.a.weights_head + b.rows.query[row] * b.a.weights_row;
    const T factor = b.rows.sum[row];
    const Index first = max(b.rows.first[row], b.begin);
    const Index last = min(b.rows.last[row], b.end);
    for (Index key = first; key < last; ++key) {
      const Index at = (key - b.block) * L::key_stride + r * L::row_stride;
      if (b.a.mask_kind == MaskKind::none || b.bias[at] != kMinusInfinity<T>) to[key] = factor * b.scores[at];
    }
  }
}

// What the rows [row, row + count) see of the keys of one block; of two at hand together it is the first or the second.
template <class T> ScoreBlock<T> block_of(const AttentionArgs<T>& a, RowState<T>& s, const Workspace<T>& w,
                                          const TileSpan& seen, Index row, Index count, KeySpan block, int place) {
  const KeySpan keys = within(seen.some, block.begin, block.end);
  const Index at = place * kFewRows * kKeyBlock;
  const bool hides = seen.every.begin > keys.begin || seen.every.end < keys.end;
  return {a,          s,        w,          w.scores + at, w.bias + at, s.rescale[place] + row, row, count, block.begin,
          keys.begin, keys.end, seen.every, hides,         false};
}

// Every block of the keys of `span` that the rows see, every tile of rows that sees some of it.
template <class T, class Block, class Visit>
TFCORE_INLINE void for_each_block(const AttentionArgs<T>& a, RowState<T>& s, const Workspace<T>& w, Index tile_rows,
                                  KeySpan span, Block on_block, Visit visit) {
  TileSpan tiles[kQueryBlock];
  for (Index row = 0; row < s.count; row += tile_rows) tiles[row] = tile_span(s, row, min(s.count - row, tile_rows));
  for (Index block = span.begin / kKeyBlock * kKeyBlock; block < span.end; block += kKeyBlock) {
    on_block(block, within(span, block, block + kKeyBlock));
    for (Index row = 0; row < s.count; row += tile_rows) {
      const Index count = min(s.count - row, tile_rows);
      ScoreBlock<T> b = block_of(a, s, w, tiles[row], row, count, {block, block + kKeyBlock}, 0);
      if (b.begin < b.end) visit(b);
    }
  }
}

// Rows in one layout, from their queries to their output.
template <class T, class L> struct Rows {
  static constexpr Index tile = L::adjacent == Adjacent::rows ? kTileQueries<T> : kFewRows;

  const AttentionArgs<T>& a;
  Workspace<T> w;
  RowState<T> s;
  Index width = padded<T>(a.value_size);
  KeySpan seen;  // by some row

  Rows(const AttentionArgs<T>& args, Index row_begin, Index row_end, const Workspace<T>& workspace)
      : a(args), w(workspace) {
    start_rows(a, row_begin, row_end, s);
    const KeySpan some = tile_span(s, 0, s.count).some;
    seen = {some.begin & ~Index(15), some.end};
  }

  KeySpan keys_of(Index span) const { return within(seen, span * kKeySpan, (span + 1) * kKeySpan); }

  void load_queries() {
    const double factor = a.softcap > 0 ? a.scale / double(a.softcap) : a.scale * kLog2e;
    L::load_queries(a, s, T(factor), w.queries);
  }

  // max, sum and w.out of the keys [begin, end) alone.
  void attend(KeySpan keys) {
    bool fresh[kQueryBlock];  // by first row of a tile
    for (Index row = 0; row < s.count; row += tile) fresh[row] = true;
    for (Index r = 0; r < s.count; r += lanes<T>)
      store(s.max + r, splat(kMinusInfinity<T>)), store(s.sum + r, Vec<T>{});
    attend_blocks(keys, fresh);
    for (Index row = 0; row < s.count; row += tile)
      if (fresh[row])
        __builtin_memset(w.out + row * width, 0, std::size_t(min(s.count - row, tile) * width) * sizeof(T));
  }

  void attend_blocks(KeySpan keys, bool (&fresh)[kQueryBlock]) {
    if constexpr (L::adjacent == Adjacent::depth && !kWide)
      if (keys.end - keys.begin > kKeyBlock) return attend_pairs(keys, fresh[0]);
    const bool pack = packs_values(a, s.count);
    for_each_block(
        a, s, w, tile, keys,
        [&](Index block, KeySpan span) {
          if (pack) pack_values(a, block, span, w.values);
        },
        [&](ScoreBlock<T>& b) {
          if (weigh(b, fresh[b.row])) accumulate<T, L>(b, pack);
        });
  }

  // The blocks of a single tile, two by two.
  void attend_pairs(KeySpan keys, bool& fresh) {
    const bool pack = packs_values(a, s.count);
    const TileSpan span = tile_span(s, 0, s.count);
    for (Index block = keys.begin / kKeyBlock * kKeyBlock; block < keys.end; block += 2 * kKeyBlock) {
      const Index middle = block + kKeyBlock, end = middle < keys.end ? middle + kKeyBlock : middle;
      ScoreBlock<T> pair[2] = {block_of(a, s, w, span, 0, s.count, {block, middle}, 0),
                               block_of(a, s, w, span, 0, s.count, {middle, end}, 1)};
      bool seen[2];
      for (int i = 0; i < 2; ++i) seen[i] = pair[i].begin < pair[i].end && weigh(pair[i], fresh);
      if (seen[0] && seen[1] && !pack && !pair[0].hides && !pair[1].hides) {
        accumulate_pair<T>(pair);
        continue;
      }
      for (int i = 0; i < 2; ++i) {
        if (!seen[i]) continue;
        if (pack) pack_values(a, pair[i].block, {pair[i].begin, pair[i].end}, w.values);
        accumulate<T, L>(pair[i], pack);
      }
    }
  }

  // The weights of a block's keys, in the place of its scores. False when no row sees any.
  bool weigh(ScoreBlock<T>& b, bool& fresh) {
    if (!compute_scores<T, L>(b)) return false;
    b.fresh = fresh, fresh = false;
    absorb<T, L>(b);
    return true;
  }

  void swap_outputs() {
    T* const out = w.out;
    w.out = w.total, w.total = out;
  }

  // What `attend` left of the first span is the total so far.
  void start_total() {
    swap_outputs();
    for (Index r = 0; r < s.count; r += lanes<T>)
      store(s.total_max + r, load(s.max + r)), store(s.total_sum + r, load(s.sum + r));
  }

  // total += what `attend` left, both rescaled to the larger maximum.
  void merge() {
    T old_scale[kQueryBlock], new_scale[kQueryBlock];
    for (Index r = 0; r < s.count; r += lanes<T>) {
      const Vec<T> before = load(s.total_max + r), own = load(s.max + r), most = max(before, own);
      const Vec<T> reference = finite_or_zero<T>(most);
      const Vec<T> p = exp2_nonpositive<T>(before - reference), q = exp2_nonpositive<T>(own - reference);
      store(old_scale + r, p), store(new_scale + r, q), store(s.total_max + r, most);
      store(s.total_sum + r, fma(load(s.total_sum + r), p, load(s.sum + r) * q));
    }
    for (Index r = 0; r < s.count; ++r)
      for (Index d = 0; d < width; d += lanes<T>) {
        T* to = w.total + r * width + d;
        store(to, fma(load(to), old_scale[r], load(w.out + r * width + d) * new_scale[r]));
      }
  }

  void take_total() {
    swap_outputs();
    for (Index r = 0; r < s.count; r += lanes<T>)
      store(s.max + r, load(s.total_max + r)), store(s.sum + r, load(s.total_sum + r));
  }

  void finish() {
    invert_sums(a, s);
    write_out(a, s, w.out);
  }

  void run() {
    load_queries();
    Index span = seen.begin / kKeySpan;
    attend(keys_of(span));
    if (++span * kKeySpan < seen.end) {
      start_total();
      for (; span * kKeySpan < seen.end; ++span) attend(keys_of(span)), merge();
      take_total();
    }
    finish();
    if (a.weights) for_each_block(a, s, w, tile, seen, [](Index, KeySpan) {}, write_weights<T, L>);
  }
};

// Rows [row_begin, row_end) of the heads × L that share these keys. `weights` must be zero on entry.
template <class T> void attention(const AttentionArgs<T>& a, Index row_begin, Index row_end, T* scratch) {
  const Workspace<T> w = lay_out(a, scratch);
  for (Index row = row_begin; row < row_end; row += kQueryBlock) {
    const Index end = min(row + kQueryBlock, row_end);
    if (lanes_hold_keys(a, end - row)) Rows<T, KeyLanes<T>>(a, row, end, w).run();
    else Rows<T, QueryLanes<T>>(a, row, end, w).run();
  }
}

// --- one span of keys by itself --------------------------------------------------------------------------------------

// A part holds max (rows,), sum (rows,) and out (rows, Dv).
template <class T, class L> void write_part(Rows<T, L> rows, Index span, T* part) {
  rows.load_queries();
  rows.attend(rows.keys_of(span));
  const Index n = rows.s.count, size = rows.a.value_size;
  __builtin_memcpy(part, rows.s.max, std::size_t(n) * sizeof(T));
  __builtin_memcpy(part + n, rows.s.sum, std::size_t(n) * sizeof(T));
  for (Index r = 0; r < n; ++r)
    __builtin_memcpy(part + 2 * n + r * size, rows.w.out + r * rows.width, std::size_t(size) * sizeof(T));
}

template <class T> void attend_span(const AttentionArgs<T>& a, Index span, T* part, T* scratch) {
  const Workspace<T> w = lay_out(a, scratch);
  const Index rows = a.heads * a.queries;
  if (lanes_hold_keys(a, rows)) write_part(Rows<T, KeyLanes<T>>(a, 0, rows, w), span, part);
  else write_part(Rows<T, QueryLanes<T>>(a, 0, rows, w), span, part);
}

template <class T> void merge_spans(const AttentionArgs<T>& a, Index spans, const T* parts, T* scratch) {
  const Workspace<T> w = lay_out(a, scratch);
  Rows<T, KeyLanes<T>> rows(a, 0, a.heads * a.queries, w);  // merging is the same in both layouts
  const Index n = rows.s.count, size = a.value_size;
  for (Index span = 0; span < spans; ++span, parts += n * (size + 2)) {
    __builtin_memcpy(rows.s.max, parts, std::size_t(n) * sizeof(T));
    __builtin_memcpy(rows.s.sum, parts + n, std::size_t(n) * sizeof(T));
    for (Index r = 0; r < n; ++r) {
      T* out = rows.w.out + r * rows.width;
      __builtin_memset(out + size, 0, std::size_t(rows.width - size) * sizeof(T));
      __builtin_memcpy(out, parts + 2 * n + r * size, std::size_t(size) * sizeof(T));
    }
    if (span == 0) rows.start_total();
    else rows.merge();
  }
  rows.take_total();
  rows.finish();
}

}  // namespace
}  // namespace tfcore
