#pragma once
// Vec: one register of T, and the twenty-odd operations the kernels are written in.
//
// Compiler vector extensions give + - * / & | ^ << >> < > == and `mask ? a : b`, so one text serves every width.
// Intrinsics stand here only for what the extensions have no word for: fused multiply-add, max, masked memory, wide
// conversions. Contraction is off (-ffp-contract=off): a*b+c rounds twice and fma(a, b, c) once on every ISA that has
// FMA, so those ISAs agree bit for bit.
//
// Everything is in an unnamed namespace: each ISA unit keeps its own copy, and none can reach another unit's.
#include <cstdint>
#include <cstring>
#include <type_traits>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define TFCORE_INLINE inline __attribute__((always_inline))
#define TFCORE_LAMBDA __attribute__((always_inline))

namespace tfcore {
namespace {

constexpr int kVecBytes = TFCORE_VEC_BYTES;          // 16, 32 or 64: the row of the ISA table in CMakeLists.txt
constexpr int kVecRegisters = TFCORE_VEC_REGISTERS;  // 16, or 32 for AVX-512 and NEON
constexpr int kLineBytes = 64;                       // of a cache
constexpr bool kWide = kVecBytes == 64;              // what was measured on AVX-512 alone

typedef float VecF32 __attribute__((vector_size(kVecBytes)));
typedef double VecF64 __attribute__((vector_size(kVecBytes)));
typedef std::int32_t VecI32 __attribute__((vector_size(kVecBytes)));
typedef std::int64_t VecI64 __attribute__((vector_size(kVecBytes)));

template <class T> struct VecTypes;
template <> struct VecTypes<float> {
  using Vec = VecF32;
  using IntVec = VecI32;
  using Int = std::int32_t;
};
template <> struct VecTypes<double> {
  using Vec = VecF64;
  using IntVec = VecI64;
  using Int = std::int64_t;
};

template <class T> using Vec = typename VecTypes<T>::Vec;  // lanes<T> floating-point numbers
template <class T> using IntVec =
    typename VecTypes<T>::IntVec;  // as many integers of the same size; also comparison masks
template <class T> using Int = typename VecTypes<T>::Int;
template <class T> constexpr int lanes = kVecBytes / int(sizeof(T));
template <class V> using Element = std::remove_reference_t<decltype(std::declval<V&>()[0])>;

// --- construction and memory: pointers need only the element's alignment --------------------------------------------

template <class T> TFCORE_INLINE Vec<T> splat(T x) { return x - Vec<T>{}; }  // one broadcast; x - 0 keeps -0 and NaN

template <class T> TFCORE_INLINE Vec<T> load(const T* p) {
  Vec<T> v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

template <class V> TFCORE_INLINE void store(Element<V>* p, V v) { __builtin_memcpy(p, &v, sizeof v); }

template <class T> TFCORE_INLINE IntVec<T> lane_index() {  // {0, 1, 2, …}
  IntVec<T> v;
  for (int i = 0; i < lanes<T>; ++i) v[i] = i;
  return v;
}

template <class T> TFCORE_INLINE IntVec<T> first_lanes(std::int64_t n) {
  return lane_index<T>() < IntVec<T>{} + Int<T>(n);
}

TFCORE_INLINE std::int64_t min(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
TFCORE_INLINE std::int64_t max(std::int64_t a, std::int64_t b) { return a > b ? a : b; }

// How many lanes hold numbers where n are left.
template <class T> TFCORE_INLINE int lanes_of(std::int64_t n) { return n < lanes<T> ? int(n) : lanes<T>; }

// The first n lanes (0 <= n <= lanes), zero beyond; nothing past p + n is touched.
template <class T> TFCORE_INLINE Vec<T> load_first(const T* p, int n) {
#if defined(__AVX512F__) && TFCORE_VEC_BYTES == 64
  if constexpr (sizeof(T) == 4) return _mm512_maskz_loadu_ps(__mmask16((1u << n) - 1), p);
  else return _mm512_maskz_loadu_pd(__mmask8((1u << n) - 1), p);
#elif defined(__AVX2__) && TFCORE_VEC_BYTES == 32
  const IntVec<T> mask = first_lanes<T>(n);
  if constexpr (sizeof(T) == 4) return _mm256_maskload_ps(p, __m256i(mask));
  else return _mm256_maskload_pd(p, __m256i(mask));
#elif TFCORE_VEC_BYTES == 16  // lane by lane: a call of memcpy would take longer
  if (n == lanes<T>) return load(p);
  Vec<T> v{};
  for (int i = 0; i < lanes<T> - 1; ++i)
    if (i < n) v[i] = p[i];
  return v;
#else
  Vec<T> v{};
  __builtin_memcpy(&v, p, std::size_t(n) * sizeof(T));
  return v;
#endif
}

template <class V> TFCORE_INLINE void store_first(Element<V>* p, V v, int n) {
  using T = Element<V>;
#if defined(__AVX512F__) && TFCORE_VEC_BYTES == 64
  if constexpr (sizeof(T) == 4) _mm512_mask_storeu_ps(p, __mmask16((1u << n) - 1), v);
  else _mm512_mask_storeu_pd(p, __mmask8((1u << n) - 1), v);
#elif defined(__AVX2__) && TFCORE_VEC_BYTES == 32
  if (n == lanes<T>) return store(p, v);  // the masked one takes Zen 3 some 40 operations, whatever the mask
  const IntVec<T> mask = first_lanes<T>(n);
  if constexpr (sizeof(T) == 4) _mm256_maskstore_ps(p, __m256i(mask), v);
  else _mm256_maskstore_pd(p, __m256i(mask), v);
#elif TFCORE_VEC_BYTES == 16
  if (n == lanes<T>) return store(p, v);
  for (int i = 0; i < lanes<T> - 1; ++i)
    if (i < n) p[i] = v[i];
#else
  __builtin_memcpy(p, &v, std::size_t(n) * sizeof(T));
#endif
}

// --- arithmetic ------------------------------------------------------------------------------------------------------

// a * b + c, rounded once where the ISA has FMA. max and min return b when a lane of either is NaN. (Masked
// by all ones: g++ 12 takes the plain forms for uses of an uninitialised register.)
#if defined(__AVX512F__) && TFCORE_VEC_BYTES == 64
TFCORE_INLINE VecF32 fma(VecF32 a, VecF32 b, VecF32 c) { return _mm512_fmadd_ps(a, b, c); }
TFCORE_INLINE VecF64 fma(VecF64 a, VecF64 b, VecF64 c) { return _mm512_fmadd_pd(a, b, c); }
TFCORE_INLINE VecF32 max(VecF32 a, VecF32 b) { return _mm512_maskz_max_ps(__mmask16(-1), a, b); }
TFCORE_INLINE VecF64 max(VecF64 a, VecF64 b) { return _mm512_maskz_max_pd(__mmask8(-1), a, b); }
TFCORE_INLINE VecF32 min(VecF32 a, VecF32 b) { return _mm512_maskz_min_ps(__mmask16(-1), a, b); }
TFCORE_INLINE VecF64 min(VecF64 a, VecF64 b) { return _mm512_maskz_min_pd(__mmask8(-1), a, b); }
#elif defined(__FMA__) && TFCORE_VEC_BYTES == 32
TFCORE_INLINE VecF32 fma(VecF32 a, VecF32 b, VecF32 c) { return _mm256_fmadd_ps(a, b, c); }
TFCORE_INLINE VecF64 fma(VecF64 a, VecF64 b, VecF64 c) { return _mm256_fmadd_pd(a, b, c); }
TFCORE_INLINE VecF32 max(VecF32 a, VecF32 b) { return _mm256_max_ps(a, b); }
TFCORE_INLINE VecF64 max(VecF64 a, VecF64 b) { return _mm256_max_pd(a, b); }
TFCORE_INLINE VecF32 min(VecF32 a, VecF32 b) { return _mm256_min_ps(a, b); }
TFCORE_INLINE VecF64 min(VecF64 a, VecF64 b) { return _mm256_min_pd(a, b); }
#elif defined(__aarch64__) && TFCORE_VEC_BYTES == 16
TFCORE_INLINE VecF32 fma(VecF32 a, VecF32 b, VecF32 c) { return vfmaq_f32(c, a, b); }
TFCORE_INLINE VecF64 fma(VecF64 a, VecF64 b, VecF64 c) { return vfmaq_f64(c, a, b); }
template <class V> TFCORE_INLINE V max(V a, V b) { return a > b ? a : b; }
template <class V> TFCORE_INLINE V min(V a, V b) { return a < b ? a : b; }
#else
template <class V> TFCORE_INLINE V fma(V a, V b, V c) {
#if defined(__FMA__)  // a Vec of two registers: what the extensions split by themselves, for tests
  typedef Element<V> Half __attribute__((vector_size(32)));
  Half x[2], y[2], z[2];
  __builtin_memcpy(x, &a, sizeof a), __builtin_memcpy(y, &b, sizeof b), __builtin_memcpy(z, &c, sizeof c);
  for (int i = 0; i < 2; ++i)
    if constexpr (sizeof(Element<V>) == 4) z[i] = _mm256_fmadd_ps(x[i], y[i], z[i]);
    else z[i] = _mm256_fmadd_pd(x[i], y[i], z[i]);
  __builtin_memcpy(&c, z, sizeof c);
  return c;
#else
  return a * b + c;
#endif
}
template <class V> TFCORE_INLINE V max(V a, V b) { return a > b ? a : b; }
template <class V> TFCORE_INLINE V min(V a, V b) { return a < b ? a : b; }
#endif

template <class V> TFCORE_INLINE V fma(V a, Element<V> b, V c) { return fma(a, splat<Element<V>>(b), c); }

#if defined(__FMA__) || defined(__aarch64__)
constexpr bool kFused = true;  // fma rounds once
#else
constexpr bool kFused = false;
#endif

// sum = a * b + sum, in the register that holds it: g++ 12 copies accumulators about, and spills them, where a loop is
// unrolled.
#if defined(__FMA__) && (TFCORE_VEC_BYTES == 32 || (defined(__AVX512F__) && TFCORE_VEC_BYTES == 64))
TFCORE_INLINE void fma_into(VecF32& sum, VecF32 a, VecF32 b) {
  asm("vfmadd231ps %2, %1, %0" : "+v"(sum) : "v"(a), "vm"(b));
}
TFCORE_INLINE void fma_into(VecF64& sum, VecF64 a, VecF64 b) {
  asm("vfmadd231pd %2, %1, %0" : "+v"(sum) : "v"(a), "vm"(b));
}
#else
template <class V> TFCORE_INLINE void fma_into(V& sum, V a, V b) { sum = fma(a, b, sum); }
#endif

template <class T> TFCORE_INLINE IntVec<T> bits(Vec<T> v) { return IntVec<T>(v); }
template <class T> TFCORE_INLINE Vec<T> from_bits(IntVec<T> v) { return Vec<T>(v); }

template <class T> TFCORE_INLINE Vec<T> abs(Vec<T> v) {
  return from_bits<T>(bits<T>(v) & ~(Int<T>(1) << (8 * sizeof(T) - 1)));
}

// True when any lane of a comparison is set.
template <class M> TFCORE_INLINE bool any(M mask) {
#if defined(__AVX512F__) && TFCORE_VEC_BYTES == 64
  return _mm512_test_epi64_mask(__m512i(mask), __m512i(mask)) != 0;
#elif defined(__AVX2__) && TFCORE_VEC_BYTES == 32
  return _mm256_movemask_epi8(__m256i(mask)) != 0;
#elif defined(__SSE2__) && TFCORE_VEC_BYTES == 16
  return _mm_movemask_epi8(__m128i(mask)) != 0;
#elif defined(__aarch64__) && TFCORE_VEC_BYTES == 16
  return vmaxvq_u32(uint32x4_t(mask)) != 0;
#else
  Element<M> all = 0;
  for (unsigned i = 0; i < sizeof(M) / sizeof(all); ++i) all |= mask[i];
  return all != 0;
#endif
}

// float <-> double: a float register holds two double registers' worth of lanes. (Through memory, as the extensions
// would have it, two narrow stores meet one wide load and stall.)
TFCORE_INLINE void widen(VecF32 x, VecF64& low, VecF64& high) {
#if defined(__AVX512F__) && TFCORE_VEC_BYTES == 64
  low = _mm512_cvtps_pd(_mm512_castps512_ps256(x));
  high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1));
#elif defined(__AVX2__) && TFCORE_VEC_BYTES == 32
  low = _mm256_cvtps_pd(_mm256_castps256_ps128(x));
  high = _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1));
#elif defined(__aarch64__) && TFCORE_VEC_BYTES == 16
  low = vcvt_f64_f32(vget_low_f32(x));
  high = vcvt_high_f64_f32(x);
#else
  typedef float Half __attribute__((vector_size(kVecBytes / 2)));
  Half half[2];
  __builtin_memcpy(half, &x, sizeof x);
  low = __builtin_convertvector(half[0], VecF64);
  high = __builtin_convertvector(half[1], VecF64);
#endif
}

TFCORE_INLINE VecF32 narrow(VecF64 low, VecF64 high) {
#if defined(__AVX512F__) && TFCORE_VEC_BYTES == 64
  const __m256 parts[] = {_mm512_cvtpd_ps(low), _mm512_cvtpd_ps(high)};
  return _mm512_insertf32x8(_mm512_castps256_ps512(parts[0]), parts[1], 1);
#elif defined(__AVX2__) && TFCORE_VEC_BYTES == 32
  return _mm256_set_m128(_mm256_cvtpd_ps(high), _mm256_cvtpd_ps(low));
#elif defined(__aarch64__) && TFCORE_VEC_BYTES == 16
  return vcvt_high_f32_f64(vcvt_f32_f64(low), high);
#else
  typedef float Half __attribute__((vector_size(kVecBytes / 2)));
  const Half half[2] = {__builtin_convertvector(low, Half), __builtin_convertvector(high, Half)};
  VecF32 x;
  __builtin_memcpy(&x, half, sizeof x);
  return x;
#endif
}

// --- half precision --------------------------------------------------------------------------------------------------

template <class To, class From> TFCORE_INLINE To reinterpret(From from) {
  To to;
  static_assert(sizeof to == sizeof from);
  __builtin_memcpy(&to, &from, sizeof to);
  return to;
}

// Half precision, without a branch, so that loops over it become vector code.
using Half = std::uint16_t;
TFCORE_INLINE float widen(Half half) {
  const std::uint32_t magnitude = half & 0x7fffu, sign = std::uint32_t(half & 0x8000u) << 16;
  const std::uint32_t rebias = magnitude >= 0x7c00u ? 0x70000000u : 0x38000000u;  // infinities and NaN stay such
  const std::uint32_t normal = (magnitude << 13) + rebias;
  const std::uint32_t tiny = reinterpret<std::uint32_t>(float(std::int32_t(magnitude)) * 0x1p-24f);
  return reinterpret<float>((magnitude < 0x0400u ? tiny : normal) | sign);
}

TFCORE_INLINE VecF32 load_halves(const Half* p) {
#if defined(__AVX512F__) && TFCORE_VEC_BYTES == 64
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#elif defined(__F16C__) && TFCORE_VEC_BYTES == 32
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#elif defined(__aarch64__) && TFCORE_VEC_BYTES == 16
  return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
#else
  VecF32 x;
  for (int i = 0; i < lanes<float>; ++i) x[i] = widen(p[i]);
  return x;
#endif
}

// --- across lanes ----------------------------------------------------------------------------------------------------

// Within each 16 bytes: {a0, b0, a1, b1, a4, b4, a5, b5} for half = 0 of eight floats. One instruction.
template <class T, int half> TFCORE_INLINE Vec<T> interleave_within(Vec<T> a, Vec<T> b) {
  constexpr int q = 16 / int(sizeof(T));
  IntVec<T> pick;
  for (int i = 0; i < lanes<T>; ++i) pick[i] = Int<T>(i / q * q + half * q / 2 + i % q / 2 + (i % 2) * lanes<T>);
  return __builtin_shuffle(a, b, pick);
}

// Blocks of `size` lanes: {a0, b0, a2, b2, …} for half = 0, {a1, b1, a3, b3, …} for half = 1.
template <class T, int size, int half> TFCORE_INLINE Vec<T> take_blocks(Vec<T> a, Vec<T> b) {
  IntVec<T> pick;
  for (int i = 0; i < lanes<T>; ++i)
    pick[i] = Int<T>(i % size + (i / (2 * size) * 2 + half) * size + i / size % 2 * lanes<T>);
  return __builtin_shuffle(a, b, pick);
}

// {a0, b0, a1, b1, …} from the lower (half = 0) or upper (half = 1) halves of a and b.
template <class T, int half> TFCORE_INLINE Vec<T> interleave(Vec<T> a, Vec<T> b) {
  constexpr int n = lanes<T>, q = 16 / int(sizeof(T));
  if constexpr (kVecBytes == 32)  // four single shuffles for both halves, where g++ 12 finds six that cross
    return take_blocks<T, q, half>(interleave_within<T, 0>(a, b), interleave_within<T, 1>(a, b));
  IntVec<T> pick;
  for (int i = 0; i < n; ++i) pick[i] = Int<T>(half * n / 2 + i / 2 + (i % 2) * n);
  return __builtin_shuffle(a, b, pick);
}

// {a[n], a[n + 1], …}, around the end to a[0].
template <class T, int n> TFCORE_INLINE Vec<T> rotate_lanes(Vec<T> a) {
  IntVec<T> pick;
  for (int i = 0; i < lanes<T>; ++i) pick[i] = (i + n) % lanes<T>;
  return __builtin_shuffle(a, pick);
}

template <class T, int step = lanes<T> / 2> TFCORE_INLINE T largest_lane(Vec<T> a) {
  if constexpr (step == 0) return a[0];
  else return largest_lane<T, step / 2>(max(a, rotate_lanes<T, step>(a)));
}

// {a1, a0, a3, a2, …}
template <class T> TFCORE_INLINE Vec<T> swap_pairs(Vec<T> a) {
  IntVec<T> pick;
  for (int i = 0; i < lanes<T>; ++i) pick[i] = i ^ 1;
  return __builtin_shuffle(a, pick);
}

template <class T, int size> TFCORE_INLINE void exchange_blocks(Vec<T> (&rows)[lanes<T>]) {
  if constexpr (size < lanes<T>) {
#pragma GCC unroll 16
    for (int i = 0; i < lanes<T>; ++i) {
      if (i & size) continue;
      const Vec<T> a = rows[i], b = rows[i + size];
      rows[i] = take_blocks<T, size, 0>(a, b), rows[i + size] = take_blocks<T, size, 1>(a, b);
    }
    exchange_blocks<T, 2 * size>(rows);
  }
}

// Squares of 16 bytes: rows[i][j] <-> rows[j][i] within each.
template <class T> constexpr int kSquare = 16 / int(sizeof(T));
template <class T> TFCORE_INLINE void transpose_within(Vec<T>* rows) {
  constexpr int q = kSquare<T>;
#pragma GCC unroll 2
  for (int round = 1; round < q; round *= 2) {
    Vec<T> next[q];
#pragma GCC unroll 2
    for (int i = 0; i < q / 2; ++i) {
      next[2 * i] = interleave_within<T, 0>(rows[i], rows[i + q / 2]);
      next[2 * i + 1] = interleave_within<T, 1>(rows[i], rows[i + q / 2]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < q; ++i) rows[i] = next[i];
  }
}

// rows[i][j] <-> rows[j][i], lanes x lanes: squares of 16 bytes, then blocks of 16 bytes change places.
template <class T> TFCORE_INLINE void transpose(Vec<T> (&rows)[lanes<T>]) {
#pragma GCC unroll 8
  for (int i = 0; i < lanes<T>; i += kSquare<T>) transpose_within<T>(rows + i);
  exchange_blocks<T, kSquare<T>>(rows);
}

// columns[i][j] = row(j)[i] for i < kSquare. Blocks of 16 bytes are put in their places as they are loaded, and of a
// transposition's shuffles those within them are left.
template <class T, class Row> TFCORE_INLINE void load_columns(Row row, Vec<T>* columns) {
  constexpr int q = kSquare<T>;
#pragma GCC unroll 4
  for (int i = 0; i < q; ++i) {
    const auto block = [&](int j) TFCORE_LAMBDA { return reinterpret_cast<const float*>(row(q * j + i)); };
#if defined(__AVX512F__) && TFCORE_VEC_BYTES == 64
    const __m256 low = _mm256_loadu2_m128(block(1), block(0)), high = _mm256_loadu2_m128(block(3), block(2));
    columns[i] = Vec<T>(_mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1));
#elif defined(__AVX2__) && TFCORE_VEC_BYTES == 32
    columns[i] = Vec<T>(_mm256_loadu2_m128(block(1), block(0)));
#else
#pragma GCC unroll 4
    for (int j = 0; j < lanes<T> / q; ++j)
      __builtin_memcpy(reinterpret_cast<char*>(columns + i) + 16 * j, block(j), 16);
#endif
  }
  transpose_within<T>(columns);
}

// Sixteen logical lanes whatever the register width, so that a reduction adds in the same order on every ISA.
template <class T> struct Lanes16 {
  static constexpr int kRegisters = 16 / lanes<T>;
  Vec<T> part[kRegisters];
};

}  // namespace
}  // namespace tfcore
