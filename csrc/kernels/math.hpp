#pragma once
// Elementary functions over Vec: one text each for float and double; what differs is a struct of constants.
//
// Shared shape: reduce the argument to a short interval, evaluate one polynomial there, undo the reduction in the
// exponent field. No branches, no tables, no calls: a lane depends on itself alone, and NaN in gives NaN out.
//
// Coefficients are minimax (Remez exchange, each rounded in turn and the rest fitted again; for float exp2 and exp
// then improved by search against measured error). Errors are largest ones in units in the last place (ulp), as FMA /
// no FMA: float over every |x| in [2^-30, 256), double over 10^7 points against quadruple precision. ISAs with FMA
// agree bit for bit. Results below the smallest normal number are flushed to 0 where a comment says so.
#include "simd/vec.hpp"

namespace tfcore {
namespace {

constexpr double kLog2e = 1.4426950408889634;

template <class T> struct MathConstants;

template <> struct MathConstants<float> {
  static constexpr int kMantissaBits = 23;
  static constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: x + kRound rounds x to an integer, held in the low bits
  static constexpr float kRoundBiased = kRound + 127.0f;  // the same with the exponent's bias added to that integer
  static constexpr float kHighestPower = kRoundBiased + 127.0f;
  static constexpr float kLn2High = 0.693145751953125f, kLn2Low = 1.42860677e-06f;  // 15 bits: n * high is exact

  static constexpr float kExp2[] = {0.000133342866f, 0.00133845059f, 0.0096253939f,
                                    0.0555036813f,   0.240225926f,   0.693147182f};
  static constexpr float kExp2Smallest = -126.0f, kExp2Top = 200.0f;
  static constexpr float kMostReference = 0x1p21f;

  static constexpr float kExp[] = {0.0013863421f, 0.00836743042f, 0.0416673236f, 0.166665375f, 0.5f};
  static constexpr float kExpSmallest = -87.3365479f, kExpTop = 100.0f;
  static constexpr float kExpOver = 89.0f, kExpUnder = 88.0f;  // e^over rounds to 2^128 = inf, e^-under to 2^-127 = 0

  static constexpr float kTanh[] = {-0.00574325304f, 0.0206783414f, -0.0537539572f, 0.133316547f, -0.333332926f};
  static constexpr float kTanhTop = 20.0f;

  static constexpr float kErf[] = {-9.38604717e-06f, 0.000118848591f,  -0.000637331628f,
                                   0.00167563953f,   -0.000169484687f, -0.0191478264f,
                                   0.102776304f,     0.636619568f,     0.128379166f};
  static constexpr float kErfTop = 4.0f;

  static constexpr float kGelu[] = {2.84106e-06f,    -3.94539456e-05f, 0.000186555801f, 0.000135994633f,
                                    -0.00706213992f, 0.0524952523f,    0.459208518f,    1.15110517f};
  static constexpr float kGeluTop = 9.954f;
  static constexpr float kGeluTanhOver = 10.0684f, kGeluTanhUnder = 10.0311f;

  static constexpr float kSin[] = {-0.000195178975f, 0.00833218731f, -0.166666552f};
  static constexpr float kCos[] = {2.44617495e-05f, -0.00138876098f, 0.041666653f};
};

template <> struct MathConstants<double> {
  static constexpr int kMantissaBits = 52;
  static constexpr double kRound = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double kRoundBiased = kRound + 1023.0;
  static constexpr double kHighestPower = kRoundBiased + 1023.0;
  static constexpr double kLn2High = 0.6931471805601177, kLn2Low = -1.7239444525614835e-13;  // 41 bits

  static constexpr double kExp2[] = {4.5198003142200439e-10, 7.0757004677941625e-09, 1.0177654820503829e-07,
                                     1.3215424282311167e-06, 1.5252734738022092e-05, 0.00015403530478872736,
                                     0.0013333558145567483,  0.0096181291075770649,  0.055504108664824574,
                                     0.24022650695910172,    0.69314718055994529};
  static constexpr double kExp2Smallest = -1022.0, kExp2Top = 2000.0;
  static constexpr double kMostReference = 0x1p50;

  static constexpr double kExp[] = {2.507268991720815e-08,  2.7627977485383177e-07, 2.7557371839729313e-06,
                                    2.4801500144682212e-05, 0.00019841269733148658, 0.0013888888936144752,
                                    0.0083333333333933668,  0.041666666666561221,   0.16666666666666574,
                                    0.50000000000000067};
  static constexpr double kExpSmallest = -708.39641853226408, kExpTop = 800.0;
  static constexpr double kExpOver = 710.0, kExpUnder = 709.0;

  static constexpr double kTanh[] = {6.2745877684565217e-06,  -3.0708529445398315e-05, 9.2065313642605885e-05,
                                     -0.00023729088434965947, 0.00058954737138446425,  -0.0014557469464388084,
                                     0.0035921169461219189,   -0.0088632345662812643,  0.021869488480978735,
                                     -0.053968253966336296,   0.13333333333329961,     -0.33333333333333315};
  static constexpr double kTanhTop = 40.0;

  static constexpr double kErf[] = {
      -3.6071860357842083e-15, 1.6213706384672246e-13,  -3.3774236831353921e-12, 4.3179932210762563e-11,
      -3.7745857219885069e-10, 2.3692242049254589e-09,  -1.0814906577983608e-08, 3.4739015531454351e-08,
      -6.6184680362332422e-08, -1.0657744610508901e-08, 5.6867765167759564e-07,  -2.0342792469535415e-06,
      3.1295087178881162e-06,  3.1729225421713153e-06,  -2.9578071498090946e-05, 6.4421850114582108e-05,
      2.5903898349146024e-05,  -0.00059013223525427845, 0.0016962076245385807,   -0.00020919484671056264,
      -0.01912844699382682,    0.10277260330135789,     0.63661977236758982,     0.12837916709551256};
  static constexpr double kErfTop = 6.0;

  static constexpr double kGelu[] = {
      3.1658481645875481e-18,  -1.7872940547000553e-16, 4.5242979842762029e-15,  -6.6325989538086179e-14,
      5.8825588133140389e-13,  -2.5524150071305607e-12, -8.47053265938807e-12,   2.3770288532705191e-10,
      -2.1089129564385882e-09, 1.1782797394569151e-08,  -4.3865900502741674e-08, 9.0042325067290528e-08,
      7.4687904872464393e-08,  -1.3051338087688207e-06, 4.0837169871333512e-06,  2.3509597379298181e-06,
      -7.5259495810464807e-05, 0.00030589137001464032,  -5.3352610108204666e-05, -0.0068991288031223161,
      0.052421193318882515,    0.45922409426375904,     1.1511040990721546};
  static constexpr double kGeluTop = 10.65276;
  static constexpr double kGeluTanhOver = 21.16, kGeluTanhUnder = 21.1527;

  // pi/2 in four parts: n * (29 bits) is exact for |n| < 2^24, with or without FMA
  static constexpr double kTwoOverPi = 0.63661977236758138;
  static constexpr double kHalfPi1 = 1.570796325802803, kHalfPi2 = 9.9209357742879867e-10;
  static constexpr double kHalfPi3 = 2.2517417706346578e-18, kHalfPi4 = 3.5215598651832002e-27;

  static constexpr double kSin[] = {1.5898289267270054e-10,  -2.5050788811895981e-08, 2.7557313931468984e-06,
                                    -0.00019841269830683071, 0.0083333333333238807,   -0.16666666666666641};
  static constexpr double kCos[] = {-1.1365210889086592e-11, 2.0875842250947639e-09, -2.7557315334909555e-07,
                                    2.4801587293368995e-05,  -0.0013888888888881411, 0.04166666666666665};
};

// --- building blocks -------------------------------------------------------------------------------------------------

// c[first] y^k + c[first + step] y^(k-1) + … by Horner's rule.
template <int first, int step, class T, int N> TFCORE_INLINE Vec<T> horner(Vec<T> y, const T (&c)[N]) {
  Vec<T> p = splat(c[first]);
#pragma GCC unroll 32
  for (int i = first + step; i < N; i += step) p = fma(p, y, splat(c[i]));
  return p;
}

// c[0] x^(N-1) + … + c[N-1]. Horner's rule takes the fewest instructions; neighbouring vectors fill its latency.
template <class T, int N> TFCORE_INLINE Vec<T> polynomial(Vec<T> x, const T (&c)[N]) { return horner<0, 1, T>(x, c); }

// The same in two chains, even and odd powers. One chain of 23 FMAs fills the scheduler before the next vector's can
// start: two are 25 % faster in double, 12 % in float; below 9 terms nothing is gained.
template <class T, int N> TFCORE_INLINE Vec<T> long_polynomial(Vec<T> x, const T (&c)[N]) {
  const Vec<T> z = x * x;
  const Vec<T> first = horner<0, 2, T>(z, c), second = horner<1, 2, T>(z, c);
  return N % 2 == 0 ? fma(first, x, second) : fma(second, x, first);
}

template <class T> constexpr Int<T> kSignBit = Int<T>(Int<T>(1) << (8 * sizeof(T) - 2)) * -2;

template <class T> TFCORE_INLINE Vec<T> copy_sign(Vec<T> magnitude, Vec<T> sign) {
  return from_bits<T>(bits<T>(magnitude) | (bits<T>(sign) & kSignBit<T>));
}

// 2^n from n + kRoundBiased, for -bias <= n <= bias + 1: exactly 0 at the lower end, inf at the upper.
template <class T> TFCORE_INLINE Vec<T> power_of_two(Vec<T> rounded) {
  return from_bits<T>(bits<T>(rounded) << MathConstants<T>::kMantissaBits);
}

#if defined(__AVX512F__) && defined(__AVX512DQ__) && TFCORE_VEC_BYTES == 64
#define TFCORE_HAS_SCALEF 1
// x - round(x), and p * 2^n for any n, in one instruction each. The zero-masked forms: g++ 12 warns of the plain ones.
TFCORE_INLINE VecF32 round_off(VecF32 x) { return _mm512_reduce_ps(x, _MM_FROUND_TO_NEAREST_INT); }
TFCORE_INLINE VecF64 round_off(VecF64 x) { return _mm512_reduce_pd(x, _MM_FROUND_TO_NEAREST_INT); }
TFCORE_INLINE VecF32 scalef(VecF32 p, VecF32 n) { return _mm512_maskz_scalef_ps(__mmask16(-1), p, n); }
TFCORE_INLINE VecF64 scalef(VecF64 p, VecF64 n) { return _mm512_maskz_scalef_pd(__mmask8(-1), p, n); }
#else
#define TFCORE_HAS_SCALEF 0
#endif

// p * 2^n from n + kRoundBiased, also where 2^n alone would overflow: then the excess d of n is made up by 1 + d,
// right for d = 1 and inf beyond. Products, for a sum of exponent fields would turn some NaN into numbers.
template <class T> TFCORE_INLINE Vec<T> scale(Vec<T> p, Vec<T> rounded) {
  using C = MathConstants<T>;
#if TFCORE_HAS_SCALEF
  return scalef(p, rounded - C::kRoundBiased);
#else
  const Vec<T> bounded = min(splat(C::kHighestPower), rounded);
  const Vec<T> scaled = p * power_of_two<T>(bounded);
  return fma(scaled, rounded - bounded, scaled);
#endif
}

// 2^f for |f| <= 1/2 (degree 6 / 11), and e^r for |r| <= ln(2)/2 (degree 6 / 11). Leading 1s are exact.
template <class T> TFCORE_INLINE Vec<T> exp2_fraction(Vec<T> f) {
  return fma(polynomial(f, MathConstants<T>::kExp2), f, splat(T(1)));
}
template <class T> TFCORE_INLINE Vec<T> exp_fraction(Vec<T> r) {
  return fma(fma(polynomial(r, MathConstants<T>::kExp), r, splat(T(1))), r, splat(T(1)));
}

// e^x = 2^n e^r: r = x - n ln 2, ln 2 in two parts whose first product is exact even without FMA; and n + kRoundBiased.
template <class T> TFCORE_INLINE Vec<T> reduce_exp(Vec<T> x, Vec<T>& rounded) {
  using C = MathConstants<T>;
  rounded = fma(x, T(kLog2e), splat(C::kRoundBiased));
  const Vec<T> n = rounded - C::kRoundBiased;
  return fma(n, -C::kLn2Low, fma(n, -C::kLn2High, x));
}

// e^x - 1 with its relative accuracy near 0, for |x| < 80: 2^n (e^r - 1) + (2^n - 1), where e^r - 1 = r + r^2 c(r).
template <class T> TFCORE_INLINE Vec<T> exp_minus_1_bounded(Vec<T> x) {
  Vec<T> rounded;
  const Vec<T> r = reduce_exp<T>(x, rounded);
  const Vec<T> fraction = fma(r * r, polynomial(r, MathConstants<T>::kExp), r);
  const Vec<T> s = power_of_two<T>(rounded);
  return fma(s, fraction, s - T(1));
}

// --- exponentials ----------------------------------------------------------------------------------------------------

// 2^x = 2^n 2^f, n = round(x), f = x - n in ±1/2. Flushed below the smallest normal; inf from 2^128 / 2^1024 on.
// Error: float 0.91 / 1.17 ulp, double 1.00 / 1.11 ulp.
// AVX-512 reduces and scales in one instruction each, 30 to 40 % faster than by magic constant; its ties go to the
// other neighbour, but 2^(1/2) and 2 * 2^(-1/2) come out the same bits, so both ways agree (a test must watch this
// when coefficients change). Tried: degree 5 (2 ulp); Estrin's scheme (one instruction more, 4 to 8 % slower on AVX2);
// adding to the exponent field (loses NaN; no faster once mended).
template <class T> TFCORE_INLINE Vec<T> exp2(Vec<T> x) {
  using C = MathConstants<T>;
#if TFCORE_HAS_SCALEF
  const Vec<T> f = round_off(x);
  const Vec<T> result = scalef(exp2_fraction<T>(f), x - f);
#else
  const Vec<T> y = min(splat(C::kExp2Top), x);
  const Vec<T> rounded = y + C::kRoundBiased;
  const Vec<T> result = scale<T>(exp2_fraction<T>(y - (rounded - C::kRoundBiased)), rounded);
#endif
  return x < C::kExp2Smallest ? Vec<T>{} : result;
}

// exp2 for x in [-inf, 0] and NaN, to the same bits, without what only large x needs.
template <class T> TFCORE_INLINE Vec<T> exp2_nonpositive(Vec<T> x) {
#if TFCORE_HAS_SCALEF
  return exp2<T>(x);
#else
  using C = MathConstants<T>;
  const Vec<T> rounded = x + C::kRoundBiased;
  const Vec<T> p = exp2_fraction<T>(x - (rounded - C::kRoundBiased));
  return x < C::kExp2Smallest ? Vec<T>{} : p * power_of_two<T>(rounded);
#endif
}

template <class T> constexpr T kLowest = -__FLT_MAX__;
template <> constexpr double kLowest<double> = -__DBL_MAX__;

// x log2(e), of a finite x as far as T goes.
template <class T> T in_base_2(T x) {
  const double scaled = double(x) * kLog2e;
  return T(scaled > -kLowest<T> ? -kLowest<T> : scaled < kLowest<T> && x >= kLowest<T> ? kLowest<T> : scaled);
}

// The even integer next to x, x itself from kMostReference on.
template <class T> TFCORE_INLINE Vec<T> nearest_even(Vec<T> x) {
  using C = MathConstants<T>;
  const Vec<T> even = ((x * T(0.5) + C::kRound) - C::kRound) * T(2);
  return abs<T>(x) < C::kMostReference ? even : x;
}

// 2^(x - reference) for even references of less than kMostReference, x <= reference + 1, and NaN. x = round(x) + f is
// split as it stands and the reference taken off the integer, so that no difference is rounded. 0 from -126.5 on, with
// half a binade of subnormals before (double: -1022.5); even, so that ties fall to the same side on every ISA.
// Error as exp2's. 13 instructions, two of which vanish into the load of x. (AVX-512's own rounding and scaling, 10
// instructions: attention 0.93 to 0.98 times as fast, for they wait for the ports of multiplication; Zen 4.)
template <class T> struct Exp2Less {
  using C = MathConstants<T>;
  Vec<T> biased, least;
  explicit TFCORE_INLINE Exp2Less(Vec<T> even)
      : biased(C::kRoundBiased - even), least(even + (C::kExp2Smallest - T(1))) {}
  TFCORE_INLINE Vec<T> operator()(Vec<T> x) const {
    const Vec<T> y = max(least, x);
    const Vec<T> rounded = y + biased;
    return exp2_fraction<T>(y - (rounded - biased)) * power_of_two<T>(rounded);
  }
};

// Flushed below the smallest normal. Error: float 0.91 / 1.19 ulp, double 1.00 / 1.16 ulp.
// n is rounded from x log2(e) by magic constant on every ISA: rounding it otherwise would move n, and bits, near ties.
template <class T> TFCORE_INLINE Vec<T> exp(Vec<T> x) {
  using C = MathConstants<T>;
  Vec<T> rounded;
  const Vec<T> r = reduce_exp<T>(min(splat(C::kExpTop), x), rounded);
  return x < C::kExpSmallest ? Vec<T>{} : scale<T>(exp_fraction<T>(r), rounded);
}

// exp for x in [-inf, 0] and NaN, to the same bits, without what only large x needs.
template <class T> TFCORE_INLINE Vec<T> exp_nonpositive(Vec<T> x) {
  using C = MathConstants<T>;
  Vec<T> rounded;
  const Vec<T> r = reduce_exp<T>(x, rounded);
#if TFCORE_HAS_SCALEF
  const Vec<T> result = scale<T>(exp_fraction<T>(r), rounded);
#else
  const Vec<T> result = exp_fraction<T>(r) * power_of_two<T>(rounded);
#endif
  return x < C::kExpSmallest ? Vec<T>{} : result;
}

// e^x for -kExpUnder <= x <= kExpOver; 0 at the lower end and inf at the upper: enough for 1 / (1 + e^x).
template <class T> TFCORE_INLINE Vec<T> exp_bounded(Vec<T> x) {
  Vec<T> rounded;
  const Vec<T> r = reduce_exp<T>(x, rounded);
  return exp_fraction<T>(r) * power_of_two<T>(rounded);
}

// log x = e log 2 + 2 atanh s, s = (m - 1) / (m + 1), x = m 2^e, sqrt 1/2 <= m < sqrt 2: atanh's series up to s^19,
// beyond which it adds less than 1e-17. For normal x and NaN, one number at a time; 0 at 1. Error: 2.0 ulp.
TFCORE_INLINE double log_of(double x) {
  constexpr std::int64_t kLeast = 0x3fe6a09e667f3bcd;  // the bits of sqrt 1/2
  if (x != x) return x;
  std::int64_t bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  const std::int64_t e = (bits - kLeast) >> 52, of_m = bits - (e << 52);
  double m;
  __builtin_memcpy(&m, &of_m, sizeof m);
  const double s = (m - 1) / (m + 1), square = s * s;
  double beyond = 0;  // of the series, its first term
  for (int k = 19; k > 1; k -= 2) beyond = (beyond + 1.0 / k) * square;
  return double(e) * 0.6931471805599453 + (2 * s + 2 * s * beyond);
}

// --- sigmoids --------------------------------------------------------------------------------------------------------

// |x| < 0.625: x + x^3 c(x^2), degree 11 / 25; beyond: 1 - 2 / (e^(2|x|) + 1). Sign put back last: tanh is odd.
// Error: float 1.37 ulp, double 1.37 ulp, with or without FMA.
// Tried: (e^2x - 1) / (e^2x + 1) for all x is 30 % faster, but 2.4 ulp near 0.
template <class T> TFCORE_INLINE Vec<T> tanh(Vec<T> x) {
  using C = MathConstants<T>;
  const Vec<T> a = abs<T>(x), z = x * x;
  const Vec<T> near = fma(a * z, polynomial(z, C::kTanh), a);
  const Vec<T> far = T(1) - T(2) / (exp_bounded<T>(min(splat(C::kTanhTop), a + a)) + T(1));
  return copy_sign<T>(a < T(0.625) ? near : far, x);
}

// x / (1 + e^-x), within 1.4 times the error of that formula with a correctly rounded exponential; but -0 from -88.4
// (-709.4 in double) on, where the formula still gives -4e-37 (-6e-306). Below -kExpOver the divisor is inf and x
// stands still, so that -inf gives -0 and not NaN.
template <class T> TFCORE_INLINE Vec<T> silu(Vec<T> x) {
  using C = MathConstants<T>;
  const Vec<T> y = max(splat(-C::kExpOver), x);
  return y / (exp_bounded<T>(max(splat(-C::kExpUnder), -y)) + T(1));
}

// max(0, x); NaN stays NaN.
template <class T> TFCORE_INLINE Vec<T> relu(Vec<T> x) { return max(Vec<T>{}, x); }

// erf |x| = 1 - e^-y, where y = -ln erfc |x| = |x| + |x| c(|x|): smooth and nearly quadratic, one polynomial of degree
// 8 / 23 over [0, 4] / [0, 6]. Both factors keep their relative accuracy near 0, so no second piece is needed.
// Error: float 1.9 / 2.1 ulp (7.1e-8 / 7.8e-8 absolute), double 1.9 / 2.1 ulp (1.5e-16 absolute).
template <class T> TFCORE_INLINE Vec<T> erf(Vec<T> x) {
  using C = MathConstants<T>;
  const Vec<T> a = min(splat(C::kErfTop), abs<T>(x));
  return copy_sign<T>(abs<T>(exp_minus_1_bounded<T>(-fma(a, long_polynomial(a, C::kErf), a))), x);
}

// x/2 (1 + erf(x / sqrt 2)) = max(x, 0) - |x| Q(|x|), Q(a) = erfc(a / sqrt 2) / 2 = 2^-(1 + g(a)), g(a) = a c(a): no
// cancellation in the negative tail, no division, no sign to put back. c has degree 7 / 22, fitted for the absolute
// error of Q (2^-26.9 / 2^-56) over |x| < 5.6 / 8.4; beyond, g grows faster than it should, until Q is 0 at kGeluTop.
// Error: 2.7e-7 / 9.5e-16 absolute (relative to x where x is large); in any binade of x at most 1.6 times that of the
// left side's formula in the same type with a correctly rounded erf. 25 instructions.
// Tried: that formula with erf above (40 to 50 % slower, cancels); an odd polynomial for erf (2.5e-7: too coarse in the
// tail); exp2_nonpositive for the last step (faster by 6 % on AVX-512, slower by 14 % on AVX2).
template <class T> TFCORE_INLINE Vec<T> gelu_erf(Vec<T> x) {
  using C = MathConstants<T>;
  const Vec<T> a = min(splat(C::kGeluTop), abs<T>(x));
  const Vec<T> g = a * long_polynomial(a, C::kGelu);
  const Vec<T> rounded = (C::kRoundBiased - T(1)) - g;
  const Vec<T> q = exp2_fraction<T>(((C::kRoundBiased - T(1)) - rounded) - g) * power_of_two<T>(rounded);
  return fma(-a, q, relu<T>(x));
}

// x/2 (1 + tanh u) = x / (1 + 2^w), u = sqrt(2/pi) (x + 0.044715 x^3), w = -2u log2(e): no tail to cancel.
// Error: 5.2e-7 / 1.2e-15 absolute, 1.2 times that of the left side's formula in the same type.
template <class T> TFCORE_INLINE Vec<T> gelu_tanh(Vec<T> x) {
  using C = MathConstants<T>;
  const Vec<T> y = max(splat(-C::kGeluTanhOver), x);
  const Vec<T> z = min(splat(C::kGeluTanhUnder), y);
  const Vec<T> w = z * fma(z * z, splat(T(-0.10294323958002349)), splat(T(-2.3022081981443248)));
  const Vec<T> rounded = w + C::kRoundBiased;
  const Vec<T> e = exp2_fraction<T>(w - (rounded - C::kRoundBiased)) * power_of_two<T>(rounded);
  return y / (e + T(1));
}

}  // namespace
}  // namespace tfcore
