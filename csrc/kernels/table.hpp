#pragma once
// What crosses from dispatch/ into one instruction set's kernels: plain data and one table of functions.
//
// B batch, H query heads, G key/value heads, L query length, S key length, D head size, C model width; M, N, K of a
// product. Strides count elements. A kernel gets its arguments, a range of work and scratch; it never allocates, throws
// or threads.
#include <cstddef>
#include <cstdint>

namespace tfcore {

using Index = std::int64_t;

enum class Activation : int { none, relu, gelu, gelu_tanh, silu, tanh };

// Panels of b: 64 bytes of adjacent columns, depth after depth, zero past the last column. The same on every ISA.
template <class T> constexpr Index kPanel = 64 / Index(sizeof(T));
// Packed panels that share a block of rows: 8 were 1 to 7 % slower at 512 rows and more, 24 and 48 are within 2 %.
constexpr Index kPanelsPerTask = 32;
constexpr Index kStripsPerRowBlock = 8;
constexpr Index kPanelsToPack = 8;  // at a time: 128 float32 columns of a block of depths, at most 192 KB of L2

// How a file stores a matrix (N, K), row by row: as GGUF names its types.
// What several formats have in common is ours: blocks of 16 bytes with a scale and an offset in float32.
enum class Stored : int { f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, q4_k, q5_k, q6_k, common };
struct StoredForm {
  Index numbers, bytes;  // of a block of a row
  // Of the panels that hold it: how many depths share a scale, 1 for none; the bits of a number; the least number
  // that there is; whether there is an offset.
  Index run, bits;
  int least;
  bool offset;
};
constexpr StoredForm kStoredForms[] = {
    {1, 4, 1, 32, 0, false},      {1, 2, 1, 16, 0, false},       {1, 2, 1, 16, 0, false},
    {32, 34, 32, 8, -128, false}, {32, 18, 32, 4, -8, false},    {32, 20, 32, 4, 0, true},
    {32, 22, 32, 8, -16, false},  {32, 24, 32, 8, 0, true},      {256, 144, 32, 4, 0, true},
    {256, 176, 32, 8, 0, true},   {256, 210, 16, 8, -32, false}, {16, 24, 16, 8, 0, true}};  // as the enum counts

struct StoredMatrix {
  Stored kind;
  Index n, k;
  const std::uint8_t* rows;
};

inline __attribute__((always_inline)) constexpr Index stored_row_bytes(Stored kind, Index k) {
  return k / kStoredForms[int(kind)].numbers * kStoredForms[int(kind)].bytes;
}

// Whether narrow panels take rows of k numbers; those of 16 bits stand in pairs.
inline __attribute__((always_inline)) constexpr bool fits_narrow(Stored kind, Index k) {
  return k > 0 && k % kStoredForms[int(kind)].numbers == 0 && k % 2 == 0;
}

// A run of a panel: 16 scales, 16 offsets where the form has any, and the numbers.
inline __attribute__((always_inline)) constexpr Index narrow_header_bytes(const StoredForm& form) {
  return form.run == 1 ? 0 : (form.offset ? 2 : 1) * kPanel<float> * Index(sizeof(float));
}
inline __attribute__((always_inline)) constexpr Index narrow_run_bytes(const StoredForm& form) {
  return narrow_header_bytes(form) + form.run * kPanel<float> * form.bits / 8;
}
inline __attribute__((always_inline)) constexpr Index narrow_panel_bytes(Stored kind, Index k) {
  return k / kStoredForms[int(kind)].run * narrow_run_bytes(kStoredForms[int(kind)]);
}

// c (M, N) = activation(a (M, K) @ b (K, N) + bias) + residual, all but a and b without gaps
template <class T> struct GemmArgs {
  Index m, n, k;
  const T* a;
  Index a_row;  // columns of a are adjacent
  const T* b;
  Index b_row, b_column;  // unused when packed
  bool packed;
  bool far;  // b is not in any cache
  // Instead of b: float32 in panels that hold it as `stored`, widened on the way into the tiles; or null.
  const std::uint8_t* narrow;
  Stored stored;
  T* c;
  const T* bias;  // (N,) or null
  Activation activation;
  const T* residual;  // (M, N) or null
  // Gated products have panels in pairs, a gate's beside what it gates: gated = activation(c of the gate) * c of the
  // other, (M, gated_width). c is scratch then. Null elsewhere.
  T* gated;
  Index gated_width;
};

struct GemmRange {
  Index row_begin, row_end, panel_begin, panel_end;
};

enum class MaskKind : int { none, boolean, additive };

// The R = (H / G) * L query rows that share one key head; row r is query head r / L at position r % L.
struct AttentionSizes {
  Index heads, queries, keys, head_size, value_size;
};

template <class T> struct AttentionArgs : AttentionSizes {
  const T* q;
  Index q_head, q_row;
  const T* k;
  Index k_row;
  const T* v;
  Index v_row;
  // Keys and values in blocks of kKeyBlock rows instead, as a cache grows: block i has its keys from blocks[i] +
  // k_offset on, its values from blocks[i] + v_offset on. Null where k and v are arrays.
  const T* const* blocks;
  Index k_offset, v_offset;
  T* out;
  Index out_head, out_row;
  T* weights;  // (heads, L, S) with adjacent keys, or null
  Index weights_head, weights_row;
  // Query i sees the keys j with  first(i) <= j < last(i):  i + offset - left <= j <= i + offset + right,  j <
  // key_count.
  Index key_count, offset, left, right;
  MaskKind mask_kind;
  const void* mask;  // bytes or T
  Index mask_head, mask_row, mask_column;
  const T* slopes;  // (heads,) or null
  const T* sinks;   // (heads,) or null
  T scale, softcap;
  bool far;  // all keys and values together are in no cache
  // What the thread is likely to read and write next, fetched on the way: whole rows without gaps, as many as here; or
  // null.
  const T *next_q, *next_k, *next_v, *next_out;
};

template <class T> AttentionArgs<T> sized(const AttentionSizes& sizes) {
  AttentionArgs<T> a{};
  static_cast<AttentionSizes&>(a) = sizes;
  return a;
}

constexpr Index kKeyBlock =
    128;  // absolute: the running maximum is renewed at its multiples; 64 to 512 are within noise
// Rows that share one pass over the keys, and a copy of the values where one is made. (64 instead: 1 to 2 % slower,
// heads of 128 rows out of L3 4 to 14 %, AVX-512; AVX2 0 to 3 %.)
constexpr Index kQueryBlock = 128;
// Absolute, too: every span of so many keys has a softmax of its own, merged in order, so that threads may share a row.
// (Instead of 2048: a row over 2048 or 4096 keys 1.2 times as fast on 16 threads, 8 heads over 1000 keys 1.5; many rows
// are within 1 %.)
constexpr Index kKeySpan = 512;

// A row of sines follows from those of the parts of its position, far + near + step: multiples of kStepRows^2, of
// kStepRows, and of 1. But not the first rows, for which tables do not pay. (32 steps: 0.55 as fast, for the tables
// of 512 float64 columns leave L2 from one origin to the next.)
constexpr Index kStepRows = 16;
template <class T> constexpr Index kFirstTurnedRow = sizeof(T) == 4 ? kStepRows : 8 * kStepRows;
inline __attribute__((always_inline)) Index step_of(Index position) {
  return (position % kStepRows + kStepRows) % kStepRows;
}
inline __attribute__((always_inline)) Index origin_of(Index position) { return position - step_of(position); }
inline __attribute__((always_inline)) Index near_of(Index position) {
  constexpr Index period = kStepRows * kStepRows;
  return origin_of((position % period + period) % period);
}

template <class T> struct PositionArgs {
  Index model_width, offset;
  bool split;
  // (columns,): of the sines, which the cosines share; or of the sines, then of the cosines.
  Index columns;
  const double* frequencies;
  double largest;  // of them
  T* out;          // (rows, C)
  // What position_tables leaves: a table for each of kStepRows steps, at most step_tables of them filled, those that
  // the rows take; then of the near parts, as many.
  const double* tables;
  Index step_tables;

  // The position whose sines the i-th filled table holds, and that table's place.
  __attribute__((always_inline)) Index tabulated(Index i) const {
    if (i < step_tables) return step_of(offset + i);
    return near_of(offset + (i - step_tables) * kStepRows);
  }
  __attribute__((always_inline)) Index place_of(Index i) const {
    return i < step_tables ? step_of(offset + i) : kStepRows + (i - step_tables);
  }
  __attribute__((always_inline)) const double* step_table(Index position) const {
    return tables + step_of(position) * table_size();
  }
  __attribute__((always_inline)) const double* near_table(Index position) const {
    const Index i = (origin_of(position) - origin_of(offset)) / kStepRows % kStepRows;
    return tables + (kStepRows + i) * table_size();
  }
  // A table's arrays, `array_size` apart: an odd number of lines, or they would share a set of the cache.
  __attribute__((always_inline)) Index array_size() const { return ((columns + 7) / 8 | 1) * 8; }
  __attribute__((always_inline)) Index table_size() const { return (sizeof(T) == 4 ? 2 : 4) * array_size(); }
};

// Whose tables stay near while the vectors that share them pass. (32: 0.7 as fast out of L3, for memory is read on by
// itself only along a run of rows; 512 as fast. Asking for what comes next: as fast, and 0.6 where threads meet in L2.)
constexpr Index kRotaryRows = 256;

template <class T> struct RotaryArgs {
  Index rows, lead;  // positions, and how many vectors share each
  const T* x;
  T* out;
  Index row_stride, lead_stride;  // of both: from a position to the next, and from a sharing vector to the next
  const double* positions;        // (rows,)
  const double* frequencies;      // (rotary / 2,)
  Index width, rotary;
  bool interleaved;
  double magnitude;
  const T* tables;  // (rows, rotary), what rotary_tables left: cosines, then sines; or null: computed on the way
};

enum class SoftmaxKind : int { plain, logarithm };
enum class NormKind : int { layer, rms };

template <class T> struct NormArgs {
  Index width;
  const T* x;  // (rows, C)
  T* out;      // (rows, C)
  const T* weight;
  const T* bias;
  T eps;
};

enum class Function : int { exp, exp2, tanh, erf, sin, cos, gelu, gelu_tanh, silu, relu };

// What a probe of the machine measures: its arithmetic or its memory at most. Ranges are whole blocks of elements.
enum class Probe : int { fma, read, write, copy };
constexpr Index kProbeBlock = 1024;

template <class T> struct Kernels {
  Index row_block;  // rows of a that a product keeps near while the panels pass: kStripsPerRowBlock strips of tiles
  void (*pack)(const GemmArgs<T>&, Index panel_begin, Index panel_end, T* panels);
  std::size_t (*gemm_scratch)(const GemmArgs<T>&);
  void (*gemm)(const GemmArgs<T>&, const GemmRange&, T* scratch);
  std::size_t (*attention_scratch)(const AttentionSizes&);
  void (*attention)(const AttentionArgs<T>&, Index row_begin, Index row_end, T* scratch);
  // The same for all rows, at most kQueryBlock, cut at spans: `parts` holds rows × (Dv + 2) for each.
  void (*attend_span)(const AttentionArgs<T>&, Index span, T* part, T* scratch);
  void (*merge_spans)(const AttentionArgs<T>&, Index spans, const T* parts, T* scratch);
  void (*softmax)(SoftmaxKind, const T* x, T* out, Index rows, Index width);
  // The same down columns [begin, end) of (n, width).
  void (*softmax_columns)(SoftmaxKind, const T* x, T* out, Index n, Index width, Index begin, Index end);
  void (*layer_norm)(const NormArgs<T>&, Index row_begin, Index row_end);
  void (*rms_norm)(const NormArgs<T>&, Index row_begin, Index row_end);
  void (*elementwise)(Function, const T* x, T* out, Index count);
  void (*positions)(const PositionArgs<T>&, Index row_begin, Index row_end, double* scratch);
  void (*position_tables)(const PositionArgs<T>&, Index row_begin, Index row_end, double* tables);
  void (*rotary)(const RotaryArgs<T>&, Index row_begin, Index row_end, T* scratch);
  void (*rotary_tables)(const RotaryArgs<T>&, Index row_begin, Index row_end, T* tables);
  T (*probe)(Probe, const T* x, T* out, Index begin, Index end);
};

struct KernelTable {
  const char* isa;
  Kernels<float> f32;
  Kernels<double> f64;
  void (*dequantize)(Stored, const std::uint8_t* data, float* out, Index block_begin, Index block_end);
  void (*pack_narrow)(const StoredMatrix&, Index panel_begin, Index panel_end, std::uint8_t* panels);
  void (*to_common)(const StoredMatrix&, Index row_begin, Index row_end, std::uint8_t* rows);  // of blocks
  void (*widen_row)(Stored, const std::uint8_t* panels, Index k, Index row, float* out);       // (K,)

  template <class T> const Kernels<T>& of() const;
};
template <> inline __attribute__((always_inline)) const Kernels<float>& KernelTable::of<float>() const { return f32; }
template <> inline __attribute__((always_inline)) const Kernels<double>& KernelTable::of<double>() const { return f64; }

}  // namespace tfcore
