#pragma once
// One forward pass of a batch through the blocks of a stack, and what it needs on the way.
#include "core/kept.hpp"
#include "model/layers.hpp"
#include "model/stack.hpp"

namespace tfcore {

class Pass {
 public:
  Pass(const StackParts& parts, const Batch& batch, const Results& results);

  // out (T, C) = block i of x (T, C); the two may be the same memory
  void run(Index i, const float* x, float* out) const;

 private:
  // What a token needs at a time, in floats, and where that of all tokens lies; reused by every block. Nothing that no
  // block needs has a width.
  struct Widths {
    Index wide, inner, normed, branch, first, second;
    Index sum() const { return wide + inner + normed + branch + first + second; }
  };
  struct Buffers {
    float *wide, *inner, *normed, *branch, *first, *second;
  };
  struct Tokens {
    Index first, count;
  };
  // Sequences one after another that attend to the same text of the encoder, as the beams of a search.
  struct Readers {
    Index first;  // of the sequences
    Tokens tokens;
  };
  static Widths widths(const StackParts& parts);
  Buffers place(float* from) const;
  std::vector<AlignedArray<float>> tabulate_rotations() const;
  std::vector<Readers> readers_together() const;
  Tokens tokens_of(Index b) const { return {batch_.cu_seqlens[b], batch_.count(b)}; }

  void attend_self(Index i, const float* x, float* out) const;
  void attend_encoder(Index i, const float* x, float* out) const;
  void feed_forward(Index i, const float* x, const float* residual, float* out) const;

  void prepare_heads(Index i, float* qkv) const;
  void attend(Index i, const float* qkv, float* out) const;
  static AttentionSizes sizes(const BlockSpec& s, Index queries, Index keys);
  AttentionArgs<float> arguments(const BlockSpec& s, Tokens queries, Index group, const float* q, Index q_row,
                                 float* out, Index keys) const;
  void write_weights(AttentionArgs<float>& a, const std::vector<float*>& weights, Index i, Index heads, Index b,
                     Index group, Index columns) const;

  const float* before(const Norms& norms, const BlockSpec& s, const float* x) const;
  void finish(const Norms& norms, const BlockSpec& s, const Linear& last, const float* x, const float* residual,
              float* out) const;

  const StackParts& parts_;
  const Batch& batch_;
  const Results& results_;
  Index tokens_;
  std::vector<Index> sequence_of_;  // of each token
  std::vector<AlignedArray<float>> turns_;
  std::vector<Readers> readers_;  // of the encoder's texts
  Widths widths_;
  Workspace workspace_;
  Buffers buffers_;
};

}  // namespace tfcore
