#include "model/cache.hpp"

#include <cstring>
#include <set>

namespace tfcore {

Cache::Cache(Index layers, Index heads, Index head_size, Index sequences)
    : layers_(layers), heads_(heads), head_size_(head_size), sequences_(std::size_t(sequences)) {}

void Cache::Sequence::set(std::size_t i, Chunk chunk) {
  if (i == chunks.size()) chunks.emplace_back(), starts.emplace_back();
  starts[i] = chunk.get(), chunks[i] = std::move(chunk);
}

void Cache::Sequence::keep(Index count) {
  if (Index(chunks.size()) > count) chunks.resize(std::size_t(count)), starts.resize(std::size_t(count));
}

Cache::Chunk Cache::new_chunk() const {
  return allocate_aligned<float>(std::size_t(layers_ * 2 * heads_ * head_stride()));
}

Cache::Chunk Cache::copy(const Chunk& chunk, Index positions) const {
  Chunk fresh = new_chunk();
  for (Index i = 0; i < layers_ * 2 * heads_; ++i)
    std::memcpy(fresh.get() + i * head_stride(), chunk.get() + i * head_stride(),
                std::size_t(positions * head_size_) * sizeof(float));
  return fresh;
}

void Cache::select(const std::vector<Index>& parents) {
  std::vector<Sequence> chosen;
  for (Index parent : parents) chosen.push_back(sequences_[parent]);
  sequences_ = std::move(chosen);
}

void Cache::reserve(Index sequence, Index count) {
  Sequence& s = sequences_[sequence];
  s.keep((s.length + kKeyBlock - 1) / kKeyBlock);  // a pass that failed may have left more, shared since
  const std::size_t last = std::size_t(s.length / kKeyBlock);
  if (count > 0 && last < s.chunks.size() && s.chunks[last].use_count() > 1)
    s.set(last, copy(s.chunks[last], s.length % kKeyBlock));
  while (Index(s.chunks.size()) * kKeyBlock < s.length + count) s.set(s.chunks.size(), new_chunk());
}

std::size_t Cache::bytes() const {
  std::set<const void*> chunks;
  for (const Sequence& s : sequences_) chunks.insert(s.starts.begin(), s.starts.end());
  return chunks.size() * std::size_t(layers_ * 2 * heads_ * head_stride()) * sizeof(float);
}

}  // namespace tfcore
