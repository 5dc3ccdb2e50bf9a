#pragma once
// A stack of transformer blocks between embeddings and a last norm: an encoder or a decoder, in one call.
//
//   x = norm(word[id] * scale + token_type[t] + position[p])   [W]
//   x = block_i(x)  for every block
//   x = norm(x)
//
// A batch is one (T, C) matrix with cu_seqlens: there is no padding anywhere in here.
#include <optional>
#include <vector>

#include "model/block.hpp"
#include "model/cache.hpp"

namespace tfcore {

// Rows to look up and add, as their file stores them; an absent table is empty.
struct Table {
  Index rows = 0, width = 0;
  Stored kind = Stored::f32;
  std::vector<std::uint8_t> bytes;

  // In float32: where it lies, or widened into `room`.
  const float* row(Index i, float* room) const;
};

struct Embeddings {
  Index width;  // of the tables
  Index vocabulary;
  Table word;  // empty where the rows of `head` are the words
  Table position, token_type;
  float scale;  // of the words
  Norm norm;
  std::optional<Linear> projection;  // from the tables' width to the blocks'
};

struct StackParts {
  Index width;
  NormKind norm;
  float eps;
  Embeddings embeddings;
  std::vector<Block> blocks;
  Norm final_norm;
  std::optional<Linear> head;  // words' logits, (V, C)
};

// One kind of rotation: the frequencies of all sequences, or of each, where they depend on a text's length.
struct Rotation {
  Index rotary;
  bool interleaved;
  bool each;
  const double* frequencies;  // (rotary / 2,), or (B, rotary / 2)
  const double* magnitude;    // (1,), or (B,)
};

// bias[h][j - i + reach]: what joins the score of query i and key j at positions of their texts.
struct RelativeBias {
  const float* bias = nullptr;  // (H, 2 * reach + 1)
  Index reach = 0;
};

// Every block's keys and values of the encoder's tokens, (tokens, 2 G D) each; of a block without cross-attention none.
struct CrossKeys {
  Index key_width = 0;  // G D
  std::vector<AlignedArray<float>> blocks;
  std::vector<Index> cu_seqlens;

  CrossKeys() = default;
  CrossKeys(CrossKeys&&) = default;
  CrossKeys(const CrossKeys&) = delete;
};

// A batch of packed sequences: sequence b is the tokens cu_seqlens[b] to cu_seqlens[b + 1].
struct Batch {
  const Index* ids;
  const Index* token_types;  // or null
  const Index* positions;    // rows of the position table
  const double* turns;       // positions of the rotations
  const Index* cu_seqlens;
  Index sequences;
  std::vector<Rotation> rotations;
  RelativeBias relative;
  Cache* cache = nullptr;  // the tokens follow what is in it and join it
  const CrossKeys* cross = nullptr;
  const Index* sources = nullptr;  // which of the encoder's texts each sequence attends to
  const Index* seen = nullptr;     // how many of each sequence's first tokens are attended to; all, if null

  Index tokens() const { return cu_seqlens[sequences]; }
  Index count(Index b) const { return cu_seqlens[b + 1] - cu_seqlens[b]; }
  Index keys(Index b) const { return past(b) + (seen ? seen[b] : count(b)); }
  Index past(Index b) const { return cache ? cache->length(b) : 0; }
  Index source_length(Index b) const { return cross->cu_seqlens[sources[b] + 1] - cross->cu_seqlens[sources[b]]; }
};

// Where a forward pass leaves what it found; entries that are not wanted are null, lists that are not wanted empty.
struct Results {
  std::vector<float*> hidden;            // blocks + 1 of (T, C): the embeddings, each block's output, the last normed
  std::vector<float*> attentions;        // a block (B, H, queries, keys), zero on entry
  std::vector<float*> cross_attentions;  // likewise over the encoder's tokens
  Index queries = 0, keys = 0, sources = 0;  // of their rows and columns: the longest of the batch
};

class Stack {
 public:
  explicit Stack(StackParts parts);

  const StackParts& parts() const { return parts_; }
  Index width() const { return parts_.width; }
  Index blocks() const { return Index(parts_.blocks.size()); }

  void forward(const Batch& batch, const Results& results) const;
  CrossKeys cross_keys(const float* encoded, std::vector<Index> cu_seqlens) const;
  void logits(const float* x, Index rows, float* out) const;  // (rows, C) → (rows, V)

 private:
  void embed(const Batch& batch, float* out) const;

  StackParts parts_;
};

}  // namespace tfcore
