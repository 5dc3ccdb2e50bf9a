#pragma once
// Sine and cosine over Vec, to 1 ulp over |x| <= 2^24: n = round(x 2/pi) and pi/2 in four parts, then a polynomial in
// +-pi/4. What was said of errors and coefficients in math.hpp holds here.
#include "kernels/math.hpp"

namespace tfcore {
namespace {

// Largest |x| that sincos and sincos_narrow reduce exactly. Beyond it callers must use sincos_scalar; infinities and
// NaN give NaN in either.
constexpr double kSinCosLimit = 16777216;

TFCORE_INLINE void sincos_scalar(double x, double& s, double& c) {
  s = __builtin_sin(x);
  c = __builtin_cos(x);
}

// Sine and cosine of n pi/2 + r from those of r: of n, the lowest two bits count.
template <class T> TFCORE_INLINE void turn_quadrants(IntVec<T> n, Vec<T> sine, Vec<T> cosine, Vec<T>& s, Vec<T>& c) {
  constexpr int kSignShift = 8 * int(sizeof(T)) - 2;
  const IntVec<T> odd = (n << (kSignShift + 1)) < 0;
  s = from_bits<T>(bits<T>(odd ? cosine : sine) ^ ((n & 2) << kSignShift));
  c = from_bits<T>(bits<T>(odd ? sine : cosine) ^ (((n + 1) & 2) << kSignShift));
}

// Sine and cosine of n pi/2 + (r + e), |r| <= pi/4, e a correction below r's last place.
//   sin = r + (r z S(z) + e)       z = (r + e)^2,  S and C of degree 2 / 5 in z
//   cos = w + (z^2 C(z) + ((1 - w) - z/2)),  w = 1 - z/2
template <class T> TFCORE_INLINE void sincos_reduced(Vec<T> r, Vec<T> e, IntVec<T> n, Vec<T>& s, Vec<T>& c) {
  using C = MathConstants<T>;
  const Vec<T> z = fma(r, r, (r + r) * e);
  const Vec<T> sine = r + fma(r * z, polynomial(z, C::kSin), e);
  const Vec<T> half = z * T(0.5), w = T(1) - half;
  const Vec<T> cosine = w + fma(z * z, polynomial(z, C::kCos), (T(1) - w) - half);
  turn_quadrants<T>(n, sine, cosine, s, c);
}

// Cody and Waite: x - n pi/2 = r + e, with pi/2 in four parts. The first three products are exact (29 bits by 24), the
// first difference too; what the next two round off is collected in e, so r + e is right to 2^-100, even where x is
// the double nearest a multiple.
TFCORE_INLINE void reduce_angle(VecF64 x, VecF64& rounded, VecF64& r, VecF64& e) {
  using C = MathConstants<double>;
  rounded = fma(x, C::kTwoOverPi, splat(C::kRound));
  const VecF64 n = rounded - C::kRound;
  const VecF64 r1 = fma(n, -C::kHalfPi1, x);
  const VecF64 w2 = n * C::kHalfPi2, r2 = r1 - w2, e2 = (r1 - r2) - w2;
  const VecF64 w3 = n * C::kHalfPi3, e3 = (r2 - (r2 - w3)) - w3;
  r = r2 - w3;
  e = fma(n, -C::kHalfPi4, e2 + e3);
}

// sin x and cos x for |x| <= kSinCosLimit. Error: 0.77 / 0.96 ulp, multiples of pi/2 included, float alike.
TFCORE_INLINE void sincos(VecF64 x, VecF64& s, VecF64& c) {
  VecF64 rounded, r, e;
  reduce_angle(x, rounded, r, e);
  sincos_reduced<double>(r, e, bits<double>(rounded), s, c);
}

// float results of double angles: reduced in double, the rest in float. Error: 0.77 / 0.96 float ulp.
// Tried: r without the rest that float drops: 1.5 ulp.
TFCORE_INLINE void sincos_narrow(VecF64 low, VecF64 high, VecF32& s, VecF32& c) {
  using C = MathConstants<double>;
  VecF64 rounded[2], r[2], e[2], nearest[2];
  reduce_angle(low, rounded[0], r[0], e[0]);
  reduce_angle(high, rounded[1], r[1], e[1]);
  const VecF32 narrowed = narrow(r[0], r[1]);
  widen(narrowed, nearest[0], nearest[1]);
  const VecF32 rest = narrow((r[0] - nearest[0]) + e[0], (r[1] - nearest[1]) + e[1]);
  const VecF32 n = narrow(rounded[0] - C::kRound, rounded[1] - C::kRound);
  sincos_reduced<float>(narrowed, rest, __builtin_convertvector(n, VecI32), s, c);
}

// sin and cos of any angle: lanes beyond the vector reduction's range are done one by one.
TFCORE_INLINE void sincos_any(VecF64 x, VecF64& s, VecF64& c) {
  sincos(x, s, c);
  const VecI64 far = ~(abs<double>(x) <= splat(kSinCosLimit));
  if (__builtin_expect(any(far), 0))
    for (int i = 0; i < lanes<double>; ++i)
      if (far[i]) {
        double si, ci;
        sincos_scalar(x[i], si, ci);
        s[i] = si, c[i] = ci;
      }
}

// float results of double angles; a far lane alone leaves the vector's way, or its neighbours' bits would depend on it.
TFCORE_INLINE void sincos_any(VecF64 low, VecF64 high, VecF32& s, VecF32& c) {
  sincos_narrow(low, high, s, c);
  const VecF64 limit = splat(kSinCosLimit);
  const VecI64 far[] = {~(abs<double>(low) <= limit), ~(abs<double>(high) <= limit)};
  if (__builtin_expect(any(far[0] | far[1]), 0))
    for (int i = 0; i < lanes<float>; ++i)
      if (far[i / lanes<double>][i % lanes<double>]) {
        double si, ci;
        sincos_scalar(i < lanes<double> ? low[i] : high[i - lanes<double>], si, ci);
        s[i] = float(si), c[i] = float(ci);
      }
}

template <class T> TFCORE_INLINE void sincos_of(Vec<T> x, Vec<T>& s, Vec<T>& c) {
  if constexpr (sizeof(T) == 8) {
    sincos_any(x, s, c);
  } else {
    VecF64 low, high;
    widen(x, low, high);
    sincos_any(low, high, s, c);
  }
}

}  // namespace
}  // namespace tfcore
