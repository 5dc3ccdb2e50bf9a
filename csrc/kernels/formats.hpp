#pragma once
// The block formats of GGUF files: runs of 16 or 32 numbers that share a scale, and in some formats an offset.
//
//   number = scale * q (+ offset)
//
// A format cuts a row into blocks of 32 or 256 numbers q of 4, 5, 6 or 8 bits, laid out as in the structs below; those
// of 256 have scales of scales, in integers of 6 or 8 bits. Low and high halves of a byte belong to numbers 16 or 32
// apart. Half precision is widened exactly, a product is rounded, then a sum: every ISA gives the same bits.
#include <cstdint>

#include "kernels/table.hpp"
#include "simd/vec.hpp"

namespace tfcore {
namespace {

using U8 = std::uint8_t;

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
struct BlockCommon {
  float scale, offset;
  U8 q[16];
};
struct __attribute__((packed)) BlockQ6_K {
  U8 low[128];  // 64 bytes for every 128 numbers
  U8 high[64];  // 32 bytes for every 128 numbers, two bits for each; q - 32
  std::int8_t scales[16];
  Half d;
};

constexpr int kLongestRun = 32;

// Numbers of a block that share a scale; formats without an offset leave it unset.
struct Run {
  float scale, offset;
  std::int16_t q[kLongestRun];
};

TFCORE_INLINE Run run_of(const BlockQ8_0& b, int) {
  Run r;
  r.scale = widen(b.d);
  for (int i = 0; i < 32; ++i) r.q[i] = b.q[i];
  return r;
}

// q[i] = f(bits, i) for the four bits of number i: the low ones of byte i, or the high ones of byte i - 16.
template <class F> TFCORE_INLINE void read_nibbles(const U8* bytes, std::int16_t* q, F f) {
  for (int i = 0; i < 16; ++i) q[i] = std::int16_t(f(bytes[i] & 15, i));
  for (int i = 0; i < 16; ++i) q[i + 16] = std::int16_t(f(bytes[i] >> 4, i + 16));
}

TFCORE_INLINE Run run_of(const BlockQ4_0& b, int) {
  Run r;
  r.scale = widen(b.d);
  read_nibbles(b.q, r.q, [](int bits, int) TFCORE_LAMBDA { return bits - 8; });
  return r;
}

TFCORE_INLINE Run run_of(const BlockQ4_1& b, int) {
  Run r;
  r.scale = widen(b.d), r.offset = widen(b.m);
  read_nibbles(b.q, r.q, [](int bits, int) TFCORE_LAMBDA { return bits; });
  return r;
}

// Of number i, in its place above the other four.
TFCORE_INLINE int fifth_bit(std::uint32_t high, int i) { return int(high >> i & 1u) << 4; }

TFCORE_INLINE Run run_of(const BlockQ5_0& b, int) {
  Run r;
  const std::uint32_t high = b.high;
  r.scale = widen(b.d);
  read_nibbles(b.q, r.q, [&](int bits, int i) TFCORE_LAMBDA { return (bits | fifth_bit(high, i)) - 16; });
  return r;
}

TFCORE_INLINE Run run_of(const BlockQ5_1& b, int) {
  Run r;
  const std::uint32_t high = b.high;
  r.scale = widen(b.d), r.offset = widen(b.m);
  read_nibbles(b.q, r.q, [&](int bits, int i) TFCORE_LAMBDA { return bits | fifth_bit(high, i); });
  return r;
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

TFCORE_INLINE Run run_of(const BlockQ4_K& b, int s) {
  const SubScale k(&b, s);
  Run r;
  r.scale = k.scale, r.offset = -k.minimum;
  const U8* q = b.q + s / 2 * 32;
  for (int i = 0; i < 32; ++i) r.q[i] = std::int16_t(q[i] >> s % 2 * 4 & 15);
  return r;
}

TFCORE_INLINE Run run_of(const BlockQ5_K& b, int s) {
  const SubScale k(&b, s);
  Run r;
  r.scale = k.scale, r.offset = -k.minimum;
  const U8* q = b.q + s / 2 * 32;
  for (int i = 0; i < 32; ++i) r.q[i] = std::int16_t((q[i] >> s % 2 * 4 & 15) | (b.high[i] >> s & 1) << 4);
  return r;
}

// Run r is half r / 8, bits r / 2 % 4 of the half's high bytes, numbers r % 2 * 16 onwards.
TFCORE_INLINE Run run_of(const BlockQ6_K& b, int s) {
  const int half = s / 8, part = s / 2 % 4, first = s % 2 * 16;
  const U8* low = b.low + half * 64 + part % 2 * 32 + first;
  const U8* high = b.high + half * 32 + first;
  Run r;
  r.scale = widen(b.d) * float(b.scales[s]);
  for (int i = 0; i < 16; ++i)
    r.q[i] = std::int16_t(((low[i] >> part / 2 * 4 & 15) | (high[i] >> part * 2 & 3) << 4) - 32);
  return r;
}

TFCORE_INLINE Run run_of(const BlockCommon& b, int) {
  Run r;
  r.scale = b.scale, r.offset = b.offset;
  for (int i = 0; i < 16; ++i) r.q[i] = b.q[i];
  return r;
}

template <class B, Stored stored> struct Format {
  using Block = B;
  static constexpr StoredForm form = kStoredForms[int(stored)];
  static_assert(sizeof(Block) == form.bytes);
};

// f(format) for the format of a kind that has blocks.
template <class F> TFCORE_INLINE void with_block(Stored kind, F f) {
  switch (kind) {
    case Stored::q8_0:
      return f(Format<BlockQ8_0, Stored::q8_0>{});
    case Stored::q4_0:
      return f(Format<BlockQ4_0, Stored::q4_0>{});
    case Stored::q4_1:
      return f(Format<BlockQ4_1, Stored::q4_1>{});
    case Stored::q5_0:
      return f(Format<BlockQ5_0, Stored::q5_0>{});
    case Stored::q5_1:
      return f(Format<BlockQ5_1, Stored::q5_1>{});
    case Stored::q4_k:
      return f(Format<BlockQ4_K, Stored::q4_k>{});
    case Stored::q5_k:
      return f(Format<BlockQ5_K, Stored::q5_k>{});
    case Stored::q6_k:
      return f(Format<BlockQ6_K, Stored::q6_k>{});
    case Stored::common:
      return f(Format<BlockCommon, Stored::common>{});
    default:
      return;
  }
}

}  // namespace
}  // namespace tfcore
