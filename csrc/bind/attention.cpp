#include <algorithm>
#include <cmath>

#include "bind/arrays.hpp"
#include "bind/operators.hpp"
#include "dispatch/operators.hpp"

namespace tfcore {
namespace {

constexpr Index kFar = Index(1) << 40;   // query offsets beyond it change nothing
constexpr Index kMost = Index(1) << 60;  // as large as an offset, or a side of a window, is taken to be
constexpr Index kOpen = 2 * kMost;       // a window's open side: beyond all keys from any offset
constexpr Index kMostHeads = Index(1) << 20;

void expect_heads(const Door& door, const Array& key, Index H, Index G, bool gqa) {
  const bool fits = gqa && G > 0 ? H % G == 0 : G == H;
  if (!fits)
    door.value_error(shaped("key", key) + ", expected " + std::to_string(H) + " heads as in query" +
                     (gqa ? " or a divisor of them" : " (enable_gqa=True lets fewer be shared)"));
}

// Sizes of query (…, H, L, D), key (…, G, S, D), value (…, G, S, Dv); 2-D arrays are one head.
struct Sizes {
  Shape batch;  // broadcast leading axes
  Index B, H, G, L, S, D, Dv;
  bool heads;  // false for 2-D

  Shape with(Index rows, Index columns) const {
    Shape shape = batch;
    if (heads) shape.push_back(H);
    shape.push_back(rows), shape.push_back(columns);
    return shape;
  }
};

Sizes measure(const Door& door, const Array& q, const Array& k, const Array& v, bool gqa) {
  door.expect_rank(q, "query", 2), door.expect_rank(k, "key", 2), door.expect_rank(v, "value", 2);
  Sizes n;
  n.heads = q.ndim() > 2;
  if ((k.ndim() > 2) != n.heads)
    door.value_error(shaped("key", k) + ", expected as many dimensions as query, " + text(q.shape()));
  if ((v.ndim() > 2) != n.heads)
    door.value_error(shaped("value", v) + ", expected as many dimensions as query, " + text(q.shape()));
  n.H = n.heads ? q.dim(-3) : 1, n.G = n.heads ? k.dim(-3) : 1;
  n.L = q.dim(-2), n.D = q.dim(-1), n.S = k.dim(-2), n.Dv = v.dim(-1);
  const auto wanted = [&](Index size) {
    return ", expected (…, " + std::to_string(n.G) + ", " + std::to_string(n.S) + ", " + std::to_string(size) + ")";
  };
  if (k.dim(-1) != n.D)
    door.value_error(shaped("key", k) + ", expected a head size of " + std::to_string(n.D) + " as in query, " +
                     text(q.shape()));
  if (v.dim(-2) != n.S || (n.heads && v.dim(-3) != n.G))
    door.value_error(shaped("value", v) + wanted(n.Dv) + " to match key, " + text(k.shape()));
  expect_heads(door, k, n.H, n.G, gqa);
  n.batch = broadcast(door, broadcast(door, leading(q, 3), q, "key", k, 3), q, "value", v, 3);
  n.B = product(n.batch);
  return n;
}

// key_lengths and query_offset: one integer for all, or one per batch, in the batch's shape or flat.
std::vector<Index> per_batch(Door& door, py::handle value, const char* name, const Shape& batch) {
  const Index count = product(batch);
  if (PyLong_Check(value.ptr()))
    return std::vector<Index>(std::size_t(count), door.integer(value, name, NPY_MIN_INT64, NPY_MAX_INT64));
  Shape shape;
  std::vector<Index> all = door.integers(value, name, &shape);
  if (shape.size() <= 1 && all.size() == 1) all.resize(std::size_t(count), all[0]);
  else if (shape != Shape{count} && shape != batch)
    door.value_error(std::string(name) + " has shape " + text(shape) + ", expected one integer per batch, " +
                     text(batch));
  return all;
}

bool is_zero(py::handle value) {
  int overflow = 0;
  return PyLong_CheckExact(value.ptr()) && PyLong_AsLongAndOverflow(value.ptr(), &overflow) == 0;
}

// What restricts and reshapes the scores, as the caller gave it.
struct Restrictions {
  bool causal = false;
  Index left = kOpen, right = kOpen;
  std::vector<Index> offsets, key_lengths;  // empty: 0, all
  double scale = 0, softcap = 0;

  void read_window(const Door& door, py::handle window) {
    if (!window.is_none()) {
      if (!PySequence_Check(window.ptr()) || PyObject_Size(window.ptr()) != 2) {
        PyErr_Clear();
        door.type_error("window is " + std::string(py::repr(window)) + ", expected a pair (left, right)");
      }
      const Index l = door.integer(py::object(window[py::int_(0)]), "window[0]", -1, NPY_MAX_INT64);
      const Index r = door.integer(py::object(window[py::int_(1)]), "window[1]", -1, NPY_MAX_INT64);
      left = l < 0 ? kOpen : std::min(l, kMost), right = r < 0 ? kOpen : std::min(r, kMost);
    }
    if (causal) right = 0;
  }

  void read_scale(const Door& door, py::handle value, py::handle cap, Index head_size) {
    scale = value.is_none() ? 1.0 / std::sqrt(double(std::max<Index>(head_size, 1))) : door.number(value, "scale");
    softcap = door.number(cap, "softcap");
    door.expect_scale({"scale", py::reinterpret_borrow<py::object>(value), scale},
                      {"softcap", py::reinterpret_borrow<py::object>(cap), softcap});
  }
};

// is_causal in front of a wider right window wins; a query's own right window may be narrower.
template <class T> void restrict(AttentionArgs<T>& a, const Restrictions& r, Index batch) {
  const Index offset = r.offsets.empty() ? 0 : std::clamp(r.offsets[batch], -kMost, kMost);
  a.offset = std::clamp(offset, -kFar, kFar);
  a.left = a.offset - std::clamp(offset - r.left, -2 * kFar, 2 * kFar);
  a.right = std::clamp(offset + r.right, -2 * kFar, 2 * kFar) - a.offset;
  a.key_count = r.key_lengths.empty() ? a.keys : r.key_lengths[batch];
  a.scale = T(r.scale), a.softcap = T(r.softcap);
}

// A mask broadcast against (…, H, L, S): strides 0 where it has one entry for all.
struct Mask {
  Array array;
  LeadingOffsets at;
  Index head = 0, row = 0, column = 0;
  MaskKind kind = MaskKind::none;

  Mask() = default;
  Mask(Door& door, const Array& given, const Sizes& n) {
    if (!given) return;
    kind = PyTypeNum_ISBOOL(given.type()) ? MaskKind::boolean : MaskKind::additive;
    array = kind == MaskKind::boolean ? given : door.ready(given, Layout::any);
    const Shape full = n.with(n.L, n.S), own = given.shape();
    bool fits = own.size() <= full.size();
    for (std::size_t i = 1; fits && i <= own.size(); ++i) {
      const Index size = own[own.size() - i];
      fits = size == 1 || size == full[full.size() - i];
    }
    if (!fits) door.value_error(shaped("attn_mask", given) + ", expected one that broadcasts to " + text(full));
    const auto stride = [&](int axis) {
      return axis > array.ndim() || array.dim(-axis) == 1 ? 0 : array.stride(-axis);
    };
    column = stride(1), row = stride(2), head = n.heads ? stride(3) : 0;
    at = LeadingOffsets(array, n.batch, n.heads ? 3 : 2);
  }

  template <class T> void put(AttentionArgs<T>& a, Index batch, Index first_head) const {
    if (kind == MaskKind::none) return;
    a.mask_kind = kind, a.mask_head = head, a.mask_row = row, a.mask_column = column;
    const Index first = at(batch) + first_head * head;
    if (kind == MaskKind::boolean) a.mask = array.data<unsigned char>() + first;
    else a.mask = array.data<T>() + first;
  }
};

Array per_head(Door& door, py::handle value, const char* name, Index heads) {
  const Array a = door.optional_array(value, name, false);
  door.expect_vector(a, name, heads, ", one per head");
  return door.ready(a, Layout::contiguous);
}

double attention_flops(const Sizes& n) {
  return 2.0 * double(n.B) * double(n.H) * double(n.L) * double(n.S) * double(n.D + n.Dv);
}

struct AttentionInputs {
  Array q, k, v, slopes, sinks;
};

// Where heads lie: elements from one to the next, and from a row of the result to the next.
struct HeadStrides {
  Index q, k, v, out, out_row;
};

template <class T> void run_attention(const Sizes& n, const HeadStrides& heads, const AttentionInputs& in,
                                      const Mask& mask, const Restrictions& restrictions, const Output& out,
                                      const Output* weights = nullptr) {
  const int trailing = n.heads ? 3 : 2;
  const LeadingOffsets q_at(in.q, n.batch, trailing), k_at(in.k, n.batch, trailing), v_at(in.v, n.batch, trailing);
  const Index shared = n.G ? n.H / n.G : 0;  // query heads that share a key head
  if (out.array().size() == 0 && (!weights || weights->array().size() == 0)) return;
  const WithoutGil released(attention_flops(n));
  if (weights) std::fill_n(weights->data<T>(), weights->array().size(), T(0));
  const auto sizes_of = [&](Index) { return AttentionSizes{shared, n.L, n.S, n.D, n.Dv}; };
  attention<T>(n.B * n.G, sizes_of, [&](Index group) {
    const Index batch = group / n.G, key_head = group % n.G, head = key_head * shared;
    AttentionArgs<T> a = sized<T>(sizes_of(group));
    a.q_head = heads.q, a.q_row = in.q.stride(-2), a.q = in.q.data<T>() + q_at(batch) + head * heads.q;
    a.k_row = in.k.stride(-2), a.k = in.k.data<T>() + k_at(batch) + key_head * heads.k;
    a.v_row = in.v.stride(-2), a.v = in.v.data<T>() + v_at(batch) + key_head * heads.v;
    a.out_head = heads.out, a.out_row = heads.out_row;
    a.out = out.data<T>() + batch * n.H * n.L * n.Dv + head * heads.out;
    if (weights) {
      a.weights_head = n.L * n.S, a.weights_row = n.S;
      a.weights = weights->data<T>() + (batch * n.H + head) * n.L * n.S;
    }
    if (in.slopes) a.slopes = in.slopes.data<T>() + head;
    if (in.sinks) a.sinks = in.sinks.data<T>() + head;
    mask.put(a, batch, head);
    restrict(a, restrictions, batch);
    return a;
  });
}

py::object scaled_dot_product_attention(py::handle query, py::handle key, py::handle value, py::handle attn_mask,
                                        py::handle is_causal, py::handle query_offset, py::handle key_lengths,
                                        py::handle window, py::handle scale, py::handle softcap,
                                        py::handle alibi_slopes, py::handle sinks, py::handle enable_gqa,
                                        py::handle return_weights, py::handle out) {
  Door door("scaled_dot_product_attention");
  AttentionInputs in{door.array(query, "query"), door.array(key, "key"), door.array(value, "value"), {}, {}};
  const Sizes n = measure(door, in.q, in.k, in.v, door.flag(enable_gqa, "enable_gqa"));
  const Mask mask(door, door.mask(attn_mask, "attn_mask"), n);
  in.slopes = per_head(door, alibi_slopes, "alibi_slopes", n.H);
  in.sinks = per_head(door, sinks, "sinks", n.H);

  Restrictions r;
  r.causal = door.flag(is_causal, "is_causal");
  r.read_window(door, window);
  r.read_scale(door, scale, softcap, n.D);
  if (!is_zero(query_offset)) r.offsets = per_batch(door, query_offset, "query_offset", n.batch);
  if (!key_lengths.is_none()) {
    r.key_lengths = per_batch(door, key_lengths, "key_lengths", n.batch);
    for (Index length : r.key_lengths)
      if (length < 0 || length > n.S)
        door.value_error("key_lengths has " + std::to_string(length) + ", expected 0 to " + std::to_string(n.S));
  }

  in.q = door.ready(in.q, Layout::rows), in.k = door.ready(in.k, Layout::rows), in.v = door.ready(in.v, Layout::rows);
  const Output output = door.output(out, n.with(n.L, n.Dv));
  const bool wants_weights = door.flag(return_weights, "return_weights");
  const Output weights = wants_weights ? door.output(py::none(), n.with(n.L, n.S)) : output;
  const auto stride = [&](const Array& a) { return n.heads ? a.stride(-3) : 0; };
  const HeadStrides heads{stride(in.q), stride(in.k), stride(in.v), n.L * n.Dv, n.Dv};
  door.in_type(
      [&](auto t) { run_attention<decltype(t)>(n, heads, in, mask, r, output, wants_weights ? &weights : nullptr); });
  if (wants_weights) return py::make_tuple(output.finish(), weights.finish());
  return output.finish();
}

// --- packed sequences ------------------------------------------------------------------------------------------------

template <class T> void run_varlen(const Sizes& n, const AttentionInputs& in, const std::vector<Index>& cu_q,
                                   const std::vector<Index>& cu_k, const Restrictions& r, const Output& out) {
  const Index shared = n.G ? n.H / n.G : 0;
  double flops = 0;
  for (Index b = 0; b < n.B; ++b)
    flops += 2.0 * double(n.H) * double(cu_q[b + 1] - cu_q[b]) * double(cu_k[b + 1] - cu_k[b]) * double(n.D + n.Dv);
  const WithoutGil released(flops);
  const auto sizes_of = [&](Index group) {
    const Index batch = group / n.G;
    return AttentionSizes{shared, cu_q[batch + 1] - cu_q[batch], cu_k[batch + 1] - cu_k[batch], n.D, n.Dv};
  };
  attention<T>(n.B * n.G, sizes_of, [&](Index group) {
    const Index batch = group / n.G, key_head = group % n.G, head = key_head * shared;
    AttentionArgs<T> a = sized<T>(sizes_of(group));
    a.q_head = in.q.stride(1), a.q_row = in.q.stride(0);
    a.q = in.q.data<T>() + cu_q[batch] * a.q_row + head * a.q_head;
    a.k_row = in.k.stride(0), a.k = in.k.data<T>() + cu_k[batch] * a.k_row + key_head * in.k.stride(1);
    a.v_row = in.v.stride(0), a.v = in.v.data<T>() + cu_k[batch] * a.v_row + key_head * in.v.stride(1);
    a.out_head = n.Dv, a.out_row = n.H * n.Dv, a.out = out.data<T>() + cu_q[batch] * a.out_row + head * n.Dv;
    restrict(a, r, batch);
    return a;
  });
}

py::object attention_varlen(py::handle query, py::handle key, py::handle value, py::handle cu_seqlens_q,
                            py::handle cu_seqlens_k, py::handle is_causal, py::handle window, py::handle scale,
                            py::handle softcap, py::handle enable_gqa, py::handle out) {
  Door door("attention_varlen");
  AttentionInputs in{door.array(query, "query"), door.array(key, "key"), door.array(value, "value"), {}, {}};
  const struct {
    const Array& a;
    const char* name;
  } arrays[] = {{in.q, "query"}, {in.k, "key"}, {in.v, "value"}};
  for (const auto& [a, name] : arrays)
    if (a.ndim() != 3) door.value_error(shaped(name, a) + ", expected (total, H, D)");
  Sizes n;
  n.H = in.q.dim(1), n.D = in.q.dim(2), n.G = in.k.dim(1), n.Dv = in.v.dim(2);
  const bool gqa = door.flag(enable_gqa, "enable_gqa");
  if (in.k.dim(2) != n.D)
    door.value_error(shaped("key", in.k) + ", expected a head size of " + std::to_string(n.D) + " as in query");
  if (in.v.dim(0) != in.k.dim(0) || in.v.dim(1) != n.G)
    door.value_error(shaped("value", in.v) + ", expected the rows and heads of key, " + text(in.k.shape()));
  expect_heads(door, in.k, n.H, n.G, gqa);
  const std::vector<Index> cu_q = door.cu_seqlens(cu_seqlens_q, "cu_seqlens_q", in.q.dim(0));
  if (cu_seqlens_k.is_none() && in.k.dim(0) != in.q.dim(0))
    door.value_error(shaped("key", in.k) + ", expected as many rows as query where cu_seqlens_k is not given");
  const std::vector<Index> cu_k =
      cu_seqlens_k.is_none() ? cu_q : door.cu_seqlens(cu_seqlens_k, "cu_seqlens_k", in.k.dim(0));
  if (cu_k.size() != cu_q.size())
    door.value_error("cu_seqlens_k has " + std::to_string(cu_k.size()) + " entries, expected " +
                     std::to_string(cu_q.size()) + " as in cu_seqlens_q");
  n.B = Index(cu_q.size()) - 1;

  Restrictions r;
  r.causal = door.flag(is_causal, "is_causal");
  r.read_window(door, window);
  r.read_scale(door, scale, softcap, n.D);
  in.q = door.ready(in.q, Layout::rows), in.k = door.ready(in.k, Layout::rows), in.v = door.ready(in.v, Layout::rows);
  const Output output = door.output(out, {in.q.dim(0), n.H, n.Dv});
  if (output.array().size() > 0) door.in_type([&](auto t) { run_varlen<decltype(t)>(n, in, cu_q, cu_k, r, output); });
  return output.finish();
}

// --- one head, or equal slices of the last axis ----------------------------------------------------------------------

py::object sliced_attention(Door door, py::handle query, py::handle key, py::handle value, py::handle num_heads) {
  AttentionInputs in{door.array(query, "query"), door.array(key, "key"), door.array(value, "value"), {}, {}};
  door.expect_rank(in.q, "query", 2), door.expect_rank(in.k, "key", 2), door.expect_rank(in.v, "value", 2);
  Sizes n;
  n.H = num_heads.ptr() ? door.integer(num_heads, "num_heads", 1, kMostHeads) : 1;
  const Index width = in.q.dim(-1), value_width = in.v.dim(-1);
  if (in.k.dim(-1) != width)
    door.value_error(shaped("key", in.k) + ", expected a last axis of " + std::to_string(width) + " as in query");
  if (in.v.dim(-2) != in.k.dim(-2))
    door.value_error(shaped("value", in.v) + ", expected " + std::to_string(in.k.dim(-2)) + " rows as in key");
  if (width % n.H != 0)
    door.value_error(shaped("query", in.q) + ", expected a last axis that num_heads, " + std::to_string(n.H) +
                     ", divides");
  if (value_width % n.H != 0)
    door.value_error(shaped("value", in.v) + ", expected a last axis that num_heads, " + std::to_string(n.H) +
                     ", divides");
  n.G = n.H, n.heads = false;
  n.L = in.q.dim(-2), n.S = in.k.dim(-2), n.D = width / n.H, n.Dv = value_width / n.H;
  n.batch = broadcast(door, broadcast(door, leading(in.q, 2), in.q, "key", in.k, 2), in.q, "value", in.v, 2);
  n.B = product(n.batch);
  in.q = door.ready(in.q, Layout::rows), in.k = door.ready(in.k, Layout::rows), in.v = door.ready(in.v, Layout::rows);
  Shape shape = n.batch;
  shape.push_back(n.L), shape.push_back(value_width);
  const Output output = door.output(py::none(), shape);
  Restrictions r;
  r.scale = 1.0 / std::sqrt(double(std::max<Index>(n.D, 1)));
  const HeadStrides heads{n.D, n.D, n.Dv, n.Dv, value_width};
  door.in_type([&](auto t) { run_attention<decltype(t)>(n, heads, in, Mask(), r, output); });
  return output.finish();
}

py::object self_attention(py::handle query, py::handle key, py::handle value) {
  return sliced_attention(Door("self_attention"), query, key, value, py::handle());
}

py::object multi_head_attention(py::handle query, py::handle key, py::handle value, py::handle num_heads) {
  return sliced_attention(Door("multi_head_attention"), query, key, value, num_heads);
}

}  // namespace

void bind_attention(py::module_& m) {
  define_operator<&scaled_dot_product_attention>(m, "scaled_dot_product_attention");
  define_operator<&attention_varlen>(m, "attention_varlen");
  define_operator<&self_attention>(m, "self_attention");
  define_operator<&multi_head_attention>(m, "multi_head_attention");
}

}  // namespace tfcore
