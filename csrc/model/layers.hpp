#pragma once
// The layers of a block on rows of tokens: products with what follows them, norms, sums.
#include "model/block.hpp"

namespace tfcore {

// out (rows, N) = activation(x (rows, K) @ weight.T + bias) + residual
void apply(const Linear& linear, Index rows, const float* x, float* out, Activation activation = Activation::none,
           const float* residual = nullptr);

// out (rows, inner) = activation(x @ gate.T) * (x @ up.T); `wide` (rows, N) is scratch
void apply_gated(const Linear& linear, Index rows, const float* x, float* wide, float* out, Index inner,
                 Activation activation);

// out (rows, width) = norm(x); x may be out
void apply(const Norm& norm, NormKind kind, float eps, Index rows, Index width, const float* x, float* out);

// out = x + y, count elements; either may be out
void add(const float* x, const float* y, float* out, Index count);

}  // namespace tfcore
