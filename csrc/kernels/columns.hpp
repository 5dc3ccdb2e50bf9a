#pragma once
// softmax and log_softmax down the columns of x (n, width), bit for bit what norm.hpp makes of them as rows:
//
//   softmax:     y[i][j] = exp(x[i][j] - max x[:, j]) / sum exp(x[:, j] - max x[:, j])
//   log_softmax: y[i][j] = x[i][j] - max x[:, j] - log sum exp(x[:, j] - max x[:, j])
//
// Lanes are columns, and a lane of a row's sum is a vector here. Bound by the arithmetic of exp while a strip of
// columns stays in L2, by memory beyond.
#include "kernels/norm.hpp"

namespace tfcore {
namespace {

// V vectors of columns side by side, so that memory is read in runs of some lines; or the first `count` columns of one.
template <class T, int V, bool whole> struct Strip {
  const T* x;
  T* out;
  Index n, width;  // rows, and elements from one to the next
  int count;

  TFCORE_INLINE Vec<T> at(const T* from, Index i, int v) const {
    const T* const p = from + i * width + v * lanes<T>;
    if constexpr (whole) return load(p);
    else return load_first(p, count);
  }
  TFCORE_INLINE void put(Index i, int v, Vec<T> y) const {
    T* const p = out + i * width + v * lanes<T>;
    if constexpr (whole) store(p, y);
    else store_first(p, y, count);
  }
};

// The Total of a row, for a vector of columns: block by block, of each what came in order. What nothing came to is not
// touched, as nothing is cleared beforehand (by calls of memset, a fifth of the time of ten rows).
template <class T> class ColumnTotal {
 public:
  TFCORE_INLINE void add(Index i, Vec<T> x) {  // the i-th of a block
    Vec<T>& chain = chain_[i / 16 % 2][i % 16];
    chain = i < 32 ? x : chain + x;
  }

  void end_block(bool first, Index size) {
    const int count = int(min(size, Index(16)));
    if (first) used_ = count, blocks_ = 0;
    for (int l = 0; l < count; ++l) {
      const Vec<T> block = 16 + l < size ? chain_[0][l] + chain_[1][l] : chain_[0][l];
      if (first) sum_[l] = block, lost_[l] = Vec<T>{};
      else sum_[l] = add_exactly(sum_[l], block, lost_[l]);
    }
    ++blocks_;
  }

  Vec<T> value() const {
    VecF64 total[kParts], rest[kParts];
    add_lanes(sum_, total);
    if (blocks_ > 1) {
      add_lanes(lost_, rest);
      for (int p = 0; p < kParts; ++p) total[p] = rest[p] == rest[p] ? total[p] + rest[p] : total[p];
    }
    if constexpr (kParts == 2) return narrow(total[0], total[1]);
    else return total[0];
  }

 private:
  static constexpr int kParts = sizeof(double) / sizeof(T);

  void add_lanes(const Vec<T> (&lane)[16], VecF64 (&total)[kParts]) const {
    VecF64 wide[16][kParts];
    for (int l = 0; l < used_; ++l)
      if constexpr (kParts == 2) widen(lane[l], wide[l][0], wide[l][1]);
      else wide[l][0] = lane[l];
    for (int step = 8; step > 0; step /= 2)
      for (int l = 0; l < step && l + step < used_; ++l)
        for (int p = 0; p < kParts; ++p) wide[l][p] += wide[l + step][p];
    for (int p = 0; p < kParts; ++p) total[p] = wide[0][p];
  }

  int used_, blocks_;
  Vec<T> chain_[2][16], sum_[16], lost_[16];
};

template <class T> Vec<T> logarithm(Vec<T> x) {
  for (int l = 0; l < lanes<T>; ++l) x[l] = T(log_of(double(x[l])));
  return x;
}

template <class T, int V, bool whole> void softmax_strip(SoftmaxKind kind, Strip<T, V, whole> strip) {
  Vec<T> most[V], total[V];
  for (Vec<T>& m : most) m = splat(T(-__builtin_inf()));
  for (Index i = 0; i < strip.n; ++i)
    for (int v = 0; v < V; ++v) most[v] = max(strip.at(strip.x, i, v), most[v]);
  const bool plain = kind == SoftmaxKind::plain;
  ColumnTotal<T> totals[V];
  for (Index first = 0; first < strip.n; first += kSumBlock) {
    const Index size = min(strip.n - first, kSumBlock);
    for (Index i = 0; i < size; ++i)
      for (int v = 0; v < V; ++v) {
        const Vec<T> power = exp_nonpositive<T>(strip.at(strip.x, first + i, v) - most[v]);
        if (plain) strip.put(first + i, v, power);
        totals[v].add(i, power);
      }
    for (ColumnTotal<T>& t : totals) t.end_block(first == 0, size);
  }
  for (int v = 0; v < V; ++v) total[v] = totals[v].value();
  if (plain) {
    Vec<T> factor[V];
    for (int v = 0; v < V; ++v) factor[v] = T(1) / total[v];
    for (Index i = 0; i < strip.n; ++i)
      for (int v = 0; v < V; ++v) strip.put(i, v, quotient<T>(strip.at(strip.out, i, v), total[v], factor[v]));
    return;
  }
  for (Vec<T>& t : total) t = logarithm<T>(t);
  for (Index i = 0; i < strip.n; ++i)
    for (int v = 0; v < V; ++v) strip.put(i, v, strip.at(strip.x, i, v) - most[v] - total[v]);
}

// Columns [begin, end) of x (n, width).
template <class T>
void softmax_columns(SoftmaxKind kind, const T* x, T* out, Index n, Index width, Index begin, Index end) {
  constexpr int side_by_side = 4;
  Index j = begin;
  for (; j + side_by_side * lanes<T> <= end; j += side_by_side * lanes<T>)
    softmax_strip(kind, Strip<T, side_by_side, true>{x + j, out + j, n, width, 0});
  for (; j + lanes<T> <= end; j += lanes<T>) softmax_strip(kind, Strip<T, 1, true>{x + j, out + j, n, width, 0});
  if (j < end) softmax_strip(kind, Strip<T, 1, false>{x + j, out + j, n, width, int(end - j)});
}

}  // namespace
}  // namespace tfcore
