// A matrix outside the library, together with its gradient: what optimisers work on.
#pragma once

#include "moe/core/check.hpp"
#include "moe/core/view.hpp"
#include "moe/storage/parameter.hpp"

MOE_NAMESPACE_BEGIN

/// Refers to both: [rows, cols] without gaps between rows. A vector is [n, 1].
template <class T>
class TrainedMatrix {
 public:
  using Real = T;

  /// Throws shape_error for a gradient of another shape, or gaps between rows.
  TrainedMatrix(const char* name, const MatrixView<Real>& values, const MatrixView<Real>& gradients)
      : name_(name), values_(values), gradients_(gradients) {
    require_shape(ParameterName("gradient of ", name).c_str(), gradients, values.rows, values.cols);
    for (const MatrixView<Real>& m : {values, gradients}) {
      if (m.rows > 1 && m.stride != m.cols) {
        fail<shape_error>(name, ": expected rows without gaps, ", m.cols, " numbers apart, got ", m.stride);
      }
    }
  }

  template <class Visitor>
  void visit_storage(Visitor&& f) const {
    f(name_.c_str(), values_.data, gradients_.data, values_.rows * values_.cols);
  }
  template <class Visitor>
  void visit_parameters(Visitor&& f) const {
    f(Parameter<Real>{name_.c_str(), view(values_), view(gradients_)});
  }

 private:
  static ParameterView<Real> view(const MatrixView<Real>& m) noexcept {
    return {m.data, m.rows, m.cols, 1, m.cols, 1};
  }

  ParameterName name_;
  MatrixView<Real> values_;
  MatrixView<Real> gradients_;
};

MOE_NAMESPACE_END
