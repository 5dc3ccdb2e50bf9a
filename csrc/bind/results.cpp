#include "bind/results.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "core/kept.hpp"

namespace tfcore {
namespace {

KeptStorage g_results;

// NumPy gives no size when it resizes, so each piece begins with what it is.
struct alignas(64) Header {
  std::size_t bytes, mapped;  // of the data; of the whole, as FreeAligned counts
};

Header* header_of(void* data) { return static_cast<Header*>(data) - 1; }

void* allocate(void*, std::size_t bytes) noexcept try {
  if (bytes > std::size_t(-1) / 2) return nullptr;
  AlignedArray<char> piece = g_results.take(bytes + sizeof(Header), bytes + bytes / 8);
  const std::size_t mapped = piece.get_deleter().mapped;
  if (mapped) madvise(piece.get(), mapped, MADV_HUGEPAGE);  // as NumPy does
  return new (piece.release()) Header{bytes, mapped} + 1;
} catch (const std::bad_alloc&) { return nullptr; }

void* allocate_zeros(void* context, std::size_t count, std::size_t size) noexcept {
  if (size && count > std::size_t(-1) / size) return nullptr;
  void* const data = allocate(context, count * size);
  return data ? std::memset(data, 0, count * size) : nullptr;
}

void release(void*, void* data, std::size_t) noexcept {
  if (!data) return;
  Header* const header = header_of(data);
  g_results.give_back(AlignedArray<char>(reinterpret_cast<char*>(header), FreeAligned{header->mapped}));
}

void* resize(void* context, void* data, std::size_t bytes) noexcept {
  void* const moved = allocate(context, bytes);
  if (!moved || !data) return moved;
  std::memcpy(moved, data, std::min(bytes, header_of(data)->bytes));
  release(context, data, 0);
  return moved;
}

PyDataMem_Handler g_handler = {"tfcore_results", 1, {nullptr, allocate, allocate_zeros, resize, release}};

PyObject* handler() {
  static PyObject* const capsule = PyCapsule_New(&g_handler, "mem_handler", nullptr);
  if (!capsule) throw py::error_already_set();
  return capsule;
}

}  // namespace

KeepsResults::KeepsResults() : before_(PyDataMem_SetHandler(handler())) {
  if (!before_) throw py::error_already_set();
}

KeepsResults::~KeepsResults() {
  Py_XDECREF(PyDataMem_SetHandler(before_));
  Py_DECREF(before_);
}

}  // namespace tfcore
