#include "model/encoder.hpp"

#include <algorithm>
#include <cmath>

namespace tfcore {
namespace {

// out = activation(in @ weight.T + bias) + residual, (tokens, N)
void apply(const Linear& linear, Index tokens, const float* in, float* out, Activation activation = Activation::none,
           const float* residual = nullptr) {
  GemmArgs<float> g = linear.weight.product(tokens, in, linear.weight.k(), out, linear.weight.n());
  g.bias = linear.bias.data();
  g.activation = activation;
  g.residual = residual, g.residual_row = linear.weight.n();
  gemm(g);
}

void apply(const Norm& norm, Index tokens, Index width, float eps, const float* in, float* out) {
  layer_norm(NormArgs<float>{width, in, out, norm.weight.data(), norm.bias.data(), eps}, tokens);
}

}  // namespace

Index PackedBatch::longest() const {
  Index most = 0;
  for (Index b = 0; b < sequences; ++b) most = std::max(most, cu_seqlens[b + 1] - cu_seqlens[b]);
  return most;
}

// What a layer needs beside its input and output; one allocation a forward pass, reused by every layer.
struct Encoder::Buffers {
  AlignedArray<float> storage;
  float *wide, *context, *sum, *middle;  // (tokens, max(3 C, F)), and (tokens, C) three times

  Buffers(Index tokens, Index width, Index widest)
      : storage(allocate_aligned<float>(std::size_t(tokens * (widest + 3 * width)))), wide(storage.get()),
        context(wide + tokens * widest), sum(context + tokens * width), middle(sum + tokens * width) {}
};

Encoder::Encoder(Embeddings embeddings, std::vector<EncoderLayer> layers, Index width, Index heads, float eps,
                 Activation activation)
    : embeddings_(std::move(embeddings)), layers_(std::move(layers)), width_(width), heads_(heads), eps_(eps),
      activation_(activation) {}

double Encoder::flops(const PackedBatch& batch) const {
  double weights = 0, scores = 0;
  for (const EncoderLayer& layer : layers_) weights += double(width_) * double(4 * width_ + 2 * layer.up.weight.n());
  for (Index b = 0; b < batch.sequences; ++b)
    scores += std::pow(double(batch.cu_seqlens[b + 1] - batch.cu_seqlens[b]), 2);
  return 2 * weights * double(batch.tokens()) + 4 * scores * double(width_) * double(layers_.size());
}

void Encoder::embed(const PackedBatch& batch, float* out) const {
  parallel_for(batch.tokens(), 8.0 * double(batch.tokens()) * double(width_), 0, [&](Index token, void*) {
    const float* word = embeddings_.word.data() + batch.ids[token] * width_;
    const float* position = embeddings_.position.data() + batch.positions[token] * width_;
    const float* type = embeddings_.token_type.data() + batch.token_types[token] * width_;
    for (Index c = 0; c < width_; ++c) out[token * width_ + c] = (word[c] + type[c]) + position[c];
  });
  apply(embeddings_.norm, batch.tokens(), width_, eps_, out, out);
}

// qkv (tokens, 3 C) is read in place: head h of token t is a slice of its row.
void Encoder::attend(const PackedBatch& batch, const float* qkv, float* out, float* weights) const {
  const Index head_size = width_ / heads_, longest = weights ? batch.longest() : 0;
  attention<float>(batch.sequences * heads_, [&](Index group) {
    const Index b = group / heads_, h = group % heads_, first = batch.cu_seqlens[b];
    AttentionArgs<float> a{};
    a.heads = 1, a.queries = a.keys = a.key_count = batch.cu_seqlens[b + 1] - first;
    a.head_size = a.value_size = head_size;
    a.q_row = a.k_row = a.v_row = 3 * width_;
    a.q = qkv + first * 3 * width_ + h * head_size;
    a.k = a.q + width_, a.v = a.k + width_;
    a.out_row = width_, a.out = out + first * width_ + h * head_size;
    if (weights) a.weights_row = longest, a.weights = weights + group * longest * longest;
    a.left = a.right = a.keys;
    a.scale = float(1.0 / std::sqrt(double(head_size)));
    return a;
  });
}

void Encoder::run_layer(const EncoderLayer& layer, const PackedBatch& batch, const Buffers& buffers, const float* in,
                        float* out, float* weights) const {
  const Index tokens = batch.tokens();
  apply(layer.qkv, tokens, in, buffers.wide);
  attend(batch, buffers.wide, buffers.context, weights);
  apply(layer.output, tokens, buffers.context, buffers.sum, Activation::none, in);
  apply(layer.attention_norm, tokens, width_, eps_, buffers.sum, buffers.middle);
  apply(layer.up, tokens, buffers.middle, buffers.wide, activation_);
  apply(layer.down, tokens, buffers.wide, buffers.sum, Activation::none, buffers.middle);
  apply(layer.norm, tokens, width_, eps_, buffers.sum, out);
}

void Encoder::forward(const PackedBatch& batch, const std::vector<float*>& hidden,
                      const std::vector<float*>& attentions) const {
  Index widest = 3 * width_;
  for (const EncoderLayer& layer : layers_) widest = std::max(widest, layer.up.weight.n());
  const Buffers buffers(batch.tokens(), width_, widest);
  float* const last = hidden.back();
  const float* in = hidden.front() ? hidden.front() : last;
  embed(batch, hidden.front() ? hidden.front() : last);
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    float* const out = hidden[i + 1] ? hidden[i + 1] : last;
    run_layer(layers_[i], batch, buffers, in, out, attentions.empty() ? nullptr : attentions[i]);
    in = out;
  }
}

}  // namespace tfcore
