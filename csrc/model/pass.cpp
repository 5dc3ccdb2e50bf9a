#include "model/pass.hpp"

#include <algorithm>
#include <cstring>

namespace tfcore {

Pass::Pass(const StackParts& parts, const Batch& batch, const Results& results)
    : parts_(parts), batch_(batch), results_(results), tokens_(batch.tokens()), turns_(tabulate_rotations()),
      readers_(readers_together()), widths_(widths(parts)), workspace_(std::size_t(tokens_ * widths_.sum())),
      buffers_(place(workspace_.data())) {
  sequence_of_.reserve(std::size_t(tokens_));
  for (Index b = 0; b < batch.sequences; ++b) sequence_of_.insert(sequence_of_.end(), std::size_t(batch.count(b)), b);
}

// wide: queries, keys and values; then the feed-forward's first product. inner: what attention gives; then the gated.
Pass::Widths Pass::widths(const StackParts& parts) {
  Widths w{};
  w.first = parts.width;
  for (const Block& block : parts.blocks) {
    const FeedForward& f = block.feed_forward;
    w.wide = std::max({w.wide, block.attention.qkv.weight.n(), f.up.weight.n()});
    w.inner = std::max({w.inner, block.spec.query_width(), f.gated ? block.spec.inner : 0});
    if (block.cross) w.second = parts.width;
    const Norms* cross = block.cross ? &block.cross->norms : &f.norms;
    for (const Norms* norms : {&block.attention.norms, cross, &f.norms}) {
      if (norms->before) w.normed = parts.width;
      if (norms->branch) w.branch = parts.width;
    }
  }
  return w;
}

Pass::Buffers Pass::place(float* from) const {
  Buffers b;
  const auto next = [&](Index width) {
    float* const place = from;
    from += tokens_ * width;
    return place;
  };
  b.wide = next(widths_.wide), b.inner = next(widths_.inner), b.normed = next(widths_.normed);
  b.branch = next(widths_.branch), b.first = next(widths_.first), b.second = next(widths_.second);
  return b;
}

// Cosines and sines of all tokens once a pass, not once a block.
std::vector<AlignedArray<float>> Pass::tabulate_rotations() const {
  std::vector<AlignedArray<float>> tables;
  for (const Rotation& r : batch_.rotations) {
    tables.push_back(allocate_aligned<float>(std::size_t(tokens_ * r.rotary)));
    for (Index part = 0; part < (r.each ? batch_.sequences : 1); ++part) {
      const Index first = r.each ? batch_.cu_seqlens[part] : 0;
      RotaryArgs<float> a{};
      a.rows = r.each ? batch_.count(part) : tokens_, a.rotary = r.rotary;
      a.positions = batch_.turns + first;
      a.frequencies = r.frequencies + part * (r.rotary / 2), a.magnitude = r.magnitude[part];
      rotary_tables(a, tables.back().get() + first * r.rotary);
    }
  }
  return tables;
}

// Those that attend to one text share its keys, as heads of a group do: a step of 4 beams on each of 8 texts of 512
// tokens is 1.3 times as fast (T5-small). Apart where that would leave too few tasks, and where weights are asked for,
// which each sequence has for itself.
std::vector<Pass::Readers> Pass::readers_together() const {
  if (!batch_.cross) return {};
  std::vector<Readers> apart, together;
  for (Index b = 0; b < batch_.sequences; ++b) {
    apart.push_back({b, tokens_of(b)});
    if (b > 0 && batch_.sources[b] == batch_.sources[b - 1]) together.back().tokens.count += batch_.count(b);
    else together.push_back(apart.back());
  }
  const Index tasks = Index(together.size()) * parts_.blocks.front().spec.key_heads;
  const bool enough = tasks >= kGroupsPerThread * max_threads();
  return enough && results_.cross_attentions.empty() ? together : apart;
}

void Pass::run(Index i, const float* x, float* out) const {
  const Block& block = parts_.blocks[i];
  attend_self(i, x, buffers_.first);
  const float* sum = buffers_.first;
  if (block.cross) attend_encoder(i, sum, buffers_.second), sum = buffers_.second;
  feed_forward(i, block.spec.parallel ? x : sum, sum, out);
}

// --- the three parts of a block --------------------------------------------------------------------------------------

void Pass::attend_self(Index i, const float* x, float* out) const {
  const SelfAttention& a = parts_.blocks[i].attention;
  const BlockSpec& s = parts_.blocks[i].spec;
  apply(a.qkv, tokens_, before(a.norms, s, x), buffers_.wide);
  if (batch_.cache || s.rotary >= 0 || a.query_norm) prepare_heads(i, buffers_.wide);
  attend(i, buffers_.wide, buffers_.inner);
  finish(a.norms, s, a.output, buffers_.inner, x, out);
}

void Pass::attend_encoder(Index i, const float* x, float* out) const {
  const CrossAttention& a = *parts_.blocks[i].cross;
  const BlockSpec& s = parts_.blocks[i].spec;
  const Index row = 2 * s.key_width();
  apply(a.query, tokens_, before(a.norms, s, x), buffers_.wide);
  const auto sizes_of = [&](Index task) {
    const Readers& readers = readers_[std::size_t(task / s.key_heads)];
    return sizes(s, readers.tokens.count, batch_.source_length(readers.first));
  };
  attention<float>(Index(readers_.size()) * s.key_heads, sizes_of, [&](Index task) {
    const Readers& readers = readers_[std::size_t(task / s.key_heads)];
    const Index b = readers.first, group = task % s.key_heads;
    AttentionArgs<float> args =
        arguments(s, readers.tokens, group, buffers_.wide, s.query_width(), buffers_.inner, batch_.source_length(b));
    args.k = batch_.cross->blocks[i].get() + batch_.cross->cu_seqlens[batch_.sources[b]] * row + group * s.head_size;
    args.v = args.k + s.key_width();
    args.k_row = args.v_row = row;
    write_weights(args, results_.cross_attentions, i, s.heads, b, group, results_.sources);
    return args;
  });
  finish(a.norms, s, a.output, buffers_.inner, x, out);
}

// (All of it in one region, blocks of 24 to 96 rows one after the other through both products and the norm, is 0.96 to
// 1.00 times as fast at 8 x 128 tokens.)
void Pass::feed_forward(Index i, const float* x, const float* residual, float* out) const {
  const FeedForward& f = parts_.blocks[i].feed_forward;
  const BlockSpec& s = parts_.blocks[i].spec;
  const float* in = before(f.norms, s, x);
  if (f.gated) apply_gated(f.up, tokens_, in, buffers_.wide, buffers_.inner, s.inner, s.activation);
  else apply(f.up, tokens_, in, buffers_.wide, s.activation);
  finish(f.norms, s, f.down, f.gated ? buffers_.inner : buffers_.wide, residual, out);
}

const float* Pass::before(const Norms& norms, const BlockSpec& s, const float* x) const {
  if (!norms.before) return x;
  apply(norms.before, s.norm, s.eps, tokens_, parts_.width, x, buffers_.normed);
  return buffers_.normed;
}

// out = after(residual + branch(last(x)))
void Pass::finish(const Norms& norms, const BlockSpec& s, const Linear& last, const float* x, const float* residual,
                  float* out) const {
  const Index width = parts_.width;
  if (norms.branch) {
    apply(last, tokens_, x, buffers_.branch);
    apply(norms.branch, s.norm, s.eps, tokens_, width, buffers_.branch, buffers_.branch);
    add(residual, buffers_.branch, out, tokens_ * width);
  } else {
    apply(last, tokens_, x, out, Activation::none, residual);
  }
  if (norms.after) apply(norms.after, s.norm, s.eps, tokens_, width, out, out);
}

// --- attention -------------------------------------------------------------------------------------------------------

// Token by token: norms over heads, rotation, and the way of keys and values into the cache.
void Pass::prepare_heads(Index i, float* qkv) const {
  const SelfAttention& self = parts_.blocks[i].attention;
  const BlockSpec& s = parts_.blocks[i].spec;
  const Kernels<float>& kernel = kernels().of<float>();
  const Index turned = s.query_width() + s.key_width(), d = s.head_size;
  RotaryArgs<float> r{};
  if (s.rotary >= 0) {
    const Rotation& rotation = batch_.rotations[s.rotary];
    r.rows = tokens_, r.lead = s.heads + s.key_heads, r.width = d, r.rotary = rotation.rotary;
    r.interleaved = rotation.interleaved, r.tables = turns_[s.rotary].get();
    r.lead_stride = d;
  }
  const auto norm_heads = [&](const Norm& norm, const float* x, float* out, Index heads) {
    kernel.rms_norm(NormArgs<float>{d, x, out, norm.weight.data(), nullptr, s.eps}, 0, heads);
  };
  parallel_for(tokens_, 16.0 * double(tokens_) * double(turned), 0, [&](Index token, void*) {
    float* const row = qkv + token * s.qkv_width();
    float* const keys = row + s.query_width();
    if (self.query_norm)
      norm_heads(self.query_norm, row, row, s.heads), norm_heads(self.key_norm, keys, keys, s.key_heads);
    if (s.rotary >= 0) {
      RotaryArgs<float> mine = r;
      mine.tables += token * r.rotary, mine.x = mine.out = row;
      kernel.rotary(mine, 0, 1, nullptr);
    }
    if (!batch_.cache) return;
    const Index b = sequence_of_[token];
    float* to = batch_.cache->key(b, i, batch_.past(b) + token - batch_.cu_seqlens[b]);
    for (Index h = 0; h < s.key_heads; ++h, to += batch_.cache->head_stride()) {
      std::memcpy(to, keys + h * d, std::size_t(d) * sizeof(float));
      std::memcpy(to + batch_.cache->value_offset(), keys + s.key_width() + h * d, std::size_t(d) * sizeof(float));
    }
  });
}

void Pass::attend(Index i, const float* qkv, float* out) const {
  const BlockSpec& s = parts_.blocks[i].spec;
  const RelativeBias& bias = batch_.relative;
  const auto sizes_of = [&](Index task) {
    const Index b = task / s.key_heads;
    return sizes(s, batch_.count(b), batch_.keys(b));
  };
  attention<float>(batch_.sequences * s.key_heads, sizes_of, [&](Index task) {
    const Index b = task / s.key_heads, group = task % s.key_heads, past = batch_.past(b);
    const Index keys = batch_.keys(b), shared = s.heads / s.key_heads, length = past + batch_.count(b);
    AttentionArgs<float> a = arguments(s, tokens_of(b), group, qkv, s.qkv_width(), out, keys);
    a.offset = past;
    a.left = s.left < 0 ? length : s.left;
    a.right = s.causal ? 0 : s.right < 0 ? length : s.right;
    a.softcap = s.softcap;
    a.far = parts_.blocks[i].attention.qkv.weight.far();  // what is read between two passes leaves no cache its keys
    if (batch_.cache) {
      a.blocks = batch_.cache->chunks(b), a.k_row = a.v_row = s.head_size;
      a.k_offset = batch_.cache->key_offset(i, group), a.v_offset = a.k_offset + batch_.cache->value_offset();
    } else {
      a.k = qkv + batch_.cu_seqlens[b] * s.qkv_width() + s.query_width() + group * s.head_size;
      a.v = a.k + s.key_width(), a.k_row = a.v_row = s.qkv_width();
    }
    if (s.relative) {
      a.mask_kind = MaskKind::additive, a.mask_head = 2 * bias.reach + 1, a.mask_row = -1, a.mask_column = 1;
      a.mask = bias.bias + group * shared * a.mask_head + bias.reach - past;
    }
    write_weights(a, results_.attentions, i, s.heads, b, group, results_.keys);
    return a;
  });
}

AttentionSizes Pass::sizes(const BlockSpec& s, Index queries, Index keys) {
  return {s.heads / s.key_heads, queries, keys, s.head_size, s.head_size};
}

// The query heads of some tokens that share key head `group`; rows of q, and of out, hold all heads of a token.
AttentionArgs<float> Pass::arguments(const BlockSpec& s, Tokens queries, Index group, const float* q, Index q_row,
                                     float* out, Index keys) const {
  AttentionArgs<float> a = sized<float>(sizes(s, queries.count, keys));
  const Index d = s.head_size;
  a.key_count = keys;
  a.q = q + queries.first * q_row + group * a.heads * d, a.q_head = d, a.q_row = q_row;
  a.out = out + queries.first * s.query_width() + group * a.heads * d, a.out_head = d, a.out_row = s.query_width();
  a.left = a.right = keys + a.queries;
  a.scale = s.scale;
  return a;
}

void Pass::write_weights(AttentionArgs<float>& a, const std::vector<float*>& weights, Index i, Index heads, Index b,
                         Index group, Index columns) const {
  if (weights.empty()) return;
  a.weights_row = columns, a.weights_head = results_.queries * columns;
  a.weights = weights[i] + (b * heads + group * a.heads) * a.weights_head;
}

}  // namespace tfcore
