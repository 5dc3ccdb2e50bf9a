#pragma once
// The operators: how each splits its work into tasks over threads. Threads split rows and columns, never sums.
#include <algorithm>
#include <utility>
#include <vector>

#include "core/huge_pages.hpp"
#include "core/parallel.hpp"
#include "dispatch/isa.hpp"

namespace tfcore {

// --- products --------------------------------------------------------------------------------------------------------

constexpr std::size_t kFarBytes = std::size_t(1) << 25;  // more than a thread may hope to find in a cache

// Weights (N, K) as panels, packed once. The form is the same on every ISA.
template <class T> class PackedMatrix {
 public:
  PackedMatrix(const T* b, Index k, Index n, Index b_row, Index b_column, HugePages& storage);
  Index k() const { return k_; }
  Index n() const { return n_; }
  std::size_t bytes() const { return bytes_; }
  // The matrix is one of many that are read in turn, too many for a cache.
  void set_far() { far_ = true; }
  bool far() const { return far_; }
  // c = a @ b and nothing more; the caller adds what follows.
  GemmArgs<T> product(Index m, const T* a, Index a_row, T* c) const;
  void row(Index j, T* out) const;  // (K,)

 private:
  friend PackedMatrix<float> pack_stored(const StoredMatrix&, HugePages&);
  PackedMatrix(Index k, Index n, std::size_t bytes) : k_(k), n_(n), bytes_(bytes), far_(bytes > kFarBytes) {}

  Index k_, n_;
  std::size_t bytes_;
  bool far_;
  std::shared_ptr<T[]> panels_;  // or
  Stored stored_ = Stored::f32;
  std::shared_ptr<std::uint8_t[]> narrow_;  // in 4, 8 or 16 bits a number
};

// Weights as a file stores them; products are those of weights widened beforehand.
PackedMatrix<float> pack_stored(const StoredMatrix& m, HugePages& storage);

template <class T> double gemm_flops(const GemmArgs<T>& g) { return 2.0 * double(g.m) * double(g.n) * double(g.k); }

// As threads_for counts: reading a number of b out of a cache takes as long as 4 flops (one row of 512 x 512: 14 us on
// two threads, 30 on one).
template <class T> double gemm_work(const GemmArgs<T>& g) { return gemm_flops(g) + 4.0 * double(g.n) * double(g.k); }

template <class T> void gemm(const GemmArgs<T>& g);

// One product of the same shape for each index of a batch; `at(i)` gives its arguments.
template <class T, class At> void gemm_batch(Index batch, const At& at);

// --- attention -------------------------------------------------------------------------------------------------------

// A group is a key head and the query rows that share it. `sizes_of(g)` is asked of every group by the calling thread,
// `at(g)`, which gives all arguments, by the thread that works on it: 384 small heads are 1.19 times as fast on 16
// threads as when `at` was asked for sizes.
template <class T, class Sizes, class At> void attention(Index groups, const Sizes& sizes_of, const At& at);

// --- rows and elements -----------------------------------------------------------------------------------------------

// Over the middle axis of x (outer, n, inner).
template <class T> void softmax(SoftmaxKind kind, const T* x, T* out, Index outer, Index n, Index inner);
template <class T> void norm_rows(NormKind kind, const NormArgs<T>& a, Index rows);
template <class T> void elementwise(Function function, const T* x, T* out, Index count);
template <class T> void positions(PositionArgs<T> a, Index rows);          // a.tables are its own
template <class T> void rotary_tables(const RotaryArgs<T>& a, T* tables);  // (rows, rotary)
template <class T> void rotary(const RotaryArgs<T>& a);
void dequantize(Stored kind, const std::uint8_t* data, float* out, Index blocks);

// ---------------------------------------------------------------------------------------------------------------------

// How a product is cut: tasks of a block of rows × a group of pairs of panels. Blocks are as equal as can be in units
// of rows, groups in pairs of panels, as many for each thread. Tasks are numbered band by band of rows, so that a
// thread, whose tasks follow one another, reads a part of the rows and a part of the panels (16 threads: 1.2 times as
// fast at 1024 x 1536 to 384, 1.1 at 128 x 384 to 1536; two: as before).
struct GemmPlan {
  Index rows, row_unit, row_blocks, bands, panels, panel_groups;

  Index tasks() const { return row_blocks * panel_groups; }
  GemmRange range(Index task) const;
};

template <class T> GemmPlan plan_gemm(const GemmArgs<T>& g, Index batch);

// A product with one column, as that of the column as a row with a turned: a panel would be nothing but padding.
template <class T> GemmArgs<T> with_column_as_row(GemmArgs<T> g) {
  if (g.n != 1 || g.b_row != 1 || g.packed || g.bias) return g;
  std::swap(g.m, g.n), std::swap(g.a, g.b);
  g.b_column = g.a_row, g.a_row = 0;
  return g;
}

template <class T, class At> void gemm_batch(Index batch, const At& given) {
  if (batch == 0) return;
  const auto at = [&](Index i) { return with_column_as_row(given(i)); };
  const GemmArgs<T> first = at(0);
  if (first.m == 0 || first.n == 0) return;
  const GemmPlan plan = plan_gemm(first, batch);
  const Kernels<T>& kernel = kernels().of<T>();
  parallel_for(batch * plan.tasks(), double(batch) * gemm_work(first), kernel.gemm_scratch(first) * sizeof(T),
               [&](Index task, void* scratch) {
                 const GemmArgs<T> g = at(task / plan.tasks());
                 kernel.gemm(g, plan.range(task % plan.tasks()), static_cast<T*>(scratch));
               });
}

template <class T> void gemm(const GemmArgs<T>& g) {
  gemm_batch<T>(1, [&](Index) { return g; });
}

inline Index rows_of(const AttentionSizes& n) { return n.heads * n.queries; }

struct AttentionWork {
  double flops = 0, bytes = 0;  // bytes of all keys and values
  std::size_t scratch = 0;      // elements
};

template <class T, class Sizes>
AttentionWork measure_attention(const Kernels<T>& kernel, Index groups, const Sizes& sizes_of) {
  AttentionWork work;
  for (Index g = 0; g < groups; ++g) {
    const AttentionSizes n = sizes_of(g);
    work.flops += 2.0 * double(rows_of(n)) * double(n.keys) * double(n.head_size + n.value_size + 16);
    work.bytes += double(n.keys) * double(n.head_size + n.value_size) * sizeof(T);
    work.scratch = std::max(work.scratch, kernel.attention_scratch(n));
  }
  return work;
}

// The tasks of all groups, numbered through: group g has the tasks first[g] to first[g + 1].
struct AttentionPlan {
  Index rows_per_task;
  std::vector<Index> first;

  Index tasks() const { return first.back(); }
  Index group_of(Index task) const;
};

constexpr double kFarKeyBytes = 1 << 24;  // more keys and values than a cache holds that others use, too
constexpr double kMergeFlops = 8;         // an element of a part, as threads_for counts
constexpr Index kGroupsPerThread = 4;     // with fewer, threads wait long for the last one
constexpr Index kFewQueries = 64;  // cut at spans, 128 rows over 1000 to 4000 keys are 0.82 to 0.96 times as fast

AttentionPlan plan_attention(const std::vector<Index>& rows);  // of each group

// Few rows over many keys, as when a text is continued: where the groups are too few for threads to end together, each
// is cut into `spans` of its keys, from the first that some row sees on.
struct SpanPlan {
  Index spans = 1;
  std::vector<Index> first;  // of each group
};

template <class Sizes> bool has_few_rows_over_many_keys(Index groups, const Sizes& sizes_of) {
  Index keys = 0;
  for (Index g = 0; g < groups; ++g) {
    const AttentionSizes n = sizes_of(g);
    if (rows_of(n) > kFewQueries || rows_of(n) == 0) return false;
    keys = std::max(keys, n.keys);
  }
  return keys > kKeySpan;
}

template <class Sizes, class At> SpanPlan plan_spans(Index groups, const Sizes& sizes_of, const At& at) {
  SpanPlan plan;
  if (groups >= kGroupsPerThread * max_threads() || !has_few_rows_over_many_keys(groups, sizes_of)) return plan;
  plan.first.reserve(std::size_t(groups));
  for (Index g = 0; g < groups; ++g) {
    const auto a = at(g);
    if (a.weights) return {};
    const Index begin = std::max<Index>(a.offset - a.left, 0);
    const Index end = std::min(a.queries + a.offset + a.right, a.key_count);
    plan.first.push_back(begin / kKeySpan);
    plan.spans = std::max(plan.spans, (end + kKeySpan - 1) / kKeySpan - plan.first.back());
  }
  return plan;
}

template <class T, class Sizes, class At> void attention_by_spans(const Kernels<T>& kernel, Index groups,
                                                                  const SpanPlan& plan, const AttentionWork& work,
                                                                  const Sizes& sizes_of, const At& at) {
  std::vector<Index> parts_of(std::size_t(groups) + 1);  // where a group's parts begin
  for (Index g = 0; g < groups; ++g) {
    const AttentionSizes n = sizes_of(g);
    parts_of[g + 1] = parts_of[g] + plan.spans * rows_of(n) * (n.value_size + 2);
  }
  const AlignedArray<T> parts = allocate_aligned<T>(std::size_t(parts_of.back()));
  parallel_for(groups * plan.spans, work.flops, work.scratch * sizeof(T), [&](Index task, void* scratch) {
    const Index group = task / plan.spans, span = task % plan.spans;
    T* part = parts.get() + parts_of[group] + (parts_of[group + 1] - parts_of[group]) / plan.spans * span;
    kernel.attend_span(at(group), plan.first[group] + span, part, static_cast<T*>(scratch));
  });
  const double merged = double(parts_of.back());
  parallel_for(groups, kMergeFlops * merged, work.scratch * sizeof(T), [&](Index group, void* scratch) {
    kernel.merge_spans(at(group), plan.spans, parts.get() + parts_of[group], static_cast<T*>(scratch));
  });
}

// Small heads without gaps come one after another: the last task of one fetches the next.
template <class T, class At> void expect_next(AttentionArgs<T>& a, const At& at, Index next_group) {
  const bool small = a.keys <= kKeyBlock && a.keys > 0 && a.value_size > 0;
  if (!small || a.k_row != a.head_size || a.v_row != a.value_size || a.q_row != a.head_size) return;
  if (a.out_row != a.value_size) return;
  const AttentionArgs<T> next = at(next_group);
  if (next.keys != a.keys || next.queries != a.queries) return;
  a.next_q = next.q, a.next_k = next.k, a.next_v = next.v, a.next_out = next.out;
}

// Too little for threads: one head after the other, with no plan to make.
template <class T, class At>
void attend_alone(const Kernels<T>& kernel, Index groups, const AttentionWork& work, const At& at) {
  run_tasks(1, 1, work.scratch * sizeof(T), TaskBody([&](Index, void* scratch) {
              for (Index g = 0; g < groups; ++g) {
                AttentionArgs<T> a = at(g);
                if (g + 1 < groups) expect_next(a, at, g + 1);
                kernel.attention(a, 0, rows_of(a), static_cast<T*>(scratch));
              }
            }));
}

template <class T, class Sizes, class At> void attention(Index groups, const Sizes& sizes_of, const At& arguments_of) {
  if (groups == 0) return;
  const Kernels<T>& kernel = kernels().of<T>();  // one for the whole call, whoever changes it meanwhile: scratch is its
  const AttentionWork work = measure_attention(kernel, groups, sizes_of);
  const auto at = [&](Index group) {
    AttentionArgs<T> a = arguments_of(group);
    a.far = a.far || work.bytes > kFarKeyBytes;
    return a;
  };
  if (threads_for(work.flops) == 1) return attend_alone<T>(kernel, groups, work, at);
  const SpanPlan by_spans = plan_spans(groups, sizes_of, at);
  if (by_spans.spans > 1) return attention_by_spans(kernel, groups, by_spans, work, sizes_of, at);
  std::vector<Index> rows(std::size_t(groups), 0);
  for (Index g = 0; g < groups; ++g) rows[g] = rows_of(sizes_of(g));
  const AttentionPlan plan = plan_attention(rows);
  parallel_for(plan.tasks(), work.flops, work.scratch * sizeof(T), [&](Index task, void* scratch) {
    const Index group = plan.group_of(task);
    AttentionArgs<T> a = at(group);
    if (task + 1 == plan.first[group + 1] && group + 1 < groups) expect_next(a, at, group + 1);
    const Index begin = (task - plan.first[group]) * plan.rows_per_task;
    kernel.attention(a, begin, std::min(begin + plan.rows_per_task, rows_of(a)), static_cast<T*>(scratch));
  });
}

}  // namespace tfcore
