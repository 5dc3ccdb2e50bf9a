#include "model/encoder.hpp"

#include <algorithm>
#include <memory>

#include "bind/arrays.hpp"

namespace tfcore {
namespace {

// The tensors of one part of the model, by name, each checked against the shape the model needs.
class Tensors {
 public:
  Tensors(const Door& door, const char* part, py::dict tensors)
      : door_(door), part_(part), tensors_(std::move(tensors)) {}

  Array get(const std::string& name, const Shape& wanted) const {
    const std::string label = part_ + "['" + name + "']";
    if (!tensors_.contains(name)) door_.value_error(label + " is missing");
    const py::object value = tensors_[py::str(name)];
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
    return a;
  }

  std::vector<float> values(const std::string& name, const Shape& wanted) const {
    const Array a = get(name, wanted);
    return std::vector<float>(a.data<float>(), a.data<float>() + a.size());
  }

  Linear linear(const std::string& name, Index n, Index k) const {
    const Array weight = get(name + ".weight", {n, k});
    return {PackedMatrix<float>(weight.data<float>(), k, n, 1, k), values(name + ".bias", {n})};
  }

  // Several linear layers of one input as one product: their weights one below the other.
  Linear stacked(std::initializer_list<const char*> names, Index n, Index k) const {
    std::vector<float> rows, bias;
    for (const char* name : names) {
      const std::vector<float> weight = values(std::string(name) + ".weight", {n, k}),
                               b = values(std::string(name) + ".bias", {n});
      rows.insert(rows.end(), weight.begin(), weight.end()), bias.insert(bias.end(), b.begin(), b.end());
    }
    return {PackedMatrix<float>(rows.data(), k, Index(bias.size()), 1, k), bias};
  }

  Norm norm(const std::string& name, Index width) const {
    return {values(name + ".weight", {width}), values(name + ".bias", {width})};
  }

 private:
  const Door& door_;
  std::string part_;
  py::dict tensors_;
};

EncoderLayer read_layer(const Tensors& t, Index width) {
  const Index inner = t.get("intermediate.weight", {-1, width}).dim(0);
  return {t.stacked({"query", "key", "value"}, width, width),
          t.linear("output", width, width),
          t.linear("intermediate", inner, width),
          t.linear("down", width, inner),
          t.norm("attention_norm", width),
          t.norm("norm", width)};
}

std::unique_ptr<Encoder> make_encoder(py::dict embeddings, py::list layers, py::handle num_heads, py::handle eps,
                                      py::handle activation) {
  const Door door("Encoder");
  const Tensors e(door, "embeddings", embeddings);
  const Index width = e.get("word", {-1, -1}).dim(1);
  Embeddings table;
  table.word = e.values("word", {-1, width}), table.position = e.values("position", {-1, width});
  table.token_type = e.values("token_type", {-1, width}), table.norm = e.norm("norm", width);
  table.vocabulary = e.get("word", {-1, width}).dim(0), table.positions = e.get("position", {-1, width}).dim(0);
  table.token_types = e.get("token_type", {-1, width}).dim(0);
  const Index heads = door.integer(num_heads, "num_heads", 1, NPY_MAX_INT64);
  if (!(width % heads == 0))
    door.value_error("num_heads is " + std::to_string(heads) + ", expected a divisor of the model width, " +
                     std::to_string(width));
  std::vector<EncoderLayer> blocks;
  for (py::size_t i = 0; i < layers.size(); ++i)
    blocks.push_back(read_layer(Tensors(door, ("layers[" + std::to_string(i) + "]").c_str(), layers[i]), width));
  return std::make_unique<Encoder>(std::move(table), std::move(blocks), width, heads, float(door.number(eps, "eps")),
                                   door.activation(activation));
}

void expect_below(const Door& door, const std::vector<Index>& values, Index limit, const std::string& name) {
  for (Index value : values)
    if (!(value >= 0 && value < limit))
      door.value_error(name + " has " + std::to_string(value) + ", expected 0 to " + std::to_string(limit - 1));
}

py::object forward(const Encoder& encoder, py::handle ids_in, py::handle types_in, py::handle positions_in,
                   py::handle cu_in, py::handle want_hidden, py::handle want_attentions) {
  Door door("Encoder.forward");
  const std::vector<Index> ids = door.integers(ids_in, "input_ids"), types = door.integers(types_in, "token_type_ids"),
                           positions = door.integers(positions_in, "position_ids"),
                           cu = door.integers(cu_in, "cu_seqlens");
  expect_below(door, ids, encoder.embeddings().vocabulary, "input_ids");
  expect_below(door, types, encoder.embeddings().token_types, "token_type_ids");
  expect_below(door, positions, encoder.embeddings().positions, "position_ids");
  if (!(types.size() == ids.size() && positions.size() == ids.size()))
    door.value_error("token_type_ids and position_ids must have as many entries as input_ids, " +
                     std::to_string(ids.size()));
  if (!(!cu.empty() && cu.front() == 0 && cu.back() == Index(ids.size()) && std::is_sorted(cu.begin(), cu.end())))
    door.value_error("cu_seqlens does not rise from 0 to the number of tokens, " + std::to_string(ids.size()));
  const PackedBatch batch{ids.data(), types.data(), positions.data(), cu.data(), Index(cu.size()) - 1};

  const bool all = door.flag(want_hidden, "output_hidden_states");
  std::vector<float*> hidden(std::size_t(encoder.layers() + 1), nullptr), attentions;
  py::list hidden_out;
  py::object attentions_out = py::none();
  for (Index i = all ? 0 : encoder.layers(); i <= encoder.layers(); ++i) {
    const Array a = new_array({batch.tokens(), encoder.width()}, NPY_FLOAT);
    hidden[i] = a.data<float>(), hidden_out.append(a.object());
  }
  if (door.flag(want_attentions, "output_attentions")) {
    py::list each;
    for (Index i = 0; i < encoder.layers(); ++i) {
      npy_intp shape[] = {batch.sequences, encoder.heads(), batch.longest(), batch.longest()};
      const Array a = Array::steal(PyArray_ZEROS(4, shape, NPY_FLOAT, 0));
      attentions.push_back(a.data<float>()), each.append(a.object());
    }
    attentions_out = each;
  }
  if (batch.tokens() > 0) {
    const WithoutGil released(encoder.flops(batch));
    encoder.forward(batch, hidden, attentions);
  }
  return py::make_tuple(hidden_out, attentions_out);
}

}  // namespace

void bind_encoder(py::module_& m) {
  py::class_<Encoder>(m, "Encoder")
      .def(py::init(&make_encoder), py::arg("embeddings"), py::arg("layers"), py::kw_only(), py::arg("num_heads"),
           py::arg("eps"), py::arg("activation"))
      .def("forward", &forward, py::arg("input_ids"), py::arg("token_type_ids"), py::arg("position_ids"),
           py::arg("cu_seqlens"), py::arg("output_hidden_states"), py::arg("output_attentions"));
}

}  // namespace tfcore
