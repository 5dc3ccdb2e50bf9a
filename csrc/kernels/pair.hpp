#pragma once
// Pairs: a number as the sum of two doubles, the second some 2^-53 of the first. Sines and cosines of pairs, as pairs:
//
//   sin r = r (1 + y (1/3! + y (1/5! + ...)))    cos r = 1 + y (1/2! + y (1/4! + ...))    y = -r^2, |r| <= pi/4
//
// The first terms are pairs, the rest doubles: the error is below 2^-70. Sums and products of pairs are those of
// Dekker 1971, "A floating-point technique for extending the available precision", and Knuth, TAOCP 2, 4.2.2.
#include "kernels/sine.hpp"

namespace tfcore {
namespace {

struct Pair {
  VecF64 high, low;
};

// a + b exactly; the shorter form where |a| >= |b|.
TFCORE_INLINE Pair add(VecF64 a, VecF64 b) {
  const VecF64 sum = a + b, b_part = sum - a;
  return {sum, (a - (sum - b_part)) + (b - b_part)};
}
TFCORE_INLINE Pair add_smaller(VecF64 a, VecF64 b) {
  const VecF64 sum = a + b;
  return {sum, b - (sum - a)};
}

// a b - product exactly, where product is a b as rounded.
TFCORE_INLINE VecF64 rounded_off(VecF64 a, VecF64 b, VecF64 product) {
  if constexpr (kFused) return fma(a, b, -product);
  const double split = 0x1p27 + 1;  // into halves of 26 bits, whose products are exact
  const VecF64 a_high = a * split - (a * split - a), b_high = b * split - (b * split - b);
  const VecF64 a_low = a - a_high, b_low = b - b_high;
  return ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low;
}

TFCORE_INLINE Pair operator*(Pair a, Pair b) {
  const VecF64 high = a.high * b.high;
  return {high, fma(a.high, b.low, fma(a.low, b.high, rounded_off(a.high, b.high, high)))};
}

// 1 / n! + y (1 / (n + 2)! + ...): the terms from 1/8! on as doubles, up to 1/20!.
constexpr double kReciprocals[][2] = {{1, 0},
                                      {1, 0},
                                      {0.5, 0},
                                      {0.16666666666666666, 9.25185853854297e-18},
                                      {0.041666666666666664, 2.3129646346357427e-18},
                                      {0.0083333333333333332, 1.1564823173178714e-19},
                                      {0.0013888888888888889, -5.3005439543735771e-20},
                                      {0.0001984126984126984, 1.7209558293420705e-22}};
constexpr int kPairTerms = 8, kLastTerm = 20;
constexpr double reciprocal(int n) { return n < kPairTerms ? kReciprocals[n][0] : reciprocal(n - 1) / n; }

template <int n> TFCORE_INLINE VecF64 taylor_tail(VecF64 y) {
  if constexpr (n + 2 > kLastTerm) return splat(reciprocal(n));
  else return fma(y, taylor_tail<n + 2>(y), splat(reciprocal(n)));
}
template <int n> TFCORE_INLINE Pair taylor(Pair y) {
  Pair next{};
  if constexpr (n + 2 < kPairTerms) next = y * taylor<n + 2>(y);
  else next.high = y.high * taylor_tail<n + 2>(y.high);
  const Pair sum = add_smaller(splat(kReciprocals[n][0]), next.high);
  return {sum.high, sum.low + (next.low + kReciprocals[n][1])};
}

// Sine and cosine of an angle, as Pair or VecF64.
template <class Number> struct Sines {
  Number sine, cosine;
};

// Of x.high + x.low, |x.high| <= kSinCosLimit, where x.low is at most of the size of x.high's last place.
TFCORE_INLINE Sines<Pair> sines_of(Pair x) {
  VecF64 rounded, r, e;
  reduce_angle(x.high, rounded, r, e);
  const Pair angle = add(r, e + x.low), square = angle * angle, y = {-square.high, -square.low};
  const Pair s = angle * taylor<1>(y), c = taylor<0>(y);
  Sines<Pair> turned;
  turn_quadrants<double>(bits<double>(rounded), s.high, c.high, turned.sine.high, turned.cosine.high);
  turn_quadrants<double>(bits<double>(rounded), s.low, c.low, turned.sine.low, turned.cosine.low);
  return turned;
}

// x in [-1, 1] as a multiple of 2^-26 and the rest: a b + c d of such multiples is exact, with or without FMA.
TFCORE_INLINE Pair on_grid(Pair x) {
  const double round = 0x1.8p26;  // whose last place is 2^-26
  const VecF64 high = (x.high + round) - round;
  return {high, (x.high - high) + x.low};
}
TFCORE_INLINE Sines<Pair> on_grid(Sines<Pair> a) { return {on_grid(a.sine), on_grid(a.cosine)}; }
TFCORE_INLINE Sines<VecF64> on_grid(Sines<VecF64> a) { return a; }

TFCORE_INLINE VecF64 nearest(Pair x) { return x.high + x.low; }
TFCORE_INLINE Sines<VecF64> nearest(Sines<Pair> a) { return {nearest(a.sine), nearest(a.cosine)}; }

// Of the sum of two angles: as doubles; or as pairs on the grid, with an error of 2^-74 beside those that they carry.
TFCORE_INLINE Sines<VecF64> turn(Sines<VecF64> a, Sines<VecF64> b) {
  return {fma(a.sine, b.cosine, a.cosine * b.sine), fma(a.cosine, b.cosine, -(a.sine * b.sine))};
}
TFCORE_INLINE Sines<Pair> turn(Sines<Pair> a, Sines<Pair> b) {
  const Sines<VecF64> high = turn({a.sine.high, a.cosine.high}, {b.sine.high, b.cosine.high}), all_b = nearest(b);
  return {{high.sine, fma(a.sine.high, b.cosine.low, a.sine.low * all_b.cosine) +
                          fma(a.cosine.high, b.sine.low, a.cosine.low * all_b.sine)},
          {high.cosine, fma(a.cosine.high, b.cosine.low, a.cosine.low * all_b.cosine) -
                            fma(a.sine.high, b.sine.low, a.sine.low * all_b.sine)}};
}

// Of the sum of an angle and a tiny e.
TFCORE_INLINE Sines<VecF64> turn_by(Sines<VecF64> a, VecF64 e) {
  return {fma(e, a.cosine, a.sine), fma(-e, a.sine, a.cosine)};
}

// Of the sum of two angles and a tiny e. Where one result alone is used, its derivative follows from the nearest
// doubles of a and b in fewer steps than from its own pair.
template <bool both> TFCORE_INLINE Sines<VecF64> turn(Sines<VecF64> a, Sines<VecF64> b, VecF64 e) {
  return turn_by(turn(a, b), e);
}
template <bool both> TFCORE_INLINE Sines<VecF64> turn(Sines<Pair> a, Sines<Pair> b, VecF64 e) {
  const Sines<Pair> sum = turn(a, b);
  const Sines<VecF64> near = both ? nearest(sum) : turn(nearest(a), nearest(b));
  return {sum.sine.high + fma(e, near.cosine, sum.sine.low), sum.cosine.high + fma(-e, near.sine, sum.cosine.low)};
}

}  // namespace
}  // namespace tfcore
