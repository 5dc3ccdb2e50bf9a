#include "model/cache.hpp"

#include <algorithm>
#include <cstring>
#include <map>
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

Cache::Chunk Cache::take_chunk() {
  if (spare_.empty()) return allocate_aligned<float>(std::size_t(chunk_rows() * head_stride()));
  Chunk chunk = std::move(spare_.back());
  spare_.pop_back();
  return chunk;
}

void Cache::select(const std::vector<Index>& parents) {
  std::vector<Sequence> chosen;
  for (Index parent : parents) chosen.push_back(sequences_[parent]);
  spare_.reserve(parents.size());  // the last that may fail
  sequences_.swap(chosen);
  spare_.resize(std::min(spare_.size(), sequences_.size()));
  for (Sequence& left : chosen)
    for (Chunk& chunk : left.chunks)
      if (chunk.use_count() == 1 && spare_.size() < sequences_.size()) spare_.push_back(std::move(chunk));
      else chunk.reset();
}

void Cache::reserve(const Index* cu_seqlens) {
  for (Sequence& s : sequences_)  // a pass that failed may have left more, shared since
    s.keep((s.length + kKeyBlock - 1) / kKeyBlock);
  std::vector<Copy> copies = plan_copies(cu_seqlens);
  copy_positions(copies);
  for (Copy& copy : copies) sequences_[copy.sequence].set(copy.place, std::move(copy.fresh));
  for (Index i = 0; i < sequences(); ++i) {
    Sequence& s = sequences_[i];
    const Index length = s.length + cu_seqlens[i + 1] - cu_seqlens[i];
    while (Index(s.chunks.size()) * kKeyBlock < length) s.set(s.chunks.size(), take_chunk());
  }
}

// The last of those that hold a chunk keeps it.
std::vector<Cache::Copy> Cache::plan_copies(const Index* cu_seqlens) {
  std::vector<Copy> copies;
  std::map<const float*, long> leaving;
  for (Index i = 0; i < sequences(); ++i) {
    const Sequence& s = sequences_[i];
    const std::size_t last = std::size_t(s.length / kKeyBlock);
    if (cu_seqlens[i + 1] == cu_seqlens[i] || last >= s.chunks.size()) continue;
    long& left = leaving[s.starts[last]];
    if (s.chunks[last].use_count() - left == 1) continue;
    copies.push_back({i, last, take_chunk()});
    ++left;
  }
  return copies;
}

void Cache::copy_positions(const std::vector<Copy>& copies) const {
  double positions = 0;
  for (const Copy& copy : copies) positions += double(sequences_[copy.sequence].length % kKeyBlock);
  const Index rows = 2 * heads_;  // of one layer
  parallel_for(
      Index(copies.size()) * layers_, 8.0 * positions * double(chunk_rows() * head_size_), 0, [&](Index task, void*) {
        const Copy& copy = copies[std::size_t(task / layers_)];
        const Sequence& s = sequences_[copy.sequence];
        const std::size_t bytes = std::size_t(s.length % kKeyBlock * head_size_) * sizeof(float);
        const Index first = task % layers_ * rows;
        for (Index row = first; row < first + rows; ++row)
          std::memcpy(copy.fresh.get() + row * head_stride(), s.starts[copy.place] + row * head_stride(), bytes);
      });
}

std::size_t Cache::bytes() const {
  std::set<const void*> chunks;
  for (const Chunk& chunk : spare_) chunks.insert(chunk.get());
  for (const Sequence& s : sequences_) chunks.insert(s.starts.begin(), s.starts.end());
  return chunks.size() * std::size_t(chunk_rows() * head_stride()) * sizeof(float);
}

}  // namespace tfcore
