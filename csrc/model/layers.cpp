#include "model/layers.hpp"

#include <algorithm>

namespace tfcore {
namespace {

GemmArgs<float> product(const Linear& linear, Index rows, const float* x, float* out, Activation activation) {
  GemmArgs<float> g = linear.weight.product(rows, x, linear.weight.k(), out);
  g.bias = linear.bias.empty() ? nullptr : linear.bias.data();
  g.activation = activation;
  return g;
}

}  // namespace

void apply(const Linear& linear, Index rows, const float* x, float* out, Activation activation, const float* residual) {
  GemmArgs<float> g = product(linear, rows, x, out, activation);
  g.residual = residual;
  gemm(g);
}

void apply_gated(const Linear& linear, Index rows, const float* x, float* wide, float* out, Index inner,
                 Activation activation) {
  GemmArgs<float> g = product(linear, rows, x, wide, activation);
  g.gated = out, g.gated_width = inner;
  gemm(g);
}

void apply(const Norm& norm, NormKind kind, float eps, Index rows, Index width, const float* x, float* out) {
  NormArgs<float> a{width, x, out, norm.weight.data(), norm.bias.empty() ? nullptr : norm.bias.data(), eps};
  norm_rows(kind, a, rows);
}

void add(const float* x, const float* y, float* out, Index count) {
  constexpr Index kBlock = 8192;
  parallel_for((count + kBlock - 1) / kBlock, 8.0 * double(count), 0, [&](Index task, void*) {
    const Index end = std::min(count, (task + 1) * kBlock);
    for (Index i = task * kBlock; i < end; ++i) out[i] = x[i] + y[i];
  });
}

}  // namespace tfcore
