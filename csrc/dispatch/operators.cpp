#include "dispatch/operators.hpp"

#include <algorithm>
#include <numeric>

namespace tfcore {
namespace {

Index ceil_div(Index a, Index b) { return (a + b - 1) / b; }

// Several tasks a thread, so that a thread that was held up does not hold up the rest. (On 16 threads, 8 are 3 % slower
// in the mean of all products, 25 % with one row; groups of single panels instead of pairs 25 to 30 % at 128 rows and
// 384 columns.)
constexpr Index kTasksPerThread = 4;

// From so many tasks a thread on, one more or less is lost in noise.
constexpr Index kEvenTasks = 32;

// A band of fewer strips of tiles is cut at any row: whole strips would give one thread too much.
constexpr Index kStripsPerBand = 16;

// Multiply-adds that take as long as reading one number that another core wrote, or that comes from L3, roughly: from
// 16 to 128 the layouts of all encoders' products are the same.
constexpr double kReadFlops = 32;

// At least so many rows for a task that packs its panels: whole strips of every tile height, 6 and 8.
constexpr Index kRowStep = 96;

// Rows, which share nothing, may be cut finer: the last task is what a thread that finds none left waits for. (With 4,
// 6 to 14 % slower on 16 threads, up to 3 % on two.)
constexpr Index kRowTasksPerThread = 16;
constexpr double kFlopsPerRowTask = 50e3;

template <class F> void parallel_rows(Index rows, double flops_per_row, std::size_t scratch_bytes, const F& body) {
  if (rows == 0) return;
  const double flops = double(rows) * flops_per_row;
  const Index threads = threads_for(flops), worth = Index(flops / kFlopsPerRowTask);
  const Index tasks = threads == 1 ? 1 : std::min({rows, threads * kRowTasksPerThread, worth});
  parallel_for(tasks, flops, scratch_bytes,
               [&](Index task, void* scratch) { body(rows * task / tasks, rows * (task + 1) / tasks, scratch); });
}

// Flops that cost as much time as the memory traffic or the arithmetic of one element, for threads_for.
constexpr double kCopyFlops = 8, kFunctionFlops = 32, kSineFlops = 64;

// Elements of all panels, the last one's filled up.
template <class T> std::size_t packed_size(Index k, Index n) {
  Index size = 0;
  if (__builtin_mul_overflow(ceil_div(n, kPanel<T>) * kPanel<T>, k, &size)) throw std::bad_alloc();
  return std::size_t(size);
}

}  // namespace

template <class T>
PackedMatrix<T>::PackedMatrix(const T* b, Index k, Index n, Index b_row, Index b_column, HugePages& storage)
    : PackedMatrix(k, n, std::size_t(k * n) * sizeof(T)) {
  panels_ = storage.take<T>(packed_size<T>(k, n));
  GemmArgs<T> g{};
  g.n = n, g.k = k, g.b = b, g.b_row = b_row, g.b_column = b_column;
  const Index panels = ceil_div(n, kPanel<T>);
  parallel_for(panels, kCopyFlops * double(k) * double(n), 0,
               [&](Index panel, void*) { kernels().of<T>().pack(g, panel, panel + 1, panels_.get()); });
}

template <class T> GemmArgs<T> PackedMatrix<T>::product(Index m, const T* a, Index a_row, T* c) const {
  GemmArgs<T> g{};
  g.m = m, g.n = n_, g.k = k_;
  g.a = a, g.a_row = a_row;
  g.b = panels_.get(), g.packed = !narrow_, g.far = far_;
  g.narrow = narrow_.get(), g.stored = stored_;
  g.c = c;
  return g;
}

template <class T> void PackedMatrix<T>::row(Index j, T* out) const {
  if constexpr (sizeof(T) == sizeof(float))
    if (narrow_) return kernels().widen_row(stored_, narrow_.get(), k_, j, out);
  const T* const column = panels_.get() + j / kPanel<T> * k_ * kPanel<T> + j % kPanel<T>;
  for (Index k = 0; k < k_; ++k) out[k] = column[k * kPanel<T>];
}

PackedMatrix<float> pack_stored(const StoredMatrix& m, HugePages& storage) {
  if (m.kind == Stored::f32)
    return PackedMatrix<float>(reinterpret_cast<const float*>(m.rows), m.k, m.n, 1, m.k, storage);
  const Index panels = ceil_div(m.n, kPanel<float>), panel_bytes = narrow_panel_bytes(m.kind, m.k);
  PackedMatrix<float> packed(m.k, m.n, std::size_t(panels * panel_bytes));
  packed.stored_ = m.kind, packed.narrow_ = storage.take<std::uint8_t>(packed.bytes_);
  parallel_for(panels, kCopyFlops * double(m.k) * double(m.n), 0,
               [&](Index panel, void*) { kernels().pack_narrow(m, panel, panel + 1, packed.narrow_.get()); });
  return packed;
}

// Of the ways to lay `threads` out as bands of rows × parts of the columns, the one that is done first: by the rows and
// columns of the largest part, and what its thread reads.
template <class T> Index choose_bands(Index m, Index pairs, Index threads) {
  const auto time_of = [&](Index bands) {
    const double rows = double(ceil_div(m, bands));
    const double columns = double(2 * kPanel<T> * ceil_div(pairs * bands, threads));
    return rows * columns + kReadFlops * (rows + columns);
  };
  Index best = 1;
  for (Index bands = 2; bands <= std::min(m, threads); ++bands)
    if (threads % bands == 0 && time_of(bands) < time_of(best)) best = bands;
  return best;
}

// Packed weights: blocks of rows × groups of panels, as many for each thread where they are few. Otherwise a task packs
// its panels itself, so it takes as many rows as the threads allow.
template <class T> GemmPlan plan_gemm(const GemmArgs<T>& g, Index batch) {
  const Index panels = ceil_div(g.n, kPanel<T>), pairs = ceil_div(panels, 2);
  const Index threads = threads_for(double(batch) * gemm_work(g)), wanted = ceil_div(threads * kTasksPerThread, batch);
  const Index largest = kernels().of<T>().row_block, strip = largest / kStripsPerRowBlock;
  GemmPlan plan{g.m, 1, 1, 1, panels, 0};
  if (g.packed) {
    plan.bands = choose_bands<T>(g.m, pairs, threads);
    plan.row_blocks = plan.bands * ceil_div(g.m, plan.bands * largest);
  }
  const Index parts = threads / plan.bands;
  Index groups =
      std::max(ceil_div(panels, g.packed ? kPanelsPerTask : kPanelsToPack), ceil_div(wanted, plan.row_blocks));
  if (batch == 1 && plan.row_blocks * groups < kEvenTasks * threads && plan.row_blocks * groups % threads != 0)
    groups = ceil_div(groups, parts) * parts;
  plan.panel_groups = groups <= pairs ? groups : pairs < parts ? pairs : pairs / parts * parts;
  if (!g.packed && plan.panel_groups < wanted)
    plan.row_blocks = ceil_div(g.m, std::max(kRowStep, ceil_div(g.m * plan.panel_groups, wanted)));
  if (plan.bands == 1 || g.m >= plan.bands * kStripsPerBand * strip) plan.row_unit = strip;
  return plan;
}

GemmRange GemmPlan::range(Index task) const {
  const Index units = ceil_div(rows, row_unit), pairs = ceil_div(panels, 2);
  const auto band_border = [&](Index band) { return row_blocks * band / bands; };
  const auto row_border = [&](Index block) { return std::min(units * block / row_blocks * row_unit, rows); };
  const auto panel_border = [&](Index group) { return std::min(2 * (pairs * group / panel_groups), panels); };
  const Index band = ((task / panel_groups + 1) * bands - 1) / row_blocks;
  const Index first = band_border(band), blocks = band_border(band + 1) - first;
  const Index place = task - first * panel_groups, group = place / blocks, block = first + place % blocks;
  return {row_border(block), row_border(block + 1), panel_border(group), panel_border(group + 1)};
}

Index AttentionPlan::group_of(Index task) const {
  return std::upper_bound(first.begin(), first.end(), task) - first.begin() - 1;
}

AttentionPlan plan_attention(const std::vector<Index>& rows) {
  const Index rows_in_all = std::accumulate(rows.begin(), rows.end(), Index(0));
  AttentionPlan plan{kQueryBlock, {0}};
  const Index tasks = kRowTasksPerThread * max_threads();
  while (plan.rows_per_task > kQueryBlock / 4 && rows_in_all < plan.rows_per_task * tasks) plan.rows_per_task /= 2;
  plan.first.reserve(rows.size() + 1);
  for (const Index own : rows) plan.first.push_back(plan.tasks() + ceil_div(own, plan.rows_per_task));
  return plan;
}

template <class T> void softmax(SoftmaxKind kind, const T* x, T* out, Index outer, Index n, Index inner) {
  const Kernels<T>& kernel = kernels().of<T>();
  if (inner == 1)
    return parallel_rows(outer, kFunctionFlops * double(n), 0, [&](Index begin, Index end, void*) {
      kernel.softmax(kind, x + begin * n, out + begin * n, end - begin, n);
    });
  constexpr Index kStep = 4 * kPanel<T>;  // columns, of some lines
  const Index steps = ceil_div(inner, kStep);
  parallel_rows(outer * steps, kFunctionFlops * double(n * std::min(inner, kStep)), 0,
                [&](Index begin, Index end, void*) {
                  for (Index first = begin, last; first < end; first = last) {
                    const Index block = first / steps, at = block * n * inner;
                    last = std::min(end, (block + 1) * steps);
                    kernel.softmax_columns(kind, x + at, out + at, n, inner, (first - block * steps) * kStep,
                                           std::min(inner, (last - block * steps) * kStep));
                  }
                });
}

template <class T> void norm_rows(NormKind kind, const NormArgs<T>& a, Index rows) {
  const Kernels<T>& kernel = kernels().of<T>();
  const auto norm = kind == NormKind::layer ? kernel.layer_norm : kernel.rms_norm;
  parallel_rows(rows, kFunctionFlops * double(a.width), 0, [&](Index begin, Index end, void*) { norm(a, begin, end); });
}

template <class T> void elementwise(Function function, const T* x, T* out, Index count) {
  constexpr Index kBlock = 4096;
  parallel_rows(ceil_div(count, kBlock), kFunctionFlops * kBlock, 0, [&](Index begin, Index end, void*) {
    kernels().of<T>().elementwise(function, x + begin * kBlock, out + begin * kBlock,
                                  std::min(count, end * kBlock) - begin * kBlock);
  });
}

template <class T> void positions(PositionArgs<T> a, Index rows) {
  const bool none_turned = a.offset >= 0 && a.offset + rows <= kFirstTurnedRow<T>;
  const Index near_tables = std::min(ceil_div(step_of(a.offset) + rows, kStepRows), kStepRows);
  a.step_tables = std::min(rows, kStepRows);
  const Index filled = none_turned ? 0 : a.step_tables + near_tables,
              places = none_turned ? 0 : kStepRows + near_tables;
  const AlignedArray<double> tables = allocate_aligned<double>(std::size_t(places * a.table_size()));
  a.tables = tables.get();
  const double flops_per_row = kSineFlops * double(a.model_width);
  parallel_rows(filled, flops_per_row, 0,
                [&](Index begin, Index end, void*) { kernels().of<T>().position_tables(a, begin, end, tables.get()); });
  parallel_rows(rows, flops_per_row, std::size_t(a.table_size()) * sizeof(double),
                [&](Index begin, Index end, void* scratch) {
                  kernels().of<T>().positions(a, begin, end, static_cast<double*>(scratch));
                });
}

template <class T> void rotary_tables(const RotaryArgs<T>& a, T* tables) {
  parallel_rows(a.rows, kSineFlops * double(a.rotary), 0,
                [&](Index begin, Index end, void*) { kernels().of<T>().rotary_tables(a, begin, end, tables); });
}

template <class T> void rotary(const RotaryArgs<T>& a) {
  const double flops_per_row = kSineFlops * double(a.rotary) + kCopyFlops * double(a.lead) * double(a.width);
  parallel_rows(a.rows, flops_per_row, std::size_t(std::min(a.rows, kRotaryRows) * a.rotary) * sizeof(T),
                [&](Index begin, Index end, void* scratch) {
                  kernels().of<T>().rotary(a, begin, end, static_cast<T*>(scratch));
                });
}

void dequantize(Stored kind, const std::uint8_t* data, float* out, Index blocks) {
  parallel_rows(blocks, kCopyFlops * double(kStoredForms[int(kind)].numbers), 0,
                [&](Index begin, Index end, void*) { kernels().dequantize(kind, data, out, begin, end); });
}

#define TFCORE_INSTANTIATE(T)                                               \
  template class PackedMatrix<T>;                                           \
  template GemmPlan plan_gemm<T>(const GemmArgs<T>&, Index);                \
  template void softmax<T>(SoftmaxKind, const T*, T*, Index, Index, Index); \
  template void norm_rows<T>(NormKind, const NormArgs<T>&, Index);          \
  template void elementwise<T>(Function, const T*, T*, Index);              \
  template void positions<T>(PositionArgs<T>, Index);                       \
  template void rotary_tables<T>(const RotaryArgs<T>&, T*);                 \
  template void rotary<T>(const RotaryArgs<T>&);
TFCORE_INSTANTIATE(float)
TFCORE_INSTANTIATE(double)
#undef TFCORE_INSTANTIATE

}  // namespace tfcore
