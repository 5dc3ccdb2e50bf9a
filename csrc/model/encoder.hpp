#pragma once
// The encoder of BERT and its kin: embeddings, then post-norm blocks, over packed sequences (Devlin et al. 2019).
//
//   h = layer_norm(word[id] + position[p] + token_type[t])
//   h = layer_norm(h + W_o attention(h W_qkv))
//   h = layer_norm(h + W_down activation(W_up h))
//
// A batch is one (tokens, C) matrix with cu_seqlens: there is no padding anywhere in here.
#include <vector>

#include "dispatch/operators.hpp"

namespace tfcore {

struct Linear {
  PackedMatrix<float> weight;
  std::vector<float> bias;
};

struct Norm {
  std::vector<float> weight, bias;
};

struct EncoderLayer {
  Linear qkv;  // query, key and value rows one after the other: (3 C, C)
  Linear output, up, down;
  Norm attention_norm, norm;
};

struct Embeddings {
  Index vocabulary, positions, token_types;
  std::vector<float> word, position, token_type;  // (size, C)
  Norm norm;
};

// A batch of packed sequences: sequence b is the tokens cu_seqlens[b] to cu_seqlens[b + 1].
struct PackedBatch {
  const Index* ids;
  const Index* token_types;
  const Index* positions;
  const Index* cu_seqlens;
  Index sequences;

  Index tokens() const { return cu_seqlens[sequences]; }
  Index longest() const;
};

class Encoder {
 public:
  Encoder(Embeddings embeddings, std::vector<EncoderLayer> layers, Index width, Index heads, float eps,
          Activation activation);

  Index width() const { return width_; }
  Index heads() const { return heads_; }
  Index layers() const { return Index(layers_.size()); }
  const Embeddings& embeddings() const { return embeddings_; }
  double flops(const PackedBatch& batch) const;

  // hidden[i] (tokens, C) takes the embeddings (i = 0) and each layer's output; null where it is not wanted, but for
  // the last. attentions[i] (B, H, longest, longest), zero on entry, takes layer i's weights; empty where not wanted.
  void forward(const PackedBatch& batch, const std::vector<float*>& hidden,
               const std::vector<float*>& attentions) const;

 private:
  struct Buffers;
  void embed(const PackedBatch& batch, float* out) const;
  void attend(const PackedBatch& batch, const float* qkv, float* out, float* weights) const;
  void run_layer(const EncoderLayer& layer, const PackedBatch& batch, const Buffers& buffers, const float* in,
                 float* out, float* weights) const;

  Embeddings embeddings_;
  std::vector<EncoderLayer> layers_;
  Index width_, heads_;
  float eps_;
  Activation activation_;
};

}  // namespace tfcore
