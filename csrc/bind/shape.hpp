#pragma once
// The sizes of an array's axes, without an allocation: an operator handles a dozen of them a call.
#include <algorithm>
#include <cstddef>
#include <initializer_list>

#include "kernels/table.hpp"

namespace tfcore {

class Shape {
 public:
  Shape() = default;
  explicit Shape(std::size_t size) { resize(size); }
  Shape(const Index* begin, const Index* end) : size_(std::size_t(end - begin)) { std::copy(begin, end, axes_); }
  Shape(std::initializer_list<Index> axes) : Shape(axes.begin(), axes.end()) {}
  Shape(const Shape& other) : Shape(other.begin(), other.end()) {}
  Shape& operator=(const Shape& other) {
    size_ = std::size_t(std::copy(other.begin(), other.end(), axes_) - axes_);
    return *this;
  }

  std::size_t size() const { return size_; }
  Index* begin() { return axes_; }
  Index* end() { return axes_ + size_; }
  const Index* begin() const { return axes_; }
  const Index* end() const { return axes_ + size_; }
  Index& operator[](std::size_t i) { return axes_[i]; }
  Index operator[](std::size_t i) const { return axes_[i]; }
  Index& back() { return axes_[size_ - 1]; }

  void push_back(Index size) { axes_[size_++] = size; }
  void resize(std::size_t size) {  // new axes are 0
    if (size > size_) std::fill(axes_ + size_, axes_ + size, Index(0));
    size_ = size;
  }

  friend bool operator==(const Shape& a, const Shape& b) { return std::equal(a.begin(), a.end(), b.begin(), b.end()); }
  friend bool operator!=(const Shape& a, const Shape& b) { return !(a == b); }

 private:
  static constexpr std::size_t kMost = 64 + 3;  // NumPy's most, and the axes an operator adds to a batch's
  std::size_t size_ = 0;
  Index axes_[kMost];
};

}  // namespace tfcore
