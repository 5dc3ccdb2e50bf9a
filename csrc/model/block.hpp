#pragma once
// One transformer block as data: what every family of models maps onto. x (T, C) are the tokens of all sequences.
//
//   attention:     x = residual(x, attend(turn(head_norm(q)), turn(head_norm(k)), v) W_o)
//                  q, k, v = before(x) W_qkv
//
//   cross:         x = residual(x, attend(before(x) W_q, the encoder's keys and values) W_o)
//                  where there is an encoder
//
//   feed-forward:  x = residual(x, (activation(before(x) W_gate) * (before(x) W_up)) W_down)
//                  or activation(before(x) W_up) W_down
//
//   residual(x, y) = after(x + branch(y));  before, branch and after are a norm each, or nothing: before alone is a
//   pre-norm block, after alone a post-norm one. A parallel block feeds the feed-forward what its attention was fed.
#include <optional>
#include <vector>

#include "dispatch/operators.hpp"

namespace tfcore {

struct Linear {
  PackedMatrix<float> weight;
  std::vector<float> bias;  // (N,) or empty
};

struct Norm {
  std::vector<float> weight, bias;  // (width,); no bias: empty; no norm: both empty
  explicit operator bool() const { return !weight.empty(); }
};

struct Norms {
  Norm before, branch, after;
};

// The numbers of a block.
struct BlockSpec {
  Index inner;  // width of the feed-forward layer
  Index heads, key_heads, head_size;
  NormKind norm;
  float eps;
  bool parallel;
  Activation activation;
  float scale, softcap;
  bool causal;
  Index left, right;  // the window: keys further to a side are hidden; negative: no bound
  Index rotary;       // which of the batch's rotations turns queries and keys; negative: none
  bool relative;      // the stack's relative bias joins the scores

  Index query_width() const { return heads * head_size; }
  Index key_width() const { return key_heads * head_size; }
  Index qkv_width() const { return query_width() + 2 * key_width(); }
};

struct SelfAttention {
  Norms norms;
  Linear qkv;                 // rows of queries, keys, values, one after the other
  Norm query_norm, key_norm;  // over each head, (D,)
  Linear output;
};

struct CrossAttention {
  Norms norms;
  Linear query, key_value;  // rows of keys, then of values
  Linear output;
};

struct FeedForward {
  Norms norms;
  Linear up;  // gated: panels of W_gate and W_up in turn
  bool gated;
  Linear down;
};

struct Block {
  BlockSpec spec;
  SelfAttention attention;
  std::optional<CrossAttention> cross;
  FeedForward feed_forward;
};

}  // namespace tfcore
