// One named parameter as its owner shows it: logical shape, element access whatever the storage, and its
// gradient. Names follow published checkpoints ("gate.weight", "experts.3.up_proj.weight").
#pragma once

#include <type_traits>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/part_traits.hpp"
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
  ParameterView<const T> as_const() const noexcept {
    return {data, rows, cols, group, group_stride, in_stride};
  }

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

  /// Of gradients: throws shape_error unless they have the shape of `value`.
  template <class U>
  void require_shape_of(const char* name, const ParameterView<U>& value) const {
    if (rows == value.rows && cols == value.cols) return;
    fail<shape_error>("gradients of ", name, ": expected ", value.rows, " x ", value.cols,
                      " (ask make_gradients()), got ", rows, " x ", cols);
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

  Parameter<const Real> as_const() const noexcept { return {name, value.as_const(), gradient.as_const()}; }
};

/// f(Parameter<const Real>) for every parameter of a const part: router, bank, frame, shared part.
template <class Part, class Visitor>
requires requires {
  typename Part::Gradients;
}
void visit_parameters(const Part& part, Visitor&& f) {
  impl::ReadingVisitor<std::remove_reference_t<Visitor>> reading(f);
  impl::visit_parameters_of(const_cast<Part&>(part), nullptr, reading);
}

namespace impl {
/// Room for n gradients of `name`, null if there are none (frozen). Throws shape_error for another number.
template <class Real>
MOE_NOINLINE Real* require_gradients(const char* name, Index n, Buffer<Real>* gradients) {
  if (gradients == nullptr) return nullptr;
  if (gradients->size() != n) {
    fail<shape_error>("gradients of ", name, ": expected ", n, " entries (ask make_gradients()), got ",
                      gradients->size());
  }
  return gradients->data();
}
}  // namespace impl

/// f(name, values, gradients, n) for a buffer of parameters and `member`, its gradients (of null: frozen):
/// what visit_storage() of a part is made of. Nothing is shown of an empty buffer. Throws shape_error for
/// gradients of another size.
template <class Visitor, class Real, class Gradients>
void visit_buffer(Visitor& f, const char* name, Buffer<Real>& values, Gradients* gradients,
                  Buffer<Real> Gradients::*member) {
  Real* const own =
      impl::require_gradients(name, values.size(), gradients == nullptr ? nullptr : &(gradients->*member));
  if (!values.empty()) f(name, values.data(), own, values.size());
}

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
