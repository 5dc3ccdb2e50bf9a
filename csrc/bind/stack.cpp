#include "model/stack.hpp"

#include <algorithm>
#include <memory>

#include "bind/arrays.hpp"
#include "bind/late.hpp"
#include "bind/tensors.hpp"

namespace tfcore {
namespace {

// A cache that one call at a time may hold.
struct SharedCache {
  Cache cache;
  bool busy = false;
};

class CacheInUse {
 public:
  CacheInUse(const Door& door, SharedCache* shared) : shared_(shared) {
    if (shared_ && shared_->busy) door.value_error("cache is in use by another call, expected one call at a time");
    if (shared_) shared_->busy = true;
  }
  ~CacheInUse() {
    if (shared_) shared_->busy = false;
  }
  CacheInUse(const CacheInUse&) = delete;
  CacheInUse& operator=(const CacheInUse&) = delete;

 private:
  SharedCache* shared_;
};

void expect_below(const Door& door, const std::vector<Index>& values, Index limit, const char* name) {
  for (Index value : values)
    if (!(value >= 0 && value < limit))
      door.value_error(std::string(name) + " has " + std::to_string(value) + ", expected 0 to " +
                       std::to_string(limit - 1));
}

// One entry for each of the batch's sequences.
std::vector<Index> one_each(Door& door, py::handle value, const char* name, Index sequences) {
  std::vector<Index> all = door.integers(value, name);
  if (Index(all.size()) != sequences)
    door.value_error(std::string(name) + " has " + std::to_string(all.size()) + " entries, expected one a sequence, " +
                     std::to_string(sequences));
  return all;
}

// A contiguous array of the dtype, with so many dimensions.
Array exactly(const Door& door, py::handle value, const char* name, int type, int ndim) {
  if (!PyArray_Check(value.ptr())) door.type_error(std::string(name) + " is no numpy.ndarray");
  const Array a(py::reinterpret_borrow<py::object>(value));
  if (a.type() != type || !PyArray_ISCARRAY_RO(a.get()) || a.ndim() != ndim)
    door.type_error(shaped(name, a) + " and dtype " + a.dtype() + ", expected a contiguous array of " +
                    std::to_string(ndim) + " dimensions of the model's dtype");
  return a;
}

Index longest(const std::vector<Index>& cu) {
  Index most = 0;
  for (std::size_t b = 1; b < cu.size(); ++b) most = std::max(most, cu[b] - cu[b - 1]);
  return most;
}

// One call's arguments, checked, and the memory they live in.
struct Call {
  std::vector<Index> ids, types, positions, cu, sources, seen;
  std::vector<Array> held;
  Batch batch{};

  Call(Door& door, const Stack& stack, py::handle ids_in, py::handle types_in, py::handle positions_in,
       py::handle turns_in, py::handle cu_in)
      : ids(door.integers(ids_in, "input_ids")), positions(door.integers(positions_in, "position_ids")),
        cu(door.cu_seqlens(cu_in, "cu_seqlens", Index(ids.size()))) {
    const Embeddings& e = stack.parts().embeddings;
    expect_below(door, ids, e.vocabulary, "input_ids");
    if (!types_in.is_none()) types = door.integers(types_in, "token_type_ids");
    expect_below(door, types, e.token_type.rows ? e.token_type.rows : e.vocabulary, "token_type_ids");
    if (e.position.rows) expect_below(door, positions, e.position.rows, "position_ids");
    const Array turns = exactly(door, turns_in, "turns", NPY_DOUBLE, 1);
    held.push_back(turns);
    if (!(positions.size() == ids.size() && turns.size() == Index(ids.size()) &&
          (types.size() == ids.size() || (types.empty() && !e.token_type.rows))))
      door.value_error("token_type_ids, position_ids and turns must have as many entries as input_ids, " +
                       std::to_string(ids.size()));
    batch.ids = ids.data(), batch.positions = positions.data();
    batch.token_types = types.empty() ? nullptr : types.data();
    batch.turns = turns.data<double>();
    batch.cu_seqlens = cu.data(), batch.sequences = Index(cu.size()) - 1;
  }

  // (frequencies (n, rotary / 2), magnitudes (n,), interleaved) each, n is 1 or the number of sequences
  void take_rotations(Door& door, const Stack& stack, py::list rotations) {
    for (const py::handle item : rotations) {
      if (!PyTuple_Check(item.ptr()) || PyTuple_GET_SIZE(item.ptr()) != 3)
        door.type_error("rotations holds " + std::string(py::repr(item)) +
                        ", expected tuples of frequencies, magnitudes and whether pairs are interleaved");
      const py::tuple each = py::reinterpret_borrow<py::tuple>(item);
      const Array frequencies = exactly(door, each[0], "frequencies", NPY_DOUBLE, 2);
      const Array magnitudes = exactly(door, each[1], "magnitudes", NPY_DOUBLE, 1);
      held.push_back(frequencies), held.push_back(magnitudes);
      const Index n = frequencies.dim(0);
      if (!((n == 1 || n == batch.sequences) && magnitudes.size() == n))
        door.value_error(shaped("frequencies", frequencies) + ", expected one row, or one a sequence");
      batch.rotations.push_back({2 * frequencies.dim(1), door.flag(each[2], "interleaved"), n > 1,
                                 frequencies.data<double>(), magnitudes.data<double>()});
    }
    for (const Block& block : stack.parts().blocks) {
      const Index which = block.spec.rotary;
      if (which >= Index(batch.rotations.size())) door.value_error("rotations are fewer than the blocks name");
      if (which >= 0 && batch.rotations[which].rotary > block.spec.head_size)
        door.value_error("frequencies are more than half the head size, " + std::to_string(block.spec.head_size));
    }
  }

  void take_cache(const Door& door, const Stack& stack, SharedCache* shared) {
    if (!shared) return;
    const Cache& c = shared->cache;
    const BlockSpec& s = stack.parts().blocks.front().spec;
    if (!(c.layers() == stack.blocks() && c.heads() == s.key_heads && c.head_size() == s.head_size))
      door.value_error("cache was made for another model");
    if (c.sequences() != batch.sequences)
      door.value_error("cache holds " + std::to_string(c.sequences()) + " sequences, the batch " +
                       std::to_string(batch.sequences));
    batch.cache = &shared->cache;
  }

  void take_relative(const Door& door, const Stack& stack, py::handle relative) {
    Index heads = 0;
    for (const Block& block : stack.parts().blocks) heads = block.spec.relative ? block.spec.heads : heads;
    if (heads == 0) return;
    const Array a = exactly(door, relative, "relative_bias", NPY_FLOAT, 2);
    held.push_back(a);
    batch.relative = {a.data<float>(), a.dim(1) / 2};
    if (!(a.dim(0) == heads && a.dim(1) % 2 == 1 && batch.relative.reach >= keys()))
      door.value_error(shaped("relative_bias", a) + ", expected one row a head and an odd length over " +
                       std::to_string(2 * keys()));
  }

  void take_cross(Door& door, const Stack& stack, const CrossKeys* cross, py::handle sources_in) {
    bool used = false;
    for (const Block& block : stack.parts().blocks) used |= block.cross.has_value();
    if (!used) return;
    if (!cross) door.value_error("cross_keys is None, but the blocks attend to an encoder");
    bool fits = Index(cross->blocks.size()) == stack.blocks() &&
                cross->key_width == stack.parts().blocks.front().spec.key_width();
    for (Index i = 0; fits && i < stack.blocks(); ++i)
      fits = bool(cross->blocks[i]) == stack.parts().blocks[i].cross.has_value();
    if (!fits) door.value_error("cross_keys was made by another model");
    sources = one_each(door, sources_in, "sources", batch.sequences);
    expect_below(door, sources, Index(cross->cu_seqlens.size()) - 1, "sources");
    batch.cross = cross, batch.sources = sources.data();
  }

  void take_seen(Door& door, py::handle seen_in) {
    if (seen_in.is_none()) return;
    if (batch.cache) door.value_error("seen is given, but so is a cache, whose tokens are all attended to");
    seen = one_each(door, seen_in, "seen", batch.sequences);
    for (Index b = 0; b < batch.sequences; ++b)
      if (seen[b] < 0 || seen[b] > batch.count(b))
        door.value_error("seen holds " + std::to_string(seen[b]) + " of a sequence of " +
                         std::to_string(batch.count(b)) + " tokens");
    batch.seen = seen.data();
  }

  Index keys() const {
    Index most = 0;
    for (Index b = 0; b < batch.sequences; ++b) most = std::max(most, batch.past(b) + batch.count(b));
    return most;
  }
};

// New arrays for the results of one call.
struct Wanted {
  py::list hidden, attentions, cross_attentions;
  Results results;

  Wanted(const Stack& stack, const Call& call, bool all_hidden, bool weights) {
    const Batch& batch = call.batch;
    results.hidden.resize(std::size_t(stack.blocks() + 1), nullptr);
    for (Index i = all_hidden ? 0 : stack.blocks(); i <= stack.blocks(); ++i)
      results.hidden[i] = add(hidden, new_array({batch.tokens(), stack.width()}, NPY_FLOAT));
    if (!weights) return;
    results.queries = longest(call.cu), results.keys = call.keys();
    results.sources = batch.cross ? longest(batch.cross->cu_seqlens) : 0;
    for (const Block& block : stack.parts().blocks) {
      const auto zeros = [&](Index keys) {
        npy_intp shape[] = {batch.sequences, block.spec.heads, results.queries, keys};
        return Array::steal(PyArray_ZEROS(4, shape, NPY_FLOAT, 0));
      };
      results.attentions.push_back(add(attentions, zeros(results.keys)));
      results.cross_attentions.push_back(block.cross ? add(cross_attentions, zeros(results.sources)) : nullptr);
    }
  }

 private:
  static float* add(py::list& list, const Array& a) {
    list.append(a.object());
    return a.data<float>();
  }
};

py::object forward(const Late<Stack>& self, py::handle ids, py::handle types, py::handle positions, py::handle turns,
                   py::handle cu, py::list rotations, py::handle relative, Late<SharedCache>* late_cache,
                   const Late<CrossKeys>* late_cross, py::handle sources, py::handle seen, py::handle want_hidden,
                   py::handle want_attentions) {
  Door door("Stack.forward");
  const Stack& stack = self.get(door);
  SharedCache* const cache = late_cache ? &late_cache->get(door, "cache: ") : nullptr;
  const CrossKeys* const cross = late_cross ? &late_cross->get(door, "cross_keys: ") : nullptr;
  Call call(door, stack, ids, types, positions, turns, cu);
  call.take_rotations(door, stack, rotations);
  const CacheInUse held(door, cache);
  call.take_cache(door, stack, cache);
  call.take_relative(door, stack, relative);
  call.take_cross(door, stack, cross, sources);
  call.take_seen(door, seen);
  const Wanted wanted(stack, call, door.flag(want_hidden, "output_hidden_states"),
                      door.flag(want_attentions, "output_attentions"));
  if (call.batch.tokens() > 0) {
    const WithoutGil released;
    stack.forward(call.batch, wanted.results);
  }
  return py::make_tuple(wanted.hidden, wanted.attentions, wanted.cross_attentions);
}

Late<CrossKeys> cross_keys(const Late<Stack>& self, py::handle encoded_in, py::handle cu_in) {
  Door door("Stack.cross_keys");
  const Stack& stack = self.get(door);
  const Array encoded = exactly(door, encoded_in, "encoded", NPY_FLOAT, 2);
  const std::vector<Index> cu = door.cu_seqlens(cu_in, "cu_seqlens", encoded.dim(0));
  for (const Block& block : stack.parts().blocks)
    if (block.cross && block.cross->key_value.weight.k() != encoded.dim(1))
      door.value_error(shaped("encoded", encoded) + ", expected (T, " +
                       std::to_string(block.cross->key_value.weight.k()) + ")");
  const WithoutGil released;
  return Late<CrossKeys>(stack.cross_keys(encoded.data<float>(), cu));
}

py::object logits(const Late<Stack>& self, py::handle x_in) {
  const Door door("Stack.logits");
  const Stack& stack = self.get(door);
  if (!stack.parts().head) door.value_error("the stack has no head");
  const Array x = exactly(door, x_in, "x", NPY_FLOAT, 2);
  if (x.dim(1) != stack.width())
    door.value_error(shaped("x", x) + ", expected (rows, " + std::to_string(stack.width()) + ")");
  const Array out = new_array({x.dim(0), stack.parts().head->weight.n()}, NPY_FLOAT);
  {
    const WithoutGil released;
    stack.logits(x.data<float>(), x.dim(0), out.data<float>());
  }
  return out.object();
}

constexpr Index kMostSequences = Index(1) << 20;

std::unique_ptr<Late<SharedCache>> make_cache(const Late<Stack>& late, py::handle sequences) {
  const Door door("Cache");
  const Stack& stack = late.get(door, "stack: ");
  const BlockSpec& s = stack.parts().blocks.front().spec;
  return std::make_unique<Late<SharedCache>>(SharedCache{
      Cache(stack.blocks(), s.key_heads, s.head_size, door.integer(sequences, "sequences", 0, kMostSequences))});
}

void select(Late<SharedCache>& self, py::handle parents_in) {
  Door door("Cache.select");
  SharedCache& shared = self.get(door);
  const CacheInUse held(door, &shared);
  const std::vector<Index> parents = door.integers(parents_in, "parents");
  expect_below(door, parents, shared.cache.sequences(), "parents");
  shared.cache.select(parents);
}

py::tuple lengths(Late<SharedCache>& self) {
  const Door door("Cache.lengths");
  SharedCache& shared = self.get(door);
  const CacheInUse held(door, &shared);
  py::tuple each(std::size_t(shared.cache.sequences()));
  for (Index b = 0; b < shared.cache.sequences(); ++b) each[b] = shared.cache.length(b);
  return each;
}

std::size_t nbytes(Late<SharedCache>& self) {
  const Door door("Cache.nbytes");
  SharedCache& shared = self.get(door);
  const CacheInUse held(door, &shared);
  return shared.cache.bytes();
}

}  // namespace

void bind_stack(py::module_& m) {
  py::class_<Late<CrossKeys>>(m, "CrossKeys");
  py::class_<Late<Stack>> stack(m, "Stack");  // named before what takes one, for the signatures in docstrings
  py::class_<Late<SharedCache>> cache(m, "Cache");
  stack
      .def(py::init([](py::dict spec, py::object tensors, py::object stored) {
             Door door("Stack");
             door.use_type(NPY_FLOAT);
             return std::make_unique<Late<Stack>>(
                 Stack(read_stack(door, std::move(spec), std::move(tensors), std::move(stored))));
           }),
           py::arg("spec"), py::arg("tensors"), py::arg("stored") = py::none())
      .def("forward", &forward, py::arg("input_ids"), py::arg("token_type_ids"), py::arg("position_ids"),
           py::arg("turns"), py::arg("cu_seqlens"), py::arg("rotations"), py::arg("relative_bias"), py::arg("cache"),
           py::arg("cross_keys"), py::arg("sources"), py::arg("seen"), py::arg("output_hidden_states"),
           py::arg("output_attentions"))
      .def("cross_keys", &cross_keys, py::arg("encoded"), py::arg("cu_seqlens"))
      .def("logits", &logits, py::arg("x"));
  cache.def(py::init(&make_cache), py::arg("stack"), py::arg("sequences"))
      .def("select", &select, py::arg("parents"))
      .def_property_readonly("lengths", &lengths)
      .def_property_readonly("nbytes", &nbytes);
}

}  // namespace tfcore
