#pragma once
// Panels of weights in 4, 8 or 16 bits a number, and products of a few rows with them:
//
//   b[k][j] = scale[j] * q[k][j] + offset[j]        j < 16, k within a run: the depths that share a scale
//   c[r][j] (+)= sum_k a[r][k] * b[k][j]            r < R
//
// A run is 16 scales, 16 offsets where the format has any, and lines of 16 words, a word for each column: 8 depths of 4
// bits or 4 of 8 bits, the first in the lowest bits. q counts from the format's least number, so an offset of least *
// scale joins. scale * q is exact, so b is what dequantize gives while scales are finite, but for the sign of zeros,
// which shows only where every product of a sum underflows. bf16 has 2 depths in a word, f16 2 depths in a line, both
// no scales.
//
// Bound: by the memory that holds the panels, a fifth to a half of float32; or by issue, for a register of b two FMAs,
// a mask and a conversion with one row, an FMA for each further one. Many rows have a panel widened once, into scratch.
#include "kernels/formats.hpp"
#include "kernels/table.hpp"
#include "simd/vec.hpp"

namespace tfcore {
namespace {

constexpr int kColumns = int(kPanel<float>), kColumnVectors = kColumns / lanes<float>;
constexpr Index kLine = kColumns * Index(sizeof(std::uint32_t));  // bytes

// --- packing ---------------------------------------------------------------------------------------------------------

template <class Format> void pack_run(const StoredMatrix& m, Index column, Index run, U8* to) {
  constexpr StoredForm form = Format::form;
  constexpr Index runs_per_block = form.numbers / form.run, per_word = 32 / form.bits;
  const Index row_bytes = stored_row_bytes(m.kind, m.k), columns = min(m.n - column, kColumns);
  float* const scales = reinterpret_cast<float*>(to);
  std::uint32_t* const words = reinterpret_cast<std::uint32_t*>(to + narrow_header_bytes(form));
  for (Index j = 0; j < columns; ++j) {
    const auto* row = reinterpret_cast<const typename Format::Block*>(m.rows + (column + j) * row_bytes);
    const Run r = run_of(row[run / runs_per_block], int(run % runs_per_block));
    scales[j] = r.scale;
    if (form.offset) scales[kColumns + j] = r.offset;
    for (Index k = 0; k < form.run; ++k)
      words[k / per_word * kColumns + j] |= std::uint32_t(r.q[k] - form.least) << k % per_word * form.bits;
  }
}

// Rows of blocks in the common format. Numbers count from the least of their format, as in panels.
void to_common(const StoredMatrix& m, Index row_begin, Index row_end, U8* rows) {
  constexpr Index numbers = kStoredForms[int(Stored::common)].numbers;
  BlockCommon* to = reinterpret_cast<BlockCommon*>(rows);
  with_block(m.kind, [&](auto format) TFCORE_LAMBDA {
    constexpr StoredForm form = decltype(format)::form;
    const auto* from =
        reinterpret_cast<const typename decltype(format)::Block*>(m.rows + row_begin * stored_row_bytes(m.kind, m.k));
    for (Index block = 0; block < (row_end - row_begin) * m.k / form.numbers; ++block)
      for (int run = 0; run < form.numbers / form.run; ++run) {
        const Run r = run_of(from[block], run);
        for (Index i = 0; i < form.run; i += numbers, ++to) {
          to->scale = r.scale, to->offset = form.offset ? r.offset : float(form.least) * r.scale;
          for (Index n = 0; n < numbers; ++n) to->q[n] = U8(r.q[i + n] - form.least);
        }
      }
  });
}

// Numbers of 16 bits: `column` and `depth` are what lies between neighbours, counted in them.
void pack_words(const StoredMatrix& m, Index first, U8* panel, Index column, Index depth) {
  const Index columns = min(m.n - first, kColumns);
  for (Index j = 0; j < columns; ++j)
    for (Index k = 0; k < m.k; ++k)
      __builtin_memcpy(panel + k / 2 * kLine + (j * column + k % 2 * depth) * 2, m.rows + ((first + j) * m.k + k) * 2,
                       2);
}

void pack_narrow(const StoredMatrix& m, Index panel_begin, Index panel_end, U8* panels) {
  const Index bytes = narrow_panel_bytes(m.kind, m.k);
  __builtin_memset(panels + panel_begin * bytes, 0, std::size_t((panel_end - panel_begin) * bytes));
  for (Index p = panel_begin; p < panel_end; ++p) {
    U8* const panel = panels + p * bytes;
    if (m.kind == Stored::f16) pack_words(m, p * kColumns, panel, 1, kColumns);
    if (m.kind == Stored::bf16) pack_words(m, p * kColumns, panel, 2, 1);
    with_block(m.kind, [&](auto format) TFCORE_LAMBDA {
      using Format = decltype(format);
      for (Index run = 0; run < m.k / Format::form.run; ++run)
        pack_run<Format>(m, p * kColumns, run, panel + run * narrow_run_bytes(Format::form));
    });
  }
}

// --- widening --------------------------------------------------------------------------------------------------------

// A register of columns over one run of bits-wide numbers.
template <int bits> struct ScaledColumns {
  static constexpr int per_line = 32 / bits;
  VecF32 scale[per_line], offset;
  const U8* words;

  TFCORE_INLINE void begin(const StoredForm& form, const U8* run, int part) {
    const float* const scales = reinterpret_cast<const float*>(run) + part * lanes<float>;
    const VecF32 first = load(scales);
    float down = 1;
#pragma GCC unroll 8
    for (int i = 0; i < per_line; ++i, down /= float(1 << bits)) scale[i] = first * down;
    scale[per_line - 1] = first;
    offset = form.offset ? load(scales + kColumns) : first * float(form.least);
    words = run + narrow_header_bytes(form) + part * kVecBytes;
  }
  // Depth i of a line: its bits stay where they are in the word, for the scale is as much smaller.
  template <int i> TFCORE_INLINE VecF32 depth(Index line) const {
    typedef std::uint32_t VecU32 __attribute__((vector_size(kVecBytes)));
    VecU32 x;
    __builtin_memcpy(&x, words + line * kLine, sizeof x);
    if constexpr (i + 1 == per_line) x >>= 32 - bits;
    else x &= ((1u << bits) - 1) << i * bits;
    return fma(__builtin_convertvector(VecI32(x), VecF32), scale[i], offset);
  }
};

template <bool upper> struct Halves {
  static constexpr int per_line = 2;
  const U8* words;
  int part;

  TFCORE_INLINE void begin(const StoredForm&, const U8* line, int of) { words = line, part = of; }
  template <int i> TFCORE_INLINE VecF32 depth(Index) const {
    if constexpr (!upper)
      return load_halves(reinterpret_cast<const Half*>(words + i * (kLine / 2) + part * (kVecBytes / 2)));
    VecI32 x;
    __builtin_memcpy(&x, words + part * kVecBytes, sizeof x);
    return VecF32(i == 0 ? x << 16 : x & std::int32_t(0xffff0000));
  }
};

// f(columns) for what reads the panels of a kind.
template <class F> TFCORE_INLINE void with_columns(Stored kind, F f) {
  if (kind == Stored::f16) f(Halves<false>{});
  else if (kind == Stored::bf16) f(Halves<true>{});
  else if (kStoredForms[int(kind)].bits == 4) f(ScaledColumns<4>{});
  else f(ScaledColumns<8>{});
}

template <int i> struct Constant {
  static constexpr int value = i;
};

// f(Constant<i>{}) for i < n
template <int n, int i = 0, class F> TFCORE_INLINE void for_constants(F f) {
  if constexpr (i < n) f(Constant<i>{}), for_constants<n, i + 1>(f);
}

// How the panels of a matrix of k depths lie: the depths and bytes of a run, where numbers without a scale have a line.
struct NarrowLayout {
  StoredForm form;
  Index run, run_bytes, panel_bytes;

  TFCORE_INLINE NarrowLayout(Stored kind, Index k)
      : form(kStoredForms[int(kind)]), run(form.run == 1 ? 32 / form.bits : form.run),
        run_bytes(narrow_panel_bytes(kind, run)), panel_bytes(k / run * run_bytes) {}
  TFCORE_INLINE Index at(Index panel, Index depth) const { return panel * panel_bytes + depth / run * run_bytes; }
};

// Depths [k0, k1) of panel p, borders of runs: out[k - k0][j] = b[k][j]. Asks for the same depths of the next panel.
void widen_panel(Stored kind, const U8* panels, Index k, Index p, Index k0, Index k1, float* out) {
  const NarrowLayout layout(kind, k);
  with_columns(kind, [&](auto reader) TFCORE_LAMBDA {
    constexpr int per_line = decltype(reader)::per_line;
    const U8* b = panels + layout.at(p, k0);
    for (Index depth = k0; depth < k1; depth += layout.run, b += layout.run_bytes, out += layout.run * kColumns) {
      for (Index line = 0; line < layout.run_bytes; line += kLine)
        __builtin_prefetch(b + layout.panel_bytes + line, 0, 2);
      for (int part = 0; part < kColumnVectors; ++part) {
        float* const to = out + part * lanes<float>;
        reader.begin(layout.form, b, part);
        for (Index line = 0; line < layout.run / per_line; ++line)
          for_constants<per_line>([&](auto constant) TFCORE_LAMBDA {
            constexpr int i = decltype(constant)::value;
            store(to + (line * per_line + i) * kColumns, reader.template depth<i>(line));
          });
      }
    }
  });
}

// Row `row` of the matrix, column row % 16 of its panel. A number at a time, for few rows are asked for: those of
// words.
void widen_row(Stored kind, const U8* panels, Index k, Index row, float* out) {
  const NarrowLayout layout(kind, k);
  const StoredForm& form = layout.form;
  const Index column = row % kColumns, per_line = 32 / form.bits;
  const U8* run = panels + layout.at(row / kColumns, 0);
  for (Index depth = 0; depth < k; depth += layout.run, run += layout.run_bytes) {
    const float* const scales = reinterpret_cast<const float*>(run) + column;
    const std::uint32_t* const words = reinterpret_cast<const std::uint32_t*>(run + narrow_header_bytes(form)) + column;
    for (Index i = 0; i < layout.run; ++i) {
      const std::uint32_t word = words[i / per_line * kColumns];
      if (kind == Stored::f16) {
        out[depth + i] = widen(reinterpret_cast<const Half*>(run)[i * kColumns + column]);
      } else if (kind == Stored::bf16) {
        out[depth + i] = reinterpret<float>(i == 0 ? word << 16 : word & 0xffff0000u);
      } else {
        const std::uint32_t bits = word >> i % per_line * form.bits & ((1u << form.bits) - 1);
        const float product = scales[0] * float(int(bits) + form.least);
        out[depth + i] = form.offset ? product + scales[kColumns] : product;
      }
    }
  }
}

// --- products of few rows --------------------------------------------------------------------------------------------

// Depths of one panel or two, at the beginning of a run.
struct NarrowTile {
  NarrowLayout layout;
  const U8* b;
  Index depth;
  Index ahead;  // what is wanted in L2 soon lies so many bytes behind what is read
  const float* a;
  Index a_stride;
  float* c;
  Index c_stride;
  bool accumulate;
};

// Five rows and more are 0.7 to 0.9 times as fast as by way of scratch. Two panels at a time where that takes no more
// than half of the registers, so that scales need not be in memory: three rows 1.3 times as fast as with 12 of 16.
constexpr int kNarrowRows = 4;

template <class Reader, int R, int P> void multiply_narrow(const NarrowTile& t) {
  constexpr int V = P * kColumnVectors, per_line = Reader::per_line;
  if constexpr (P == 2 && R * V > kVecRegisters / 2) {
    NarrowTile each = t;
    multiply_narrow<Reader, R, 1>(each);
    each.b += t.layout.panel_bytes, each.c += kColumns;
    return multiply_narrow<Reader, R, 1>(each);
  }
  VecF32 sum[R][V] = {};
  const float* a = t.a;
  const U8* b = t.b;
  const NarrowLayout layout = t.layout;
  for (Index k = 0; k < t.depth; k += layout.run, b += layout.run_bytes) {
    Reader columns[V];
    for (int v = 0; v < V; ++v)
      columns[v].begin(layout.form, b + v / kColumnVectors * layout.panel_bytes, v % kColumnVectors);
    for (Index line = 0; line < layout.run / per_line; ++line, a += per_line) {
      for (int p = 0; p < P; ++p) __builtin_prefetch(columns[p * kColumnVectors].words + line * kLine + t.ahead, 0, 2);
      for_constants<per_line>([&](auto constant) TFCORE_LAMBDA {
        constexpr int i = decltype(constant)::value;
        VecF32 ai[R];
#pragma GCC unroll 6
        for (int r = 0; r < R; ++r) ai[r] = splat(a[r * t.a_stride + i]);
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) {
          const VecF32 bv = columns[v].template depth<i>(line);
#pragma GCC unroll 6
          for (int r = 0; r < R; ++r) fma_into(sum[r][v], ai[r], bv);
        }
      });
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      float* const c = t.c + r * t.c_stride + v * lanes<float>;
      store(c, t.accumulate ? load(c) + sum[r][v] : sum[r][v]);
    }
}

template <class Reader, int R = 1> void multiply_narrow(Index rows, Index panels, const NarrowTile& t) {
  if (rows == R) return panels == 1 ? multiply_narrow<Reader, R, 1>(t) : multiply_narrow<Reader, R, 2>(t);
  if constexpr (R < kNarrowRows) multiply_narrow<Reader, R + 1>(rows, panels, t);
}

}  // namespace
}  // namespace tfcore
