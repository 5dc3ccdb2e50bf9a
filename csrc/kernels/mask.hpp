#pragma once
// A mask's entries for one block of keys, as numbers to add to scores in base 2: -inf where a key is hidden.
#include "kernels/scores.hpp"

namespace tfcore {
namespace {

// An entry in base 2. The lowest number, as many masks have it, hides nothing by itself: what is finite stays so.
template <class T> TFCORE_INLINE Vec<T> in_base_2(Vec<T> value) {
  const Vec<T> lowest = splat(kLowest<T>), highest = splat(-kLowest<T>);
  return abs<T>(value) <= highest ? max(min(value * T(kLog2e), highest), lowest) : value;
}

template <class T> TFCORE_INLINE Vec<T> shown(IntVec<T> flag) {
  return flag != 0 ? Vec<T>{} : splat(kMinusInfinity<T>);
}

typedef signed char FloatBytes __attribute__((vector_size(lanes<float>)));
typedef signed char DoubleBytes __attribute__((vector_size(lanes<double>)));

// The entries of `count` keys from `at` on, 0 beyond them.
template <class T> TFCORE_INLINE Vec<T> mask_lanes(const AttentionArgs<T>& a, Index at, int count) {
  const bool adjacent = a.mask_column == 1;
  if (a.mask_kind == MaskKind::additive) {
    const T* mask = static_cast<const T*>(a.mask) + at;
    Vec<T> value{};
    if (adjacent) value = load_first(mask, count);
    else
      for (int i = 0; i < count; ++i) value[i] = mask[i * a.mask_column];
    return in_base_2<T>(value);
  }
  using Bytes = std::conditional_t<sizeof(T) == 4, FloatBytes, DoubleBytes>;
  const auto* mask = static_cast<const signed char*>(a.mask) + at;
  Bytes flag = ~Bytes{};
  if (adjacent && count == lanes<T>) __builtin_memcpy(&flag, mask, sizeof flag);
  else
    for (int i = 0; i < count; ++i) flag[i] = mask[i * a.mask_column];
  return shown<T>(__builtin_convertvector(flag, IntVec<T>));
}

// The mask of this block into `bias`, in the layout of the scores; false when it hides everything.
template <class T, class L> bool read_mask(ScoreBlock<T>& b) {
  const AttentionArgs<T>& a = b.a;
  const bool same_for_all = a.mask_row == 0 && (a.mask_head == 0 || a.heads == 1);
  bool shows = false;
  for (Index r0 = 0; r0 < b.count; r0 += lanes<T>)
    for (Index key = b.begin; key < b.end; key += lanes<T>) {
      const int rows = lanes_of<T>(b.count - r0);
      const int keys = lanes_of<T>(b.end - key);
      Vec<T> square[lanes<T>] = {};
      for (int r = 0; r < rows; ++r) {
        const Index row = b.row + r0 + r;
        square[r] =
            same_for_all && r > 0
                ? square[0]
                : mask_lanes(a, b.rows.head[row] * a.mask_head + b.rows.query[row] * a.mask_row + key * a.mask_column,
                             keys);
        const IntVec<T> hidden = IntVec<T>(square[r] == splat(kMinusInfinity<T>)), used = first_lanes<T>(keys);
        b.hides |= any(hidden);
        shows |= any(IntVec<T>(~hidden & used));
      }
      L::store_square(b, square, r0, rows, key, keys, b.bias);
    }
  return shows;
}

}  // namespace
}  // namespace tfcore
