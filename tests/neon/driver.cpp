// Runs every kernel of one instruction set's table on seeded inputs, and writes what comes out:  driver FILE
//
// FILE is a record for each result: "kernel|type|case|how", a newline, the count and the element's size as text, a
// newline, the numbers; every NaN is written as the same NaN. Inputs are made of integers by products that are exact,
// so that they are the same numbers everywhere. Every array ends where a page begins that cannot be touched, and begins
// little after another.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "kernels/table.hpp"

namespace tfcore {

extern const KernelTable TFCORE_ISA_TABLE;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

[[noreturn]] void fail(const char* what) {
  std::perror(what);
  std::exit(1);
}

// --- inputs ----------------------------------------------------------------------------------------------------------

template <class T> class Array {
 public:
  explicit Array(Index count) : count_(count) {
    const std::size_t page = std::size_t(sysconf(_SC_PAGESIZE)), bytes = std::size_t(count) * sizeof(T);
    const std::size_t usable = (bytes + page - 1) / page * page;
    size_ = usable + 2 * page;
    void* const base = mmap(nullptr, size_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) fail("mmap");
    base_ = static_cast<char*>(base);
    if (usable && mprotect(base_ + page, usable, PROT_READ | PROT_WRITE) != 0) fail("mprotect");
    data_ = reinterpret_cast<T*>(base_ + page + usable - bytes);
  }
  Array(Array&& other) noexcept : count_(other.count_), size_(other.size_), base_(other.base_), data_(other.data_) {
    other.base_ = nullptr;
  }
  Array& operator=(Array&&) = delete;
  ~Array() {
    if (base_) munmap(base_, size_);
  }
  T* data() const { return data_; }
  Index count() const { return count_; }
  T& operator[](Index i) const { return data_[i]; }

 private:
  Index count_;
  std::size_t size_;
  char* base_;
  T* data_;
};

class Random {  // splitmix64, seeded by a name
 public:
  explicit Random(const std::string& name) {
    for (const char c : name) state_ = (state_ ^ std::uint64_t(static_cast<unsigned char>(c))) * 0x100000001b3;
  }
  std::uint64_t bits() {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  // In [-1, 1), with all of the digits of T.
  template <class T> T number() {
    constexpr int digits = std::numeric_limits<T>::digits;
    return T(std::int64_t(bits()) >> (64 - digits - 1)) * (T(1) / T(std::int64_t(1) << digits));
  }
  template <class T> Array<T> array(Index count, T scale = 2) {  // a power of two
    Array<T> x(count);
    for (Index i = 0; i < count; ++i) x[i] = number<T>() * scale;
    return x;
  }

 private:
  std::uint64_t state_ = 0xcbf29ce484222325;
};

template <class T> Array<T> filled(Index count, T value) {
  Array<T> x(count);
  for (Index i = 0; i < count; ++i) x[i] = value;
  return x;
}

// --- outputs ---------------------------------------------------------------------------------------------------------

std::FILE* g_file;

template <class T> const char* type_name() { return sizeof(T) == 4 ? "float32" : "float64"; }

template <class T>
void record(const std::string& kernel, const std::string& what, const Array<T>& x, const char* how = "bits") {
  std::vector<T> copy(x.data(), x.data() + x.count());
  for (T& value : copy)
    if (value != value) value = T(kNan);
  std::fprintf(g_file, "%s|%s|%s|%s\n%lld %d\n", kernel.c_str(), type_name<T>(), what.c_str(), how,
               static_cast<long long>(x.count()), int(sizeof(T)));
  if (!copy.empty() && std::fwrite(copy.data(), sizeof(T), copy.size(), g_file) != copy.size()) fail("fwrite");
}

std::string named(const char* name, Index value) { return std::string(" ") + name + "=" + std::to_string(value); }

template <class T> const Kernels<T>& table() { return TFCORE_ISA_TABLE.of<T>(); }

// --- products --------------------------------------------------------------------------------------------------------

enum class Layout { packed, rows, columns, strided };
constexpr const char* kLayouts[] = {"packed", "row-major", "column-major", "strided"};
constexpr const char* kActivations[] = {"none", "relu", "gelu", "gelu_tanh", "silu", "tanh"};

struct Product {
  Index m, n, k;
  Layout layout;
  Activation activation;
  bool bias, residual;
  enum class Values { ordinary, tiny, hostile } values = Values::ordinary;
};
constexpr const char* kValues[] = {"", " tiny", " hostile"};

template <class T> void run_gemm(const Product& p) {
  const std::string what = std::string(kLayouts[int(p.layout)]) + named("m", p.m) + named("n", p.n) + named("k", p.k) +
                           " " + kActivations[int(p.activation)] + (p.bias ? " bias" : "") +
                           (p.residual ? " residual" : "") + kValues[int(p.values)];
  Random random(what);
  GemmArgs<T> g{};
  g.m = p.m, g.n = p.n, g.k = p.k;
  const Index pad = p.layout == Layout::strided ? 3 : 0;
  g.a_row = p.k + pad;
  const bool across = p.layout == Layout::columns || p.layout == Layout::packed;
  g.b_row = across ? 1 : p.layout == Layout::strided ? 2 * (p.n + 1) : p.n;
  g.b_column = across ? p.k : p.layout == Layout::strided ? 2 : 1;
  const auto span = [](Index rows, Index row, Index columns, Index column) {
    return rows && columns ? (rows - 1) * row + (columns - 1) * column + 1 : 0;
  };
  const bool tiny = p.values == Product::Values::tiny;  // products on both sides of the smallest normal number
  const T scale = tiny ? T(sizeof(T) == 4 ? 0x1p-62 : 0x1p-510) : T(2);
  const Array<T> a = random.array<T>(span(p.m, g.a_row, p.k, 1), scale);
  const Array<T> b = random.array<T>(span(p.k, g.b_row, p.n, g.b_column), scale);
  if (p.values == Product::Values::hostile) {
    a[0] = T(kNan), a[g.a_row] = T(kInfinity), a[2 * g.a_row + 1] = std::numeric_limits<T>::max();
    b[3 * g.b_row] = -T(kInfinity), b[4 * g.b_row + g.b_column] = T(kNan);
  }
  const Array<T> bias = random.array<T>(p.n), residual = random.array<T>(p.m * p.n);
  const Array<T> c = filled<T>(p.m * p.n, T(-7));
  const Index panels = (p.n + kPanel<T> - 1) / kPanel<T>;
  const Array<T> packed(panels * kPanel<T> * p.k);
  g.a = a.data(), g.b = b.data(), g.c = c.data();
  g.bias = p.bias ? bias.data() : nullptr, g.residual = p.residual ? residual.data() : nullptr;
  g.activation = p.activation;
  if (p.layout == Layout::packed) {
    for (Index panel = 0; panel < panels; ++panel) table<T>().pack(g, panel, panel + 1, packed.data());
    record("pack", what, packed);
    g.b = packed.data(), g.packed = true;
  }
  const Array<T> scratch = filled<T>(Index(table<T>().gemm_scratch(g)), T(kNan));
  const Index row = p.m > 40 ? 37 : p.m, panel = panels > 2 ? 2 : panels;  // two tasks each way, where there is enough
  for (const GemmRange& range :
       {GemmRange{0, row, 0, panel}, GemmRange{0, row, panel, panels}, GemmRange{row, p.m, 0, panels}})
    if (range.row_begin < range.row_end && range.panel_begin < range.panel_end)
      table<T>().gemm(g, range, scratch.data());
  record("gemm", what, c);
  if (p.layout != Layout::packed || p.n % (2 * kPanel<T>) != 0) return;
  const Index width = p.n / 2 - 3;  // the last gate's panel is not whole
  const Array<T> gated = filled<T>(p.m * width, T(-7));
  g.residual = nullptr, g.gated = gated.data(), g.gated_width = width;
  table<T>().gemm(g, GemmRange{0, p.m, 0, panels}, scratch.data());
  record("gated gemm", what, gated);
}

template <class T> void run_products() {
  constexpr Layout all[] = {Layout::packed, Layout::rows, Layout::columns, Layout::strided};
  for (const Layout layout : all) {
    for (Index m = 1; m <= 14; ++m) run_gemm<T>({m, 65, 19, layout, Activation::none, false, false});
    for (const Index n : {1, 7, 8, 15, 16, 17, 31, 32, 33, 64, 128, 130})
      for (const Index m : {1, 5, 13}) run_gemm<T>({m, n, 24, layout, Activation::none, true, false});
    for (const Index k : {0, 1, 2, 15, 16, 255, 256, 257, 600})
      for (const Index m : {1, 8, 12}) run_gemm<T>({m, 48, k, layout, Activation::none, false, true});
    for (int activation = 0; activation < 6; ++activation)
      for (const Index n : {64, 83}) run_gemm<T>({7, n, 33, layout, Activation(activation), true, true});
    run_gemm<T>({97, 83, 300, layout, Activation::gelu, true, false});
    run_gemm<T>({29, 64, 1024, layout, Activation::none, true, false});  // rows that fall into one set of a cache
    run_gemm<T>({13, 40, 70, layout, Activation::none, false, false, Product::Values::tiny});
    for (int activation = 0; activation < 6; ++activation)
      run_gemm<T>({9, 40, 11, layout, Activation(activation), true, true, Product::Values::hostile});
  }
}

// --- attention -------------------------------------------------------------------------------------------------------

struct Shape {
  Index heads, queries, keys, head_size, value_size;
};

constexpr Index kOpen = Index(1) << 40;

// What restricts or alters the scores; any of them may meet any other.
struct Restrictions {
  const char* name;
  Index left = kOpen, right = kOpen, offset = 0, hidden_keys = 0;
  MaskKind mask = MaskKind::none;
  bool one_mask_row = false, one_mask_head = false, mask_by_columns = false;
  double softcap = 0;
  bool slopes = false, sinks = false, weights = false, hostile = false, ends_meet = false;
};

// The same by spans of keys, as threads share a few rows.
template <class T> void run_spans(AttentionArgs<T> a, const std::string& what, const Array<T>& out, T* scratch) {
  const Index rows = a.heads * a.queries, spans = (a.keys + kKeySpan - 1) / kKeySpan;
  if (rows > kQueryBlock || spans == 0) return;
  const Index size = rows * (a.value_size + 2);
  const Array<T> parts = filled<T>(spans * size, T(kNan));
  a.weights = nullptr;
  for (Index span = spans - 1; span >= 0; --span) table<T>().attend_span(a, span, parts.data() + span * size, scratch);
  table<T>().merge_spans(a, spans, parts.data(), scratch);
  record("attention", what + ", by spans", out);
}

template <class T> void run_attention(const Shape& s, const Restrictions& r) {
  const std::string what = std::string(r.name) + named("heads", s.heads) + named("L", s.queries) + named("S", s.keys) +
                           named("D", s.head_size) + named("Dv", s.value_size);
  Random random(what);
  AttentionArgs<T> a{};
  a.heads = s.heads, a.queries = s.queries, a.keys = s.keys, a.head_size = s.head_size, a.value_size = s.value_size;
  const Index pad = s.head_size % 2;  // odd sizes stand in wider rows
  a.q_row = s.head_size + pad, a.q_head = s.queries * a.q_row;
  a.k_row = s.head_size + pad, a.v_row = s.value_size + pad;
  a.out_row = s.value_size + pad, a.out_head = s.queries * a.out_row;
  const Array<T> q = random.array<T>(s.heads * a.q_head - pad), k = random.array<T>(s.keys * a.k_row - pad);
  const Array<T> v = random.array<T>(s.keys * a.v_row - pad);
  const Array<T> out = filled<T>(s.heads * a.out_head - pad, T(-7));
  const Array<T> weights = filled<T>(s.heads * s.queries * s.keys, T(0));
  if (r.hostile && s.keys > 0) {  // in a key and a value that some rows see, and others do not
    k[s.keys / 2 * a.k_row] = T(kNan), v[s.keys / 3 * a.v_row] = T(kInfinity), v[(s.keys - 1) * a.v_row] = T(kNan);
    q[0] = T(kInfinity);
  }
  a.q = q.data(), a.k = k.data(), a.v = v.data(), a.out = out.data();
  if (r.weights) a.weights = weights.data(), a.weights_row = s.keys, a.weights_head = s.queries * s.keys;
  a.key_count = s.keys > r.hidden_keys ? s.keys - r.hidden_keys : 0;
  a.left = r.left, a.right = r.right, a.offset = r.ends_meet ? s.keys - s.queries : r.offset;
  a.mask_kind = r.mask;
  a.mask_column = r.mask_by_columns ? s.queries : 1;
  a.mask_row = r.one_mask_row ? 0 : r.mask_by_columns ? 1 : s.keys;
  a.mask_head = r.one_mask_head ? 0 : (r.one_mask_row ? s.keys : s.queries * s.keys);
  const Index mask_size = (r.one_mask_head ? 1 : s.heads) * (r.one_mask_row ? 1 : s.queries) * s.keys;
  const Array<unsigned char> shows(mask_size);
  const Array<T> added = random.array<T>(mask_size);
  for (Index i = 0; i < mask_size; ++i) {
    shows[i] = random.bits() % 3 != 0;
    const Index kind = Index(random.bits() % 8);
    if (kind < 2) added[i] = kind == 0 ? T(-kInfinity) : std::numeric_limits<T>::lowest();
  }
  a.mask = r.mask == MaskKind::boolean ? static_cast<const void*>(shows.data()) : added.data();
  const Array<T> slopes = random.array<T>(s.heads, T(0.5)), sinks = random.array<T>(s.heads);
  sinks[0] = T(r.hostile ? -kInfinity : 1);
  a.slopes = r.slopes ? slopes.data() : nullptr, a.sinks = r.sinks ? sinks.data() : nullptr;
  a.scale = T(0.375), a.softcap = T(r.softcap);
  const Array<T> scratch = filled<T>(Index(table<T>().attention_scratch(a)), T(kNan));
  const Index rows = s.heads * s.queries, step = rows > 100 ? 100 : rows;  // a task that ends inside a block of rows
  for (Index row = 0; row < rows; row += step)
    table<T>().attention(a, row, row + step < rows ? row + step : rows, scratch.data());
  record("attention", what, out);
  if (r.weights) record("attention", what + ", the weights", weights);
  run_spans(a, what, out, scratch.data());
}

std::vector<Restrictions> restrictions() {
  std::vector<Restrictions> all;
  const auto add = [&](const char* name, auto set) {
    Restrictions r{};
    r.name = name;
    set(r);
    all.push_back(r);
  };
  add("plain", [](auto&) {});
  add("causal", [](auto& r) { r.right = 0; });
  add("causal, ends meet", [](auto& r) { r.right = 0, r.ends_meet = r.weights = true; });
  add("window", [](auto& r) { r.left = 7, r.right = 3; });
  add("offset", [](auto& r) { r.right = 0, r.offset = 29, r.left = 140; });
  add("offset before all keys", [](auto& r) { r.right = 1, r.offset = -6; });
  add("key_count", [](auto& r) { r.hidden_keys = 5; });
  add("boolean mask", [](auto& r) { r.mask = MaskKind::boolean; });
  add("boolean mask, one row", [](auto& r) { r.mask = MaskKind::boolean, r.one_mask_row = r.one_mask_head = true; });
  add("boolean mask, by columns",
      [](auto& r) { r.mask = MaskKind::boolean, r.mask_by_columns = r.one_mask_head = true; });
  add("additive mask", [](auto& r) { r.mask = MaskKind::additive; });
  add("additive mask, one row a head", [](auto& r) { r.mask = MaskKind::additive, r.one_mask_row = true; });
  add("softcap", [](auto& r) { r.softcap = 2; });
  add("slopes", [](auto& r) { r.slopes = true; });
  add("sinks", [](auto& r) { r.sinks = true; });
  add("weights", [](auto& r) { r.weights = true; });
  add("all", [](auto& r) {
    r.right = 2, r.left = 150, r.offset = 9, r.hidden_keys = 1, r.mask = MaskKind::additive;
    r.softcap = 3, r.slopes = r.sinks = r.weights = true;
  });
  add("hostile", [](auto& r) { r.hostile = true; });
  add("hostile, causal", [](auto& r) { r.hostile = r.sinks = true, r.right = 0, r.offset = 3, r.hidden_keys = 1; });
  add("hostile, mask", [](auto& r) { r.hostile = r.weights = true, r.mask = MaskKind::boolean; });
  return all;
}

template <class T> void run_attentions() {
  constexpr Shape shapes[] = {
      {1, 1, 1, 1, 1},      {1, 1, 129, 64, 64}, {2, 1, 40, 33, 17},   {3, 1, 150, 16, 40},  {1, 4, 17, 8, 24},
      {1, 5, 16, 31, 1},    {2, 4, 127, 12, 16}, {1, 16, 130, 24, 32}, {3, 11, 33, 7, 9},    {1, 64, 128, 64, 64},
      {1, 65, 257, 20, 31}, {4, 33, 70, 32, 48}, {1, 3, 300, 40, 8},   {1, 300, 10, 64, 20}, {2, 150, 0, 16, 16},
      {1, 2, 0, 8, 24},     {1, 2, 2100, 8, 8},  {2, 4, 4500, 4, 12},
  };
  for (const Restrictions& r : restrictions())
    for (const Shape& s : shapes) run_attention<T>(s, r);
}

// --- rows ------------------------------------------------------------------------------------------------------------

template <class T> void run_norms() {
  constexpr Index rows = 5;
  for (const Index width : {1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 100, 127, 128, 129, 255, 300, 1000}) {
    for (const bool hostile : {false, true}) {
      const std::string what = (hostile ? "hostile" : "plain") + named("width", width);
      Random random(what);
      const Array<T> x = random.array<T>(rows * width, T(8)), weight = random.array<T>(width),
                     bias = random.array<T>(width);
      const Array<T> out(rows * width);
      if (hostile) {
        x[width - 1] = T(kNan), x[width + width / 2] = T(kInfinity), x[2 * width] = T(-kInfinity);
        for (Index j = 0; j < width; ++j) {
          x[3 * width + j] = -T(kInfinity);
          x[4 * width + j] = std::numeric_limits<T>::max() * (j % 3 ? T(0.5) : T(-1));
        }
      }
      table<T>().softmax(SoftmaxKind::plain, x.data(), out.data(), rows, width);
      record("softmax", what, out);
      table<T>().softmax(SoftmaxKind::logarithm, x.data(), out.data(), rows, width);
      record("log_softmax", what, out);
      table<T>().softmax_columns(SoftmaxKind::plain, x.data(), out.data(), rows, width, 0, width);
      record("softmax of columns", what, out);
      table<T>().softmax_columns(SoftmaxKind::logarithm, x.data(), out.data(), width, rows, 0, rows);
      record("log_softmax of columns", what, out);
      for (const int given : {0, 1, 2, 3}) {
        const std::string which = what + (given & 1 ? " weight" : "") + (given & 2 ? " bias" : "");
        const NormArgs<T> a{
            width,  x.data(), out.data(), given & 1 ? weight.data() : nullptr, given & 2 ? bias.data() : nullptr,
            T(1e-5)};
        table<T>().layer_norm(a, 0, 2), table<T>().layer_norm(a, 2, rows);
        record("layer_norm", which, out);
        table<T>().rms_norm(a, 0, rows);
        record("rms_norm", which, out);
      }
    }
  }
}

// --- elements --------------------------------------------------------------------------------------------------------

constexpr const char* kFunctions[] = {"exp", "exp2", "tanh", "erf", "sin", "cos", "gelu", "gelu_tanh", "silu", "relu"};

// Bit patterns spread evenly over all of them, every special number, and random ones where the functions bend.
template <class T> std::vector<T> elements() {
  using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  std::vector<T> x;
  constexpr Bits count = 60001;
  for (Bits i = 0; i < count; ++i) {
    const Bits pattern = i * (~Bits(0) / count);
    T value;
    std::memcpy(&value, &pattern, sizeof value);
    x.push_back(value);
  }
  using Limits = std::numeric_limits<T>;
  for (const T value : {T(0),
                        T(1),
                        T(2),
                        T(0.625),
                        T(4),
                        T(6),
                        T(kInfinity),
                        T(kNan),
                        Limits::max(),
                        Limits::min(),
                        Limits::denorm_min(),
                        Limits::min() / 2,
                        T(88),
                        T(89),
                        T(126),
                        T(127),
                        T(128),
                        T(709),
                        T(710),
                        T(1022),
                        T(1023),
                        T(1024)})
    for (const T sign : {T(1), T(-1)}) {
      x.push_back(sign * value);
      x.push_back(std::nextafter(sign * value, T(kInfinity)));
      x.push_back(std::nextafter(sign * value, -T(kInfinity)));
    }
  Random random("elements");
  for (const T scale : {T(1), T(16), T(256), T(2048)})
    for (int i = 0; i < 20000; ++i) x.push_back(random.number<T>() * scale);
  for (int i = -2000; i < 2000; ++i) x.push_back(T(i) / 2);  // ties of every rounding to an integer
  return x;
}

template <class T> void run_elementwise() {
  for (int f = 0; f < 10; ++f) {
    const bool angles = Function(f) == Function::sin || Function(f) == Function::cos;
    std::vector<T> near, far;
    for (const T x : elements<T>()) (angles && std::abs(x) > T(16777216) ? far : near).push_back(x);
    for (const std::vector<T>* part : {&near, &far}) {
      const Index n = Index(part->size());
      const Array<T> x(n), out(n);
      std::copy(part->begin(), part->end(), x.data());
      table<T>().elementwise(Function(f), x.data(), out.data(), n);
      if (n)
        record("elementwise", kFunctions[f] + std::string(part == &far ? " beyond 2^24" : ""), out,
               part == &far ? "libm" : "bits");
    }
    for (const Index n : {0, 1, 2, 3, 5, 8, 13, 16, 19, 33}) {
      const Array<T> x = Random(kFunctions[f]).array<T>(n, T(4)), out(n);
      table<T>().elementwise(Function(f), x.data(), out.data(), n);
      record("elementwise", kFunctions[f] + named("n", n), out);
    }
  }
}

// --- positions -------------------------------------------------------------------------------------------------------

template <class T> void run_positions() {
  for (const Index width : {1, 2, 3, 5, 8, 15, 16, 17, 31, 33, 64, 101})
    for (const bool split : {false, true})
      for (const bool shared : {true, false})
        for (const Index offset : {0, 240, 10000001, (1 << 24) - 20, -3}) {
          constexpr Index rows = 40;
          const Index columns = shared ? (width + 1) / 2 : width;
          const Array<double> frequencies(columns);
          for (Index i = 0; i < columns; ++i) frequencies[i] = 1.0 / double(1 + 3 * i);
          const Array<T> out = filled<T>(rows * width, T(-7));
          PositionArgs<T> a{};
          a.model_width = width, a.offset = offset, a.split = split, a.columns = columns, a.largest = 1;
          a.frequencies = frequencies.data(), a.out = out.data();
          const Array<double> tables(2 * kStepRows * a.table_size()), scratch(2 * a.table_size());
          a.tables = tables.data(), a.step_tables = kStepRows;
          table<T>().position_tables(a, 0, 2 * kStepRows, tables.data());
          table<T>().positions(a, 0, 2, scratch.data()), table<T>().positions(a, 2, rows, scratch.data());
          record("positions",
                 named("width", width).substr(1) + (split ? " split" : " interleaved") + (shared ? " shared" : " own") +
                     named("offset", offset),
                 out);
        }
}

template <class T> void run_rotary() {
  for (const Index width : {2, 4, 6, 10, 16, 18, 32, 34, 64, 67})
    for (const Index rotary : {width / 2 * 2, width / 4 * 2})
      for (const bool interleaved : {false, true})
        for (const Index lead : {1, 3}) {
          const std::string what = named("width", width).substr(1) + named("rotary", rotary) + named("lead", lead) +
                                   (interleaved ? " interleaved" : " halves");
          constexpr Index rows = 7;
          Random random(what);
          const Array<T> x = random.array<T>(rows * lead * width), out = filled<T>(rows * lead * width, T(-7));
          const Array<double> positions = random.array<double>(rows, 4096), frequencies(rotary / 2);
          positions[0] = 0, positions[1] = 1e7, positions[2] = -5;
          for (Index i = 0; i < rotary / 2; ++i) frequencies[i] = 1.0 / double(1 + 3 * i);
          RotaryArgs<T> a{};
          a.rows = rows, a.lead = lead, a.width = width, a.rotary = rotary;
          a.x = x.data(), a.out = out.data(), a.row_stride = width, a.lead_stride = rows * width;
          a.positions = positions.data(), a.frequencies = frequencies.data();
          a.interleaved = interleaved, a.magnitude = lead == 1 ? 1.0 : 1.1875;
          const Array<T> scratch = filled<T>(kRotaryRows * rotary, T(kNan));
          table<T>().rotary(a, 0, 3, scratch.data()), table<T>().rotary(a, 3, rows, scratch.data());
          record("rotary", what, out);
          const Array<T> tables = filled<T>(rows * rotary, T(kNan));
          table<T>().rotary_tables(a, 0, rows, tables.data());
          a.tables = tables.data();
          table<T>().rotary(a, 0, rows, scratch.data());
          record("rotary", what + " from tables", out);
        }
}

// What the probes move, and the sum of what they read: of integers, which no order of adding rounds. The sum of fma,
// on its own numbers, is another in any number of chains.
template <class T> void run_probes() {
  constexpr Index count = 2 * kProbeBlock;
  const Array<T> x(count), out = filled<T>(3 * count, T(-7)), sum(1);
  Random random("probes");
  for (Index i = 0; i < count; ++i) x[i] = T(random.bits() % 100);
  table<T>().probe(Probe::copy, x.data(), out.data(), 0, count);
  table<T>().probe(Probe::write, x.data(), out.data() + count, 0, kProbeBlock);
  sum[0] = table<T>().probe(Probe::read, x.data(), nullptr, kProbeBlock, count);
  record("probe", "copy, write", out);
  record("probe", "read", sum);
}

Array<std::uint8_t> any_bytes(const char* name, Index count) {
  Random random(name);
  Array<std::uint8_t> data(count);
  for (Index i = 0; i < count; ++i) data[i] = std::uint8_t(random.bits());
  return data;
}

// A matrix of any bytes at all as narrow panels: a row of it, and products of few and of many rows.
void run_narrow(Stored kind, const char* name) {
  constexpr Index n = 83, k = 512, panels = (n + kPanel<float> - 1) / kPanel<float>;
  const Array<std::uint8_t> rows = any_bytes(name, n * stored_row_bytes(kind, k));
  const Array<std::uint8_t> packed(panels * narrow_panel_bytes(kind, k));
  const StoredMatrix matrix{kind, n, k, rows.data()};
  if (kStoredForms[int(kind)].numbers > 1) {
    const Array<std::uint8_t> common(2 * stored_row_bytes(Stored::common, k));
    TFCORE_ISA_TABLE.to_common(matrix, 3, 5, common.data());
    const Array<float> wide = filled<float>(2 * k, -7.0f);
    TFCORE_ISA_TABLE.dequantize(Stored::common, common.data(), wide.data(), 0, 2 * k / 16);
    record("to_common", name, wide);
  }
  TFCORE_ISA_TABLE.pack_narrow(matrix, 0, 2, packed.data());
  TFCORE_ISA_TABLE.pack_narrow(matrix, 2, panels, packed.data());
  const Array<float> row = filled<float>(k, -7.0f);
  TFCORE_ISA_TABLE.widen_row(kind, packed.data(), k, n - 1, row.data());
  record("widen_row", name, row);
  for (const Index m : {1, 2, 3, 4, 5, 13, 100}) {
    const std::string what = name + named("m", m);
    const Array<float> a = Random(what).array<float>(m * k), c = filled<float>(m * n, -7.0f);
    GemmArgs<float> g{};
    g.m = m, g.n = n, g.k = k, g.a = a.data(), g.a_row = k, g.c = c.data();
    g.narrow = packed.data(), g.stored = kind;
    const Array<float> scratch = filled<float>(Index(table<float>().gemm_scratch(g)), float(kNan));
    table<float>().gemm(g, GemmRange{0, m, 0, 2}, scratch.data());
    table<float>().gemm(g, GemmRange{0, m, 2, panels}, scratch.data());
    record("narrow gemm", what, c);
  }
}

// Blocks of any bytes at all, widened from the second on.
void run_stored() {
  constexpr const char* kinds[] = {"F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"};
  for (int i = 0; i < 10; ++i) {
    const Stored kind = Stored(i + 1);
    const StoredForm form = kStoredForms[int(kind)];
    const Index blocks = form.numbers == 1 ? 4099 : 35;
    const Array<std::uint8_t> data = any_bytes(kinds[i], blocks * form.bytes);
    const Array<float> out = filled<float>(blocks * form.numbers, -7.0f);
    TFCORE_ISA_TABLE.dequantize(kind, data.data(), out.data(), 1, 3);
    TFCORE_ISA_TABLE.dequantize(kind, data.data(), out.data(), 3, blocks);
    record("dequantize", kinds[i], out);
    run_narrow(kind, kinds[i]);
  }
}

template <class T> void run_all() {
  run_products<T>(), run_attentions<T>(), run_norms<T>();
  run_elementwise<T>(), run_positions<T>(), run_rotary<T>(), run_probes<T>();
}

}  // namespace
}  // namespace tfcore

int main(int count, char** arguments) {
  using namespace tfcore;
  if (count != 2) return std::fprintf(stderr, "driver FILE\n"), 2;
  g_file = std::fopen(arguments[1], "wb");
  if (!g_file) fail(arguments[1]);
  run_all<float>(), run_all<double>();
  run_stored();
  if (std::fclose(g_file) != 0) fail("fclose");
  return 0;
}
