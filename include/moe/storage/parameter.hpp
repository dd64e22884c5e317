// One named parameter as its owner shows it: logical shape, element access whatever the storage, and its
// gradient. Names follow published checkpoints ("gate.weight", "experts.3.up_proj.weight").
#pragma once

#include "moe/core/check.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"

MOE_NAMESPACE_BEGIN

/// Where the elements of a logical matrix [rows = out, cols = in] lie: element (o, i) is at
/// data[(o / group) * group_stride + o % group + i * in_stride]. Covers dense vectors and panels of columns.
template <class T>
struct ParameterView {
  T* data = nullptr;
  Index rows = 0;
  Index cols = 0;
  Index group = 1;         // outputs side by side
  Index group_stride = 1;  // from one group of outputs to the next
  Index in_stride = 1;     // from one input to the next

  T& operator()(Index o, Index i) const noexcept {
    return data[(o / group) * group_stride + o % group + i * in_stride];
  }
  Index size() const noexcept { return rows * cols; }
  explicit operator bool() const noexcept { return data != nullptr; }

  /// The elements as one flat range [size()]. Throws shape_error naming the parameter if they do not lie side
  /// by side.
  T* range(const char* name) const {
    const Index places = size() == 0 ? 0 : &(*this)(rows - 1, cols - 1) - data + 1;
    if (places != size()) {
      fail<shape_error>(name, ": expected ", size(), " elements side by side, got ", places,
                        " places; give the part a visit_storage()");
    }
    return data;
  }

  /// Row-major [out, in].
  void copy_to(const MatrixView<std::remove_const_t<T>>& to) const {
    require_shape("parameter copy", to, rows, cols);
    for (Index o = 0; o < rows; ++o) {
      for (Index i = 0; i < cols; ++i) to(o, i) = (*this)(o, i);
    }
  }
  void assign(const ConstMatrixView<std::remove_const_t<T>>& from) const requires(!std::is_const_v<T>) {
    require_shape("parameter", from, rows, cols);
    for (Index o = 0; o < rows; ++o) {
      for (Index i = 0; i < cols; ++i) (*this)(o, i) = from(o, i);
    }
  }
};

/// `name` lives only during the visit. `gradient` is empty when no gradients were given.
template <class Real>
struct Parameter {
  const char* name = nullptr;
  ParameterView<Real> value{};
  ParameterView<Real> gradient{};
};

/// The parameter of a row-major matrix, whatever a MatrixView can look at; `gradient` may be null.
template <class Real, class Matrix>
Parameter<Real> parameter_of(const char* name, Matrix& value, Matrix* gradient) {
  const auto view = [](const MatrixView<Real>& m) {
    return ParameterView<Real>{m.data, m.rows, m.cols, 1, m.stride, 1};
  };
  return {name, view(value), gradient == nullptr ? ParameterView<Real>{} : view(*gradient)};
}

/// Joins a prefix, a number and a suffix into a parameter's name.
class ParameterName {
 public:
  template <class... Parts>
  explicit ParameterName(const Parts&... parts) noexcept {
    (text_.append(parts), ...);
  }
  const char* c_str() const noexcept { return text_.c_str(); }

 private:
  impl::Text text_;
};

MOE_NAMESPACE_END
