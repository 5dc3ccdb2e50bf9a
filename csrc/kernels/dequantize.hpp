#pragma once
// out[i] = scale * q[i] (+ offset): the block formats of GGUF files, widened to float32. Bound by memory: the result is
// four to seven times what is read.
//
// A format cuts a tensor into blocks of 32 or 256 numbers q of 4, 5, 6 or 8 bits with scales of their own, laid out as
// in the structs below; those of 256 have scales of scales, in integers of 6 or 8 bits. Low and high halves of a byte
// belong to numbers 16 or 32 apart. Half precision is widened exactly, a product is rounded, then a sum: every ISA
// gives the same bits.
#include <cstdint>

#include "kernels/table.hpp"
#include "simd/vec.hpp"

namespace tfcore {
namespace {

using U8 = std::uint8_t;
using Half = std::uint16_t;

struct __attribute__((packed)) BlockQ8_0 {
  Half d;
  std::int8_t q[32];
};
struct __attribute__((packed)) BlockQ4_0 {
  Half d;
  U8 q[16];  // q - 8
};
struct __attribute__((packed)) BlockQ4_1 {
  Half d, m;
  U8 q[16];
};
struct __attribute__((packed)) BlockQ5_0 {
  Half d;
  std::uint32_t high;  // bit i: the fifth of q[i] - 16
  U8 q[16];
};
struct __attribute__((packed)) BlockQ5_1 {
  Half d, m;
  std::uint32_t high;
  U8 q[16];
};
struct __attribute__((packed)) BlockQ4_K {
  Half d, m;  // of the scales and of the minima
  U8 scales[12];
  U8 q[128];  // 32 bytes for every 64 numbers
};
struct __attribute__((packed)) BlockQ5_K {
  Half d, m;
  U8 scales[12];
  U8 high[32];  // bit s of byte i: the fifth of number i of sub-block s
  U8 q[128];
};
struct __attribute__((packed)) BlockQ6_K {
  U8 low[128];  // 64 bytes for every 128 numbers
  U8 high[64];  // 32 bytes for every 128 numbers, two bits for each; q - 32
  std::int8_t scales[16];
  Half d;
};

template <class To, class From> TFCORE_INLINE To reinterpret(From from) {
  To to;
  static_assert(sizeof to == sizeof from);
  __builtin_memcpy(&to, &from, sizeof to);
  return to;
}

// Without a branch, so that loops over it become vector code.
TFCORE_INLINE float widen(Half half) {
  const std::uint32_t magnitude = half & 0x7fffu, sign = std::uint32_t(half & 0x8000u) << 16;
  const std::uint32_t rebias = magnitude >= 0x7c00u ? 0x70000000u : 0x38000000u;  // infinities and NaN stay such
  const std::uint32_t normal = (magnitude << 13) + rebias;
  const std::uint32_t tiny = reinterpret<std::uint32_t>(float(std::int32_t(magnitude)) * 0x1p-24f);
  return reinterpret<float>((magnitude < 0x0400u ? tiny : normal) | sign);
}

TFCORE_INLINE void widen(const BlockQ8_0* __restrict b, float* __restrict out) {
  const float d = widen(b->d);
  for (int i = 0; i < 32; ++i) out[i] = d * float(b->q[i]);
}

// out[i] = f(q, i) for the four bits q of number i: the low ones of byte i, or the high ones of byte i - 16.
template <class Block, class F>
TFCORE_INLINE void widen_nibbles(const Block* __restrict b, float* __restrict out, F f) {
  for (int i = 0; i < 16; ++i) out[i] = f(b->q[i] & 15, i);
  for (int i = 0; i < 16; ++i) out[i + 16] = f(b->q[i] >> 4, i + 16);
}

TFCORE_INLINE void widen(const BlockQ4_0* b, float* out) {
  const float d = widen(b->d);
  widen_nibbles(b, out, [&](int q, int) TFCORE_LAMBDA { return d * float(q - 8); });
}

TFCORE_INLINE void widen(const BlockQ4_1* b, float* out) {
  const float d = widen(b->d), m = widen(b->m);
  widen_nibbles(b, out, [&](int q, int) TFCORE_LAMBDA { return d * float(q) + m; });
}

// Of number i, in its place above the other four.
TFCORE_INLINE int fifth_bit(std::uint32_t high, int i) { return int(high >> i & 1u) << 4; }

TFCORE_INLINE void widen(const BlockQ5_0* b, float* out) {
  const float d = widen(b->d);
  const std::uint32_t high = b->high;
  widen_nibbles(b, out, [&](int q, int i) TFCORE_LAMBDA { return d * float((q | fifth_bit(high, i)) - 16); });
}

TFCORE_INLINE void widen(const BlockQ5_1* b, float* out) {
  const float d = widen(b->d), m = widen(b->m);
  const std::uint32_t high = b->high;
  widen_nibbles(b, out, [&](int q, int i) TFCORE_LAMBDA { return d * float(q | fifth_bit(high, i)) + m; });
}

// Scale and minimum of sub-block s out of 8, six bits each: those of the first four are the lower bits of bytes s and
// s + 4; the others' lower four share byte s + 4, and their upper two are the upper ones of bytes s - 4 and s.
struct SubScale {
  float scale, minimum;
  template <class Block> TFCORE_INLINE SubScale(const Block* b, int s) {
    const U8* k = b->scales;
    const int scale_bits = s < 4 ? k[s] & 63 : (k[s + 4] & 15) | k[s - 4] >> 6 << 4;
    const int minimum_bits = s < 4 ? k[s + 4] & 63 : k[s + 4] >> 4 | k[s] >> 6 << 4;
    scale = widen(b->d) * float(scale_bits), minimum = widen(b->m) * float(minimum_bits);
  }
};

TFCORE_INLINE void widen(const BlockQ4_K* __restrict b, float* __restrict out) {
  for (int s = 0; s < 8; ++s) {
    const SubScale k(b, s);
    const U8* q = b->q + s / 2 * 32;
    const int shift = s % 2 * 4;
    for (int i = 0; i < 32; ++i) out[s * 32 + i] = k.scale * float(q[i] >> shift & 15) - k.minimum;
  }
}

TFCORE_INLINE void widen(const BlockQ5_K* __restrict b, float* __restrict out) {
  for (int s = 0; s < 8; ++s) {
    const SubScale k(b, s);
    const U8* q = b->q + s / 2 * 32;
    const int shift = s % 2 * 4;
    for (int i = 0; i < 32; ++i)
      out[s * 32 + i] = k.scale * float((q[i] >> shift & 15) | (b->high[i] >> s & 1) << 4) - k.minimum;
  }
}

// 16 runs of 16 numbers: run r is half r / 8, bits r / 2 % 4 of the half's high bytes, numbers r % 2 * 16 onwards.
TFCORE_INLINE void widen(const BlockQ6_K* __restrict b, float* __restrict out) {
  const float d = widen(b->d);
  for (int r = 0; r < 16; ++r) {
    const int half = r / 8, part = r / 2 % 4, first = r % 2 * 16;
    const U8* low = b->low + half * 64 + part % 2 * 32 + first;
    const U8* high = b->high + half * 32 + first;
    const int low_shift = part / 2 * 4, high_shift = part * 2;
    const float scale = d * float(b->scales[r]);
    for (int i = 0; i < 16; ++i)
      out[r * 16 + i] = scale * float(((low[i] >> low_shift & 15) | (high[i] >> high_shift & 3) << 4) - 32);
  }
}

template <class Block, Stored kind> void widen_blocks(const U8* data, float* out, Index begin, Index end) {
  constexpr StoredBlock form = kStoredBlocks[int(kind)];
  static_assert(sizeof(Block) == form.bytes);
  const Block* blocks = reinterpret_cast<const Block*>(data);
  for (Index i = begin; i < end; ++i) widen(blocks + i, out + i * form.numbers);
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
    case Stored::q8_0:
      return widen_blocks<BlockQ8_0, Stored::q8_0>(data, out, begin, end);
    case Stored::q4_0:
      return widen_blocks<BlockQ4_0, Stored::q4_0>(data, out, begin, end);
    case Stored::q4_1:
      return widen_blocks<BlockQ4_1, Stored::q4_1>(data, out, begin, end);
    case Stored::q5_0:
      return widen_blocks<BlockQ5_0, Stored::q5_0>(data, out, begin, end);
    case Stored::q5_1:
      return widen_blocks<BlockQ5_1, Stored::q5_1>(data, out, begin, end);
    case Stored::q4_k:
      return widen_blocks<BlockQ4_K, Stored::q4_k>(data, out, begin, end);
    case Stored::q5_k:
      return widen_blocks<BlockQ5_K, Stored::q5_k>(data, out, begin, end);
    case Stored::q6_k:
      return widen_blocks<BlockQ6_K, Stored::q6_k>(data, out, begin, end);
  }
}

}  // namespace
}  // namespace tfcore
