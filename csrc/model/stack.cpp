#include "model/stack.hpp"

#include "model/pass.hpp"

namespace tfcore {
namespace {

// The linear layers that every pass reads: keys and values of an encoder's result are made once.
template <class F> void for_each_linear(StackParts& parts, F f) {
  if (parts.embeddings.projection) f(*parts.embeddings.projection);
  for (Block& block : parts.blocks) {
    f(block.attention.qkv), f(block.attention.output);
    if (block.cross) f(block.cross->query), f(block.cross->output);
    f(block.feed_forward.up), f(block.feed_forward.down);
  }
  if (parts.head) f(*parts.head);
}

}  // namespace

const float* Table::row(Index i, float* room) const {
  const std::uint8_t* const stored = bytes.data() + i * stored_row_bytes(kind, width);
  if (kind == Stored::f32) return reinterpret_cast<const float*>(stored);
  kernels().dequantize(kind, stored, room, 0, width / kStoredForms[int(kind)].numbers);
  return room;
}

Stack::Stack(StackParts parts) : parts_(std::move(parts)) {
  std::size_t bytes = 0;
  for_each_linear(parts_, [&](Linear& linear) { bytes += linear.weight.bytes(); });
  if (bytes > kFarBytes) for_each_linear(parts_, [](Linear& linear) { linear.weight.set_far(); });
}

void Stack::embed(const Batch& batch, float* out) const {
  const Embeddings& e = parts_.embeddings;
  const Index tokens = batch.tokens(), width = e.width;
  AlignedArray<float> unprojected;
  if (e.projection) unprojected = allocate_aligned<float>(std::size_t(tokens * width));
  float* const x = unprojected ? unprojected.get() : out;
  const auto word_of = [&](Index id, float* room) -> const float* {
    if (e.word.rows) return e.word.row(id, room);
    parts_.head->weight.row(id, room);
    return room;
  };
  const auto type_of = [&](Index token, float* room) -> const float* {
    if (!batch.token_types) return nullptr;
    const Index type = batch.token_types[token];
    return e.token_type.rows ? e.token_type.row(type, room) : word_of(type, room);
  };
  const std::size_t room = std::size_t(2 * width) * sizeof(float);
  parallel_for(tokens, 8.0 * double(tokens) * double(width), room, [&](Index token, void* scratch) {
    float* const row = x + token * width;
    const float* word = word_of(batch.ids[token], row);
    float* const rooms = static_cast<float*>(scratch);
    const float* type = type_of(token, rooms);
    const float* position = e.position.rows ? e.position.row(batch.positions[token], rooms + width) : nullptr;
    for (Index c = 0; c < width; ++c) row[c] = e.scale * word[c];
    if (type)
      for (Index c = 0; c < width; ++c) row[c] += type[c];
    if (position)
      for (Index c = 0; c < width; ++c) row[c] += position[c];
  });
  if (e.norm) apply(e.norm, parts_.norm, parts_.eps, tokens, width, x, x);
  if (unprojected) apply(*e.projection, tokens, x, out);
}

void Stack::forward(const Batch& batch, const Results& results) const {
  if (batch.cache) batch.cache->reserve(batch.cu_seqlens);
  const std::vector<float*>& hidden = results.hidden;
  float* const last = hidden.back();
  float* x = hidden.front() ? hidden.front() : last;
  embed(batch, x);
  const Pass pass(parts_, batch, results);
  for (Index i = 0; i < blocks(); ++i) {
    float* const out = hidden[i + 1] ? hidden[i + 1] : last;
    pass.run(i, x, out);
    x = out;
  }
  if (parts_.final_norm) apply(parts_.final_norm, parts_.norm, parts_.eps, batch.tokens(), width(), last, last);
  for (Index b = 0; batch.cache && b < batch.sequences; ++b) batch.cache->extend(b, batch.count(b));
}

CrossKeys Stack::cross_keys(const float* encoded, std::vector<Index> cu_seqlens) const {
  CrossKeys keys;
  const Index tokens = cu_seqlens.back();
  keys.key_width = parts_.blocks.front().spec.key_width();
  for (const Block& block : parts_.blocks) {
    keys.blocks.emplace_back();
    if (!block.cross) continue;
    const Linear& key_value = block.cross->key_value;
    keys.blocks.back() = allocate_aligned<float>(std::size_t(tokens * key_value.weight.n()));
    apply(key_value, tokens, encoded, keys.blocks.back().get());
  }
  keys.cu_seqlens = std::move(cu_seqlens);
  return keys;
}

void Stack::logits(const float* x, Index rows, float* out) const { apply(*parts_.head, rows, x, out); }

}  // namespace tfcore
