#pragma once
// The keys and values of texts in progress.
//
// A sequence owns chunks of kKeyBlock positions, each with the keys and values of all layers: (layers, 2, G, kKeyBlock,
// D). It grows by a chunk at a time, and what is in one never moves. Copies of a sequence share its chunks; who writes
// to a shared one takes a copy of that one first. Chunks that nobody holds any more wait for the next such copy: a step
// of beams copies some and lets go of as many, and fresh pages would take longer than the copying.
#include <memory>
#include <vector>

#include "core/memory.hpp"
#include "dispatch/operators.hpp"

namespace tfcore {

class Cache {
 public:
  Cache(Index layers, Index heads, Index head_size, Index sequences);

  Index sequences() const { return Index(sequences_.size()); }
  Index length(Index sequence) const { return sequences_[sequence].length; }
  Index layers() const { return layers_; }
  Index heads() const { return heads_; }
  Index head_size() const { return head_size_; }
  std::size_t bytes() const;  // of all chunks, shared ones once, those that wait too

  // Sequence i becomes a copy of the old sequence parents[i].
  void select(const std::vector<Index>& parents);

  // Makes room in every sequence for as many more positions as lie between its borders (sequences + 1,). They count
  // once `extend` is called.
  void reserve(const Index* cu_seqlens);
  void extend(Index sequence, Index count) { sequences_[sequence].length += count; }

  // Where a position's key of head 0 belongs; the heads' are kKeyBlock * D apart, its value is value_offset further.
  float* key(Index sequence, Index layer, Index position) const {
    return sequences_[sequence].starts[position / kKeyBlock] + key_offset(layer, 0) + position % kKeyBlock * head_size_;
  }
  Index head_stride() const { return kKeyBlock * head_size_; }
  Index value_offset() const { return heads_ * head_stride(); }
  Index key_offset(Index layer, Index head) const { return (layer * 2 * heads_ + head) * head_stride(); }
  const float* const* chunks(Index sequence) const { return sequences_[sequence].starts.data(); }

 private:
  using Chunk = std::shared_ptr<float[]>;
  struct Sequence {
    Index length = 0;
    std::vector<Chunk> chunks;
    std::vector<float*> starts;  // of the chunks, as kernels want them
    void set(std::size_t i, Chunk chunk);
    void keep(Index count);
  };
  // A sequence's last chunk, which others hold too, and the one that takes its place.
  struct Copy {
    Index sequence;
    std::size_t place;
    Chunk fresh;
  };
  Index chunk_rows() const { return layers_ * 2 * heads_; }  // of positions
  Chunk take_chunk();
  std::vector<Copy> plan_copies(const Index* cu_seqlens);
  void copy_positions(const std::vector<Copy>& copies) const;

  Index layers_, heads_, head_size_;
  std::vector<Sequence> sequences_;
  std::vector<Chunk> spare_;  // at most one a sequence
};

}  // namespace tfcore
