#include "bind/tensors.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "bind/dequantize.hpp"

namespace tfcore {
namespace {

// Bytes of a mapping for the weights of many layers.
constexpr std::size_t kWeightsTogether = std::size_t(1) << 25;

// A matrix (N, K) for a product: of float32, or as its file stores it.
struct Matrix {
  Array rows;
  StoredMatrix stored;

  explicit Matrix(const Array& values)
      : rows(values),
        stored{Stored::f32, values.dim(0), values.dim(1), reinterpret_cast<const std::uint8_t*>(values.data<float>())} {
  }
  Matrix(Stored kind, const Array& bytes, Index k)
      : rows(bytes), stored{kind, bytes.dim(0), k, bytes.data<std::uint8_t>()} {}
};

// A mapping of names to arrays, which may read each from a file when it is asked for; `at` is a part of the model.
// `stored` is a function from a name to the kind and the rows of bytes of a matrix, or to None; or itself None.
class Tensors {
 public:
  Tensors(const Door& door, py::object tensors, py::object stored, HugePages& storage, std::string at = "")
      : door_(door), tensors_(std::move(tensors)), stored_(std::move(stored)), storage_(storage), at_(std::move(at)) {}

  Tensors part(const std::string& name) const { return Tensors(door_, tensors_, stored_, storage_, at_ + name + "."); }
  HugePages& storage() const { return storage_; }  // of what is packed
  bool has(const std::string& name) const { return tensors_.contains(py::str(at_ + name)); }

  // -1 in `wanted` is any size.
  Array get(const std::string& name, const Shape& wanted) const {
    const std::string label = "tensor '" + at_ + name + "'";
    if (!has(name)) door_.value_error(label + " is missing");
    const py::object value = tensors_[py::str(at_ + name)];
    if (!PyArray_Check(value.ptr()))
      door_.type_error(label + " is of type " + std::string(py::str(py::type::of(value))) + ", expected numpy.ndarray");
    const Array a(value);
    if (a.type() != NPY_FLOAT || !PyArray_ISCARRAY_RO(a.get()))
      door_.type_error(label + " has dtype " + a.dtype() + ", expected contiguous float32");
    Shape shape = a.shape();
    for (std::size_t i = 0; i < wanted.size() && i < shape.size(); ++i)
      if (wanted[i] < 0) shape[i] = wanted[i];
    if (!(shape == wanted))
      door_.value_error(label + " has shape " + text(a.shape()) + ", expected " + text(wanted) + " (-1: any)");
    if (a.size() == 0) door_.value_error(label + " has shape " + text(a.shape()) + ", expected some numbers");
    return a;
  }

  std::vector<float> values(const std::string& name, const Shape& wanted) const {
    const Array a = get(name, wanted);
    return std::vector<float>(a.data<float>(), a.data<float>() + a.size());
  }

  std::vector<float> optional(const std::string& name, Index size) const {
    return has(name) ? values(name, {size}) : std::vector<float>();
  }

  // -1 is any number.
  Matrix matrix(const std::string& name, Index n, Index k) const {
    const py::object found = stored_.is_none() || !has(name) ? py::object(py::none()) : stored_(at_ + name);
    if (found.is_none()) return Matrix(get(name, {n, k}));
    const std::string label = "tensor '" + at_ + name + "' as stored";
    if (!PyTuple_Check(found.ptr()) || PyTuple_Size(found.ptr()) != 2)
      door_.type_error(label + " is of type " + std::string(py::str(py::type::of(found))) + ", expected (kind, rows)");
    const py::tuple pair(found);
    const Stored kind = stored_kind(door_, pair[0], ("the kind of " + label).c_str());
    if (!PyArray_Check(pair[1].ptr())) door_.type_error(label + " has rows that are no numpy.ndarray");
    const Array rows(pair[1]);
    if (rows.type() != NPY_UINT8 || !PyArray_ISCARRAY_RO(rows.get()))
      door_.type_error(label + " has dtype " + rows.dtype() + ", expected contiguous uint8");
    const StoredForm form = kStoredForms[int(kind)];
    const bool whole = rows.ndim() == 2 && rows.size() > 0 && rows.dim(1) % form.bytes == 0;
    const Index numbers = whole ? rows.dim(1) / form.bytes * form.numbers : 0;
    if (!whole || (n >= 0 && rows.dim(0) != n) || (k >= 0 && numbers != k))
      door_.value_error(label + " has shape " + text(rows.shape()) + ", expected the bytes of " + text({n, k}) +
                        " (-1: any)");
    return fits_narrow(kind, numbers) ? Matrix(kind, rows, numbers) : Matrix(get(name, {n, k}));
  }

  Linear linear(const std::string& name, Index n, Index k) const {
    const Matrix weight = matrix(name + ".weight", n, k);
    return {pack_stored(weight.stored, storage_), optional(name + ".bias", weight.stored.n)};
  }

  Norm norm(const std::string& name, Index width) const {
    if (!has(name + ".weight")) return {};
    return {values(name + ".weight", {width}), optional(name + ".bias", width)};
  }

  Norms norms(Index width) const {
    return {norm("norm", width), norm("branch_norm", width), norm("after_norm", width)};
  }

 private:
  const Door& door_;
  py::object tensors_, stored_;
  HugePages& storage_;
  std::string at_;
};

struct Part {
  const char* name;
  Index rows;
};

// Layers of one input, and how all of their rows can be stored: as their files have them where those agree; else in
// what formats of blocks have in common, or as float32.
struct Layers {
  std::vector<Matrix> weights;
  Stored kind;

  Layers(const Tensors& t, std::initializer_list<Part> parts, Index k) {
    for (const Part& part : parts) weights.push_back(t.matrix(std::string(part.name) + ".weight", part.rows, k));
    kind = weights[0].stored.kind;
    const auto all = [&](auto holds) { return std::all_of(weights.begin(), weights.end(), holds); };
    if (all([&](const Matrix& m) { return m.stored.kind == kind; })) return;
    kind = Stored::common;
    if (all([](const Matrix& m) { return kStoredForms[int(m.stored.kind)].numbers > 1; })) return;
    kind = Stored::f32;
    weights.clear();
    for (const Part& part : parts) weights.emplace_back(t.get(std::string(part.name) + ".weight", {part.rows, k}));
  }
};

// Rows of several linear layers of one input put together as one product. Rows of no layer are zero.
class Rows {
 public:
  Rows(Stored kind, Index n, Index k)
      : kind_(kind), n_(n), k_(k), row_bytes_(stored_row_bytes(kind, k)),
        weight_(allocate_aligned<std::uint8_t>(std::size_t(n * row_bytes_))), bias_(std::size_t(n)) {
    std::memset(weight_.get(), 0, std::size_t(n * row_bytes_));
  }

  // Rows `from` to `from + count` of a layer become rows `to` on.
  void put(const Matrix& weight, const std::vector<float>& bias, Index from, Index count, Index to) {
    std::uint8_t* const rows = weight_.get() + to * row_bytes_;
    if (weight.stored.kind == kind_)
      std::memcpy(rows, weight.stored.rows + from * row_bytes_, std::size_t(count * row_bytes_));
    else kernels().to_common(weight.stored, from, from + count, rows);
    if (bias.empty()) return;
    biased_ = true;
    std::memcpy(bias_.data() + to, bias.data() + from, std::size_t(count) * sizeof(float));
  }

  Linear pack(HugePages& storage) const {
    return {pack_stored({kind_, n_, k_, weight_.get()}, storage), biased_ ? bias_ : std::vector<float>()};
  }

 private:
  Stored kind_;
  Index n_, k_, row_bytes_;
  AlignedArray<std::uint8_t> weight_;
  std::vector<float> bias_;
  bool biased_ = false;
};

Linear below_one_another(const Tensors& t, std::initializer_list<Part> parts, Index k) {
  const Layers layers(t, parts, k);  // checked before their sizes are believed
  Index n = 0, to = 0;
  for (const Part& part : parts) n += part.rows;
  Rows rows(layers.kind, n, k);
  auto weight = layers.weights.begin();
  for (const Part& part : parts) {
    rows.put(*weight++, t.optional(std::string(part.name) + ".bias", part.rows), 0, part.rows, to);
    to += part.rows;
  }
  return rows.pack(t.storage());
}

// Panels of the gate's and of the other's columns in turn; what is past the last column stays zero.
Linear in_turn(const Tensors& t, Index inner, Index k) {
  constexpr Index panel = kPanel<float>;
  const Index panels = (inner + panel - 1) / panel;
  const Layers layers(t, {{"gate", inner}, {"up", inner}}, k);
  Rows rows(layers.kind, 2 * panels * panel, k);
  const auto put = [&](const Matrix& weight, const std::vector<float>& bias, Index place) {
    for (Index p = 0; p < panels; ++p)
      rows.put(weight, bias, p * panel, std::min(panel, inner - p * panel), 2 * p * panel + place);
  };
  put(layers.weights[0], t.optional("gate.bias", inner), 0);
  put(layers.weights[1], t.optional("up.bias", inner), panel);
  return rows.pack(t.storage());
}

class Spec {
 public:
  Spec(const Door& door, py::dict fields, std::string at)
      : door_(door), fields_(std::move(fields)), at_(std::move(at)) {}

  py::object field(const char* name) const {
    if (!fields_.contains(name)) door_.value_error(label(name) + " is missing");
    return fields_[name];
  }
  Index integer(const char* name, Index least) const {
    return door_.integer(field(name), label(name).c_str(), least, Index(1) << 31);
  }
  float number(const char* name) const {
    const float x = float(door_.number(field(name), label(name).c_str()));
    if (!std::isfinite(x)) door_.value_error(label(name) + " is beyond float32");
    return x;
  }
  float non_negative(const char* name) const {
    const float x = number(name);
    if (!(x >= 0)) door_.value_error(label(name) + " is " + std::to_string(x) + ", expected at least 0");
    return x;
  }
  void read_scale(BlockSpec& s) const {
    const Number scale = given("scale"), softcap = given("softcap");
    door_.expect_scale(scale, softcap);
    s.scale = float(scale.value), s.softcap = float(softcap.value);
  }
  py::list list(const char* name) const {
    const py::object value = field(name);
    if (!PyList_Check(value.ptr())) door_.type_error(label(name) + " is no list");
    return value;
  }
  bool flag(const char* name) const { return door_.flag(field(name), label(name).c_str()); }
  NormKind norm() const {
    return door_.one_of<NormKind>(field("norm"), label("norm").c_str(),
                                  {{"layer", NormKind::layer}, {"rms", NormKind::rms}});
  }
  Activation activation() const { return door_.activation(field("activation")); }

 private:
  Number given(const char* name) const {
    const py::object value = field(name);
    return {label(name), value, door_.number(value, label(name).c_str())};
  }
  std::string label(const char* name) const { return at_ + "['" + name + "']"; }
  const Door& door_;
  py::dict fields_;
  std::string at_;
};

BlockSpec read_spec(const Spec& f) {
  BlockSpec s{};
  s.inner = f.integer("inner", 1), s.heads = f.integer("heads", 1);
  s.key_heads = f.integer("key_heads", 1), s.head_size = f.integer("head_size", 1);
  s.norm = f.norm(), s.eps = f.non_negative("eps"), s.parallel = f.flag("parallel");
  s.activation = f.activation();
  f.read_scale(s);
  s.causal = f.flag("causal"), s.left = f.integer("left", -1), s.right = f.integer("right", -1);
  s.rotary = f.integer("rotary", -1), s.relative = f.flag("relative");
  return s;
}

Block read_block(const Tensors& t, const BlockSpec& s, Index width) {
  const Tensors self = t.part("attention"), cross = t.part("cross"), ff = t.part("feed_forward");
  const Index q = s.query_width(), k = s.key_width(), inner = s.inner;
  const bool gated = ff.has("gate.weight");
  if (self.has("query_norm.weight") != self.has("key_norm.weight"))
    for (const char* norm : {"query_norm.weight", "key_norm.weight"}) self.get(norm, {s.head_size});
  Block block{
      s,
      {self.norms(width), below_one_another(self, {{"query", q}, {"key", k}, {"value", k}}, width),
       self.norm("query_norm", s.head_size), self.norm("key_norm", s.head_size), self.linear("output", width, q)},
      {},
      {ff.norms(width), gated ? in_turn(ff, inner, width) : ff.linear("up", inner, width), gated,
       ff.linear("down", width, inner)}};
  if (cross.has("query.weight"))
    block.cross = {cross.norms(width), cross.linear("query", q, width),
                   below_one_another(cross, {{"key", k}, {"value", k}}, width), cross.linear("output", width, q)};
  return block;
}

Table read_table(const Tensors& t, const char* name, Index width) {
  const std::string weight = std::string(name) + ".weight";
  if (!t.has(weight)) return {};
  const Matrix found = t.matrix(weight, -1, width);
  const StoredMatrix& m = found.stored;
  return {m.n, m.k, m.kind, std::vector<std::uint8_t>(m.rows, m.rows + m.n * stored_row_bytes(m.kind, m.k))};
}

Embeddings read_embeddings(const Tensors& t, const StackParts& parts, float scale) {
  Embeddings e;
  e.scale = scale;
  e.word = read_table(t, "word", -1);
  const bool tied = e.word.rows == 0;
  e.vocabulary = tied ? parts.head->weight.n() : e.word.rows, e.width = tied ? parts.width : e.word.width;
  e.position = read_table(t, "position", e.width), e.token_type = read_table(t, "token_type", e.width);
  e.norm = t.norm("norm", e.width);
  if (t.has("projection.weight")) e.projection = t.linear("projection", parts.width, e.width);
  return e;
}

}  // namespace

StackParts read_stack(const Door& door, py::dict spec, py::object tensors, py::object stored) {
  const Spec f(door, spec, "spec");
  if (!PyMapping_Check(tensors.ptr())) door.type_error("tensors is no mapping of names to arrays");
  if (!stored.is_none() && !PyCallable_Check(stored.ptr())) door.type_error("stored is no function and not None");
  HugePages storage(kWeightsTogether);
  const Tensors t(door, std::move(tensors), std::move(stored), storage);
  StackParts parts;
  parts.width = f.integer("width", 1), parts.norm = f.norm(), parts.eps = f.non_negative("eps");
  if (t.has("head.weight")) parts.head = t.linear("head", -1, parts.width);
  else if (!t.has("embeddings.word.weight")) door.value_error("tensor 'embeddings.word.weight' is missing");
  parts.embeddings = read_embeddings(t.part("embeddings"), parts, f.number("embedding_scale"));
  const Embeddings& e = parts.embeddings;
  if (!e.projection && e.width != parts.width)
    door.value_error("tensor 'embeddings.word.weight' is " + std::to_string(e.width) + " wide, expected " +
                     std::to_string(parts.width) + " or a projection");
  const py::list blocks = f.list("blocks");
  if (blocks.empty()) door.value_error("spec['blocks'] is empty, expected at least one");
  for (py::size_t i = 0; i < blocks.size(); ++i) {
    const std::string at = "blocks." + std::to_string(i);
    if (!PyDict_Check(blocks[i].ptr())) door.type_error(at + " is no dictionary");
    const BlockSpec s = read_spec(Spec(door, blocks[i], at));
    if (s.heads % s.key_heads != 0) door.value_error(at + "['heads'] is no multiple of key_heads");
    if (i > 0 && (s.key_heads != parts.blocks[0].spec.key_heads || s.head_size != parts.blocks[0].spec.head_size))
      door.value_error(at + " differs from the first block in key_heads or head_size, which a cache does not allow");
    for (const Block& other : parts.blocks)
      if (s.relative && other.spec.relative && s.heads != other.spec.heads)
        door.value_error(at + "['heads'] differs from that of another block with the relative bias they share");
    parts.blocks.push_back(read_block(t.part(at), s, parts.width));
  }
  parts.final_norm = t.norm("final_norm", parts.width);
  return parts;
}

}  // namespace tfcore
