#pragma once
// The state of attention's rows in flight, the scratch they work in, and one block of keys against them.
#include "kernels/math.hpp"
#include "kernels/strips.hpp"
#include "kernels/table.hpp"

namespace tfcore {
namespace {

template <class T> constexpr T kMinusInfinity = -__builtin_inf();

// Up to here lanes hold keys, or with fewer keys than lanes up to kFewestRows: a tile of queries would waste most of
// its lanes. Wide ones, 5 to 8 rows: 1.4 to 1.9 times as fast as a tile, but with so few keys up to 1.2 times as slow.
constexpr int kFewestRows = 4, kFewRows = kWide ? 8 : kFewestRows;
template <class T> bool lanes_hold_keys(const AttentionArgs<T>& a, Index rows) {
  return rows <= (a.keys >= lanes<T> ? kFewRows : kFewestRows);
}

// --- the rows in flight ----------------------------------------------------------------------------------------------

template <class T> struct RowState {
  Index count;
  Index head[kQueryBlock], query[kQueryBlock];       // query head and position of a row
  Index first[kQueryBlock], last[kQueryBlock];       // the keys a row may see: first <= j < last
  bool alike;                                        // in all rows the same
  T max[kQueryBlock], sum[kQueryBlock];              // of the span's scores in base 2 so far, and of 2^(score - max)
  T total_max[kQueryBlock], total_sum[kQueryBlock];  // of the spans before it
  T rescale[2][kQueryBlock];                         // 2^(old max - new max) of the one or two blocks at hand
  T slope[kQueryBlock], position[kQueryBlock];       // ALiBi, in base 2
};

template <class T> void start_rows(const AttentionArgs<T>& a, Index row_begin, Index row_end, RowState<T>& s) {
  s.count = row_end - row_begin;
  s.alike = a.queries - 1 + a.offset <= a.left && a.offset + a.right + 1 >= a.key_count;
  Index head = row_begin / a.queries, query = row_begin % a.queries;
  for (Index r = 0; r < s.count; ++r) {
    s.head[r] = head, s.query[r] = query;
    if (++query == a.queries) query = 0, ++head;
  }
  for (Index r = 0; r < s.count; ++r) {
    const Index position = s.query[r] + a.offset;
    s.first[r] = max(position - a.left, Index(0));
    s.last[r] = min(position + a.right + 1, a.key_count);
  }
  if (!a.slopes) return;
  for (Index r = 0; r < s.count; ++r)
    s.slope[r] = in_base_2(a.slopes[s.head[r]]), s.position[r] = T(s.query[r] + a.offset);
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
  for (Index r = row; r < row + (s.alike ? 1 : count); ++r) {
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

// The next head's queries, or output, in the place of the rows [row, row + count) at hand: 1.05 to 1.1 on heads of 32
// to 96 rows out of L3. A whole block has tiles enough to ask for them, as narrow vectors have (0.97).
template <class T>
TFCORE_INLINE void ask_for_next(const T* next, Index size, const RowState<T>& s, Index row, Index count) {
  if (!kWide || !next || s.count == kQueryBlock) return;
  const T* const from = next + s.query[row] * size;
  for (Index i = 0; i < min(count, s.count - row) * size; i += kPanel<T>) __builtin_prefetch(from + i, 0, 2);
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

}  // namespace
}  // namespace tfcore
