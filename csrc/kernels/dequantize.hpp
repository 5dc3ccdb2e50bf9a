#pragma once
// out[i] = the numbers of a tensor as a file stores them, widened to float32. Bound by memory: the result is two to
// seven times what is read.
#include "kernels/formats.hpp"

namespace tfcore {
namespace {

template <class Format> void widen_blocks(const U8* data, float* out, Index begin, Index end) {
  constexpr StoredForm form = Format::form;
  const auto* blocks = reinterpret_cast<const typename Format::Block*>(data);
  for (Index i = begin; i < end; ++i)
    for (int s = 0; s < form.numbers / form.run; ++s) {
      const Run r = run_of(blocks[i], s);
      float* const to = out + i * form.numbers + s * form.run;
      for (int n = 0; n < form.run; ++n) {
        const float product = r.scale * float(r.q[n]);
        to[n] = form.offset ? product + r.offset : product;
      }
    }
}

template <class F> TFCORE_INLINE void widen_words(const U8* __restrict data, float* __restrict out, Index n, F f) {
  for (Index i = 0; i < n; ++i) {
    std::uint16_t word;
    __builtin_memcpy(&word, data + 2 * i, sizeof word);
    out[i] = f(word);
  }
}

// Blocks begin to end of a tensor that starts at `data` and whose result starts at `out`.
void dequantize(Stored kind, const U8* data, float* out, Index begin, Index end) {
  switch (kind) {
    case Stored::f16:
      return widen_words(data + 2 * begin, out + begin, end - begin, [](Half x) TFCORE_LAMBDA { return widen(x); });
    case Stored::bf16:  // the upper half of a float32's bits
      return widen_words(data + 2 * begin, out + begin, end - begin,
                         [](std::uint16_t x) TFCORE_LAMBDA { return reinterpret<float>(std::uint32_t(x) << 16); });
    default:
      with_block(kind, [&](auto format) TFCORE_LAMBDA { widen_blocks<decltype(format)>(data, out, begin, end); });
  }
}

}  // namespace
}  // namespace tfcore
