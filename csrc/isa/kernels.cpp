// One instruction set's kernels: this file is compiled once for each row of the ISA table in CMakeLists.txt, and
// exports nothing but that row's table.
#include "kernels/attention.hpp"
#include "kernels/columns.hpp"
#include "kernels/dequantize.hpp"
#include "kernels/elementwise.hpp"
#include "kernels/gemm.hpp"
#include "kernels/narrow.hpp"
#include "kernels/norm.hpp"
#include "kernels/position.hpp"
#include "kernels/probe.hpp"

namespace tfcore {
namespace {

template <class T> constexpr Kernels<T> kernels() {
  return {kRowBlock,     pack<T>,          gemm_scratch<T>, gemm<T>,      attention_scratch<T>,
          attention<T>,  attend_span<T>,   merge_spans<T>,  softmax<T>,   softmax_columns<T>,
          layer_norm<T>, rms_norm<T>,      elementwise<T>,  positions<T>, position_tables<T>,
          rotary<T>,     rotary_tables<T>, probe<T>};
}

}  // namespace

extern const KernelTable TFCORE_ISA_TABLE;
const KernelTable TFCORE_ISA_TABLE = {TFCORE_ISA_NAME, kernels<float>(), kernels<double>(), dequantize,
                                      pack_narrow,     to_common,        widen_row};

}  // namespace tfcore
