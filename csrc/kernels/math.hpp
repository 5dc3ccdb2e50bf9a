#pragma once
// Elementary functions over Vec: one text each for float and double; what differs is a struct of constants.
//
// Shared shape: reduce the argument to a short interval, evaluate one polynomial by Horner's rule, undo the reduction in
// the exponent field. No branches, no tables, no calls: every lane takes the same path and depends on itself alone.
#include "simd/vec.hpp"

namespace tfcore {
namespace {

template <class T> struct MathConstants;

template <> struct MathConstants<float> {
  static constexpr int kMantissaBits = 23;
  static constexpr float kRound = 12582912.0f;           // 1.5 * 2^23: adding it rounds to an integer, held in the low bits
  static constexpr float kRoundBiased = kRound + 127.0f;  // … and adds the exponent's bias to that integer
  static constexpr float kHighestPower = kRoundBiased + 127.0f;
  static constexpr float kLog2E = 1.44269504f;
  static constexpr float kLn2High = 0.693145751953125f, kLn2Low = 1.42860677e-06f;  // 15 bits: n * high is exact

  static constexpr float kExp2[] = {0.00012658842f, 0.00133847329f, 0.00962728541f,
                                    0.0555037297f,  0.240225866f,   0.693147182f};
  static constexpr float kExp2Smallest = -126.0f, kExp2Top = 200.0f;

  static constexpr float kExp[] = {0.00138388749f, 0.00836919155f, 0.0416681021f, 0.166665167f, 0.49999994f, 1.0f, 1.0f};
  static constexpr float kExpSmallest = -87.3365479f, kExpTop = 100.0f;
  static constexpr float kExpOver = 89.0f, kExpUnder = 88.0f;  // e^over rounds to 2^128 = inf, e^-under to 2^-127 = 0

  static constexpr float kTanhTop = 27.0f;

  static constexpr float kErf[] = {-1.3311047e-05f,  0.000169320818f, -0.000911497744f, 0.00240213331f, -0.000228330275f,
                                   -0.0276338346f, 0.148277611f,   0.918447554f,    1.62790704f};
  static constexpr float kErfTop = 4.0f;

  static constexpr float kGelu[] = {2.84106e-06f,    -3.94539456e-05f, 0.000186555801f, 0.000135994633f,
                                    -0.00706213992f, 0.0524952523f,    0.459208518f,    1.15110517f, 1.0f};
  static constexpr float kGeluTop = 9.954f;
  static constexpr float kGeluTanhOver = 10.0684f, kGeluTanhUnder = 10.0311f;

  static constexpr float kSin[] = {-0.000195178975f, 0.00833218731f, -0.166666552f};
  static constexpr float kCos[] = {2.44617495e-05f, -0.00138876098f, 0.041666653f, -0.5f};
};

template <> struct MathConstants<double> {
  static constexpr int kMantissaBits = 52;
  static constexpr double kRound = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double kRoundBiased = kRound + 1023.0;
  static constexpr double kHighestPower = kRoundBiased + 1023.0;
  static constexpr double kLog2E = 1.4426950408889634;
  static constexpr double kLn2High = 0.6931471805601177, kLn2Low = -1.7239444525614835e-13;  // 41 bits

  static constexpr double kExp2[] = {4.5590831225164632e-10, 7.0751897187929899e-09, 1.0177414204895127e-07,
                                     1.3215427687167691e-06, 1.5252735244748906e-05, 0.00015403530470444195,
                                     0.0013333558145149182,  0.0096181291075859796,  0.055504108664825649,
                                     0.24022650695910142,    0.69314718055994529};
  static constexpr double kExp2Smallest = -1022.0, kExp2Top = 2000.0;

  static constexpr double kExp[] = {2.5020047309676675e-08, 2.7630751552674581e-07, 2.7557530494636199e-06,
                                    2.480149174843105e-05,  0.00019841269560548253, 0.0013888888944863364,
                                    0.0083333333334737018,  0.041666666666525784,   0.16666666666666438,
                                    0.50000000000000111,    1.0,                    1.0};
  static constexpr double kExpSmallest = -708.39641853226408, kExpTop = 800.0;
  static constexpr double kExpOver = 710.0, kExpUnder = 709.0;

  static constexpr double kTanhTop = 56.0;

  static constexpr double kErf[] = {
      -5.5586170775126136e-15, 2.4899903382626573e-13,  -5.170352184606591e-12,  6.59183422824603e-11,
      -5.7500452277697183e-10, 3.6057743874294274e-09,  -1.6482617002415384e-08, 5.3327293151235465e-08,
      -1.0472314618157776e-07, 5.7993167701780317e-09,  7.8161669231779464e-07,  -2.8779162920901203e-06,
      4.4482825013625176e-06,  4.6394519582030937e-06,  -4.2717293936713197e-05, 9.2966606064531546e-05,
      3.7360466526149771e-05,  -0.00085137736830635054, 0.0024471095400863444,   -0.00030180424727342989,
      -0.027596515629434801,   0.14826952512272196,     0.91844818852656906,     1.627907028611115};
  static constexpr double kErfTop = 6.0;

  static constexpr double kGelu[] = {
      3.1658481645875481e-18, -1.7872940547000553e-16, 4.5242979842762029e-15, -6.6325989538086179e-14,
      5.8825588133140389e-13, -2.5524150071305607e-12, -8.47053265938807e-12, 2.3770288532705191e-10,
      -2.1089129564385882e-09, 1.1782797394569151e-08, -4.3865900502741674e-08, 9.0042325067290528e-08,
      7.4687904872464393e-08, -1.3051338087688207e-06, 4.0837169871333512e-06, 2.3509597379298181e-06,
      -7.5259495810464807e-05, 0.00030589137001464032, -5.3352610108204666e-05, -0.0068991288031223161,
      0.052421193318882515, 0.45922409426375904, 1.1511040990721546, 1.0};
  static constexpr double kGeluTop = 10.65276;
  static constexpr double kGeluTanhOver = 21.16, kGeluTanhUnder = 21.1527;

  // pi/2 in four parts: n * (29 bits) is exact for |n| < 2^24, with or without FMA.
  static constexpr double kTwoOverPi = 0.63661977236758138;
  static constexpr double kHalfPi1 = 1.570796325802803, kHalfPi2 = 9.9209357742879867e-10;
  static constexpr double kHalfPi3 = 2.2517417706346578e-18, kHalfPi4 = 3.5215598651832002e-27;

  static constexpr double kSin[] = {1.5898289267270054e-10,   -2.5050788811895981e-08, 2.7557313931468984e-06,
                                    -0.00019841269830683071, 0.0083333333333238807,   -0.16666666666666641};
  static constexpr double kCos[] = {-1.1365210889086592e-11, 2.0875842250947639e-09,  -2.7557315334909555e-07,
                                    2.4801587293368995e-05,  -0.0013888888888881411, 0.04166666666666665, -0.5};
};

// --- building blocks -------------------------------------------------------------------------------------------------

// c[0] x^(N-1) + … + c[N-1], by Horner's rule: the fewest instructions; neighbouring vectors fill the latency.
template <class T, int N> TFCORE_INLINE Vec<T> polynomial(Vec<T> x, const T (&c)[N]) {
  Vec<T> p = splat(c[0]);
#pragma GCC unroll 32
  for (int i = 1; i < N; ++i) p = fma(p, x, splat(c[i]));
  return p;
}

template <class T> constexpr Int<T> kSignBit = Int<T>(Int<T>(1) << (8 * sizeof(T) - 2)) * -2;

template <class T> TFCORE_INLINE Vec<T> copy_sign(Vec<T> magnitude, Vec<T> sign) {
  return from_bits<T>(bits<T>(magnitude) | (bits<T>(sign) & kSignBit<T>));
}

// 2^n from n + kRoundBiased, for -bias <= n <= bias + 1: exactly 0 at the lower end, inf at the upper.
template <class T> TFCORE_INLINE Vec<T> power_of_two(Vec<T> rounded) {
  return from_bits<T>(bits<T>(rounded) << MathConstants<T>::kMantissaBits);
}

// p * 2^n from n + kRoundBiased, also where 2^n alone would overflow. A product, not a sum of exponent fields: it keeps NaN.
template <class T> TFCORE_INLINE Vec<T> scale(Vec<T> p, Vec<T> rounded) {
  using C = MathConstants<T>;
#if defined(__AVX512F__) && TFCORE_VEC_BYTES == 64
  const Vec<T> n = rounded - C::kRoundBiased;
  if constexpr (sizeof(T) == 4) return _mm512_maskz_scalef_ps(__mmask16(-1), p, n);
  else return _mm512_maskz_scalef_pd(__mmask8(-1), p, n);
#else
  const Vec<T> bounded = min(splat(C::kHighestPower), rounded);
  const Vec<T> scaled = p * power_of_two<T>(bounded);
  return fma(scaled, rounded - bounded, scaled);
#endif
}

// 2^f - 1 and 2^f for |f| <= 1/2.
template <class T> TFCORE_INLINE Vec<T> exp2_fraction_minus_1(Vec<T> f) { return f * polynomial(f, MathConstants<T>::kExp2); }
template <class T> TFCORE_INLINE Vec<T> exp2_fraction(Vec<T> f) {
  return fma(polynomial(f, MathConstants<T>::kExp2), f, splat(T(1)));
}

// 2^x - 1, keeping the relative accuracy near 0; |x| within the exponent's range.
template <class T> TFCORE_INLINE Vec<T> exp2_minus_1(Vec<T> x) {
  using C = MathConstants<T>;
  const Vec<T> rounded = x + C::kRoundBiased;
  const Vec<T> s = power_of_two<T>(rounded);
  return fma(s, exp2_fraction_minus_1<T>(x - (rounded - C::kRoundBiased)), s - T(1));
}

// --- exponentials ----------------------------------------------------------------------------------------------------

template <class T> TFCORE_INLINE Vec<T> exp2_nonpositive(Vec<T> x) {
  using C = MathConstants<T>;
  const Vec<T> rounded = x + C::kRoundBiased;
  const Vec<T> p = exp2_fraction<T>(x - (rounded - C::kRoundBiased));
  return x < C::kExp2Smallest ? Vec<T>{} : p * power_of_two<T>(rounded);
}

template <class T> TFCORE_INLINE Vec<T> exp2(Vec<T> x) {
  using C = MathConstants<T>;
  const Vec<T> y = min(splat(C::kExp2Top), x);
  const Vec<T> rounded = y + C::kRoundBiased;
  const Vec<T> p = exp2_fraction<T>(y - (rounded - C::kRoundBiased));
  return x < C::kExp2Smallest ? Vec<T>{} : scale<T>(p, rounded);
}

// e^x = 2^n e^r: the reduced argument r, and n + kRoundBiased.
template <class T> TFCORE_INLINE Vec<T> reduce_exp(Vec<T> x, Vec<T>& rounded) {
  using C = MathConstants<T>;
  rounded = fma(x, C::kLog2E, splat(C::kRoundBiased));
  const Vec<T> n = rounded - C::kRoundBiased;
  return fma(n, -C::kLn2Low, fma(n, -C::kLn2High, x));
}

template <class T> TFCORE_INLINE Vec<T> exp(Vec<T> x) {
  using C = MathConstants<T>;
  Vec<T> rounded;
  const Vec<T> r = reduce_exp<T>(min(splat(C::kExpTop), x), rounded);
  return x < C::kExpSmallest ? Vec<T>{} : scale<T>(polynomial(r, C::kExp), rounded);
}

// e^x for -kExpUnder <= x <= kExpOver, and 0 and inf at these ends: enough for 1 / (1 + e^x).
template <class T> TFCORE_INLINE Vec<T> exp_bounded(Vec<T> x) {
  Vec<T> rounded;
  const Vec<T> r = reduce_exp<T>(x, rounded);
  return polynomial(r, MathConstants<T>::kExp) * power_of_two<T>(rounded);
}

// --- sigmoids --------------------------------------------------------------------------------------------------------

template <class T> TFCORE_INLINE Vec<T> tanh(Vec<T> x) {
  using C = MathConstants<T>;
  const Vec<T> e = exp2_minus_1<T>(min(splat(C::kTanhTop), abs<T>(x) * (2 * C::kLog2E)));
  return copy_sign<T>(e / (e + T(2)), x);
}

template <class T> TFCORE_INLINE Vec<T> sigmoid(Vec<T> x) {
  using C = MathConstants<T>;
  return T(1) / (exp_bounded<T>(max(splat(-C::kExpUnder), min(splat(C::kExpOver), -x))) + T(1));
}

template <class T> TFCORE_INLINE Vec<T> silu(Vec<T> x) {
  using C = MathConstants<T>;
  const Vec<T> y = max(splat(-C::kExpOver), x);
  return y / (exp_bounded<T>(max(splat(-C::kExpUnder), -y)) + T(1));
}

template <class T> TFCORE_INLINE Vec<T> relu(Vec<T> x) { return max(Vec<T>{}, x); }

template <class T> TFCORE_INLINE Vec<T> erf(Vec<T> x) {
  using C = MathConstants<T>;
  const Vec<T> a = min(splat(C::kErfTop), abs<T>(x));
  return copy_sign<T>(abs<T>(exp2_minus_1<T>(-a * polynomial(a, C::kErf))), x);
}

template <class T> TFCORE_INLINE Vec<T> gelu_erf(Vec<T> x) {
  using C = MathConstants<T>;
  const Vec<T> a = min(splat(C::kGeluTop), abs<T>(x));
  const Vec<T> g = -polynomial(a, C::kGelu);
  const Vec<T> rounded = g + C::kRoundBiased;
  const Vec<T> q = exp2_fraction<T>(g - (rounded - C::kRoundBiased)) * power_of_two<T>(rounded);
  return fma(-a, q, relu<T>(x));
}

template <class T> TFCORE_INLINE Vec<T> gelu_tanh(Vec<T> x) {
  using C = MathConstants<T>;
  const Vec<T> y = max(splat(-C::kGeluTanhOver), x);
  const Vec<T> z = min(splat(C::kGeluTanhUnder), y);
  const Vec<T> w = z * fma(z * z, splat(T(-0.10294323958002349)), splat(T(-2.3022081981443248)));
  const Vec<T> rounded = w + C::kRoundBiased;
  const Vec<T> e = exp2_fraction<T>(w - (rounded - C::kRoundBiased)) * power_of_two<T>(rounded);
  return y / (e + T(1));
}

// --- sine and cosine -------------------------------------------------------------------------------------------------

template <class T> constexpr T kSinCosLimit = T(16777216);

TFCORE_INLINE void sincos_scalar(double x, double& s, double& c) {
  s = __builtin_sin(x);
  c = __builtin_cos(x);
}

template <class T> TFCORE_INLINE void sincos(Vec<T> x, Vec<T>& s, Vec<T>& c) {
  using C = MathConstants<T>;
  const Vec<T> rounded = fma(x, C::kTwoOverPi, splat(C::kRound));
  const Vec<T> n = rounded - C::kRound;
  const Vec<T> r1 = fma(n, -C::kHalfPi1, x);
  const Vec<T> w2 = n * C::kHalfPi2, r2 = r1 - w2, e2 = (r1 - r2) - w2;
  const Vec<T> w3 = n * C::kHalfPi3, r = r2 - w3, e3 = (r2 - r) - w3;
  const Vec<T> e = fma(n, -C::kHalfPi4, e2 + e3);
  const Vec<T> z = fma(r, r, (r + r) * e);
  const Vec<T> sine = r + fma(r * z, polynomial(z, C::kSin), e);
  const Vec<T> cosine = fma(z, polynomial(z, C::kCos), splat(T(1)));
  const IntVec<T> quadrant = bits<T>(rounded);
  const IntVec<T> odd = (quadrant & 1) != 0;
  s = from_bits<T>(bits<T>(odd ? cosine : sine) ^ ((quadrant & 2) << 62));
  c = from_bits<T>(bits<T>(odd ? sine : cosine) ^ (((quadrant + 1) & 2) << 62));
}

// x - n pi/2, to float accuracy even where it cancels.
TFCORE_INLINE VecF64 reduce_angle(VecF64 x, VecF64& n) {
  using C = MathConstants<double>;
  n = fma(x, C::kTwoOverPi, splat(C::kRound)) - C::kRound;
  const VecF64 r = fma(n, -C::kHalfPi2, fma(n, -C::kHalfPi1, x));
  return fma(n, -C::kHalfPi4, fma(n, -C::kHalfPi3, r));
}

TFCORE_INLINE void sincos_narrow(VecF64 low, VecF64 high, VecF32& s, VecF32& c) {
  using C = MathConstants<float>;
  VecF64 n_low, n_high;
  const VecF64 r_low = reduce_angle(low, n_low), r_high = reduce_angle(high, n_high);
  const VecF32 r = narrow(r_low, r_high), n = narrow(n_low, n_high);
  const VecF32 z = r * r;
  const VecF32 sine = fma(r * z, polynomial(z, C::kSin), r);
  const VecF32 cosine = fma(z, polynomial(z, C::kCos), splat(1.0f));
  const VecI32 quadrant = __builtin_convertvector(n, VecI32);
  const VecI32 odd = (quadrant & 1) != 0;
  s = from_bits<float>(bits<float>(odd ? cosine : sine) ^ ((quadrant & 2) << 30));
  c = from_bits<float>(bits<float>(odd ? sine : cosine) ^ (((quadrant + 1) & 2) << 30));
}

template <> TFCORE_INLINE void sincos<float>(VecF32 x, VecF32& s, VecF32& c) {
  VecF64 low, high;
  widen(x, low, high);
  sincos_narrow(low, high, s, c);
}

}  // namespace
}  // namespace tfcore
