#pragma once
// What Python objects hold that may be used before their __init__ has run: as `__new__` alone, or a subclass, leaves
// them.
#include <cstdlib>
#include <new>
#include <optional>

#include "bind/arrays.hpp"

namespace tfcore {

// Storage of zeros, which pybind11 allocates for such an object: every pointer in it is null, every optional empty.
struct Zeroed {
  static void* operator new(std::size_t bytes) {
    void* const memory = std::calloc(1, bytes);
    if (!memory) throw std::bad_alloc();
    return memory;
  }
  static void operator delete(void* memory) { std::free(memory); }
};

inline void expect_initialised(const Door& door, bool initialised, const char* whose = "") {
  if (!initialised) door.type_error(std::string(whose) + "__init__ has not been called yet");
}

template <class T> class Late : public Zeroed {
 public:
  explicit Late(T value) : value_(std::move(value)) {}

  // As an argument of another call, it is `whose` __init__ that is missed.
  const T& get(const Door& door, const char* whose = "") const {
    expect_initialised(door, value_.has_value(), whose);
    return *value_;
  }
  T& get(const Door& door, const char* whose = "") {
    expect_initialised(door, value_.has_value(), whose);
    return *value_;
  }

 private:
  std::optional<T> value_;
};

}  // namespace tfcore
