// Task vectors of trained experts: what each differs by from what they share, trimmed and compressed. TIES,
// Yadav et al. 2306.01708, trims; Twin-Merging, Lu et al. 2406.15479, compresses by singular values. Eigen's
// eigenvectors take seconds to compile: no other header includes this one.
#pragma once

#include <algorithm>
#include <cmath>
#include <string_view>
#include <vector>

#include <Eigen/Eigenvalues>

#include "moe/core/check.hpp"
#include "moe/expert/bank/twin.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/storage/parameter.hpp"

MOE_NAMESPACE_BEGIN

struct TaskVectorOptions {
  Index rank = 0;   // r of every matrix's difference; min(D, F) keeps all of it
  double keep = 1;  // TIES' trim, before the singular values: this share of an expert's differences, the
                    // largest in magnitude over all its matrices and biases; the others count as 0
};

namespace impl {

/// A difference of one expert: a matrix [out, in], or a bias [out, 1].
struct TaskVector {
  Eigen::MatrixXd value;
  bool is_bias = false;
};

/// Values smaller in magnitude than the ceil(keep n) largest of all n become 0.
inline void trim(std::vector<TaskVector>& vectors, double keep) {
  std::vector<double> sizes;
  for (const TaskVector& v : vectors) {
    for (Index i = 0; i < v.value.size(); ++i) sizes.push_back(std::abs(v.value.data()[i]));
  }
  const auto kept = static_cast<std::ptrdiff_t>(std::ceil(keep * static_cast<double>(sizes.size())));
  if (kept >= static_cast<std::ptrdiff_t>(sizes.size())) return;
  const auto last = sizes.begin() + (kept - 1);
  std::nth_element(sizes.begin(), last, sizes.end(), [](double a, double b) { return a > b; });
  for (TaskVector& v : vectors) {
    for (Index i = 0; i < v.value.size(); ++i) {
      double& number = v.value.data()[i];
      if (std::abs(number) < *last) number = 0;
    }
  }
}

/// up [out, rank] and down [rank, in]: the singular vectors of the largest singular values on the shorter
/// side of `d`, and what it is in them. A template, so that who compiles it often may have it `extern`.
template <class Matrix>
void rank_factors(const Matrix& d, Index rank, Matrix& up, Matrix& down) {
  // The shorter side's singular vectors are the eigenvectors of the product with the transpose, ascending;
  // what they leave of the matrix is exact whatever the accuracy of their order.
  const bool wide = d.rows() <= d.cols();
  const Matrix square = wide ? Matrix(d * d.transpose()) : Matrix(d.transpose() * d);
  const Eigen::SelfAdjointEigenSolver<Matrix> solver(square);
  const Matrix vector = solver.eigenvectors().rightCols(rank);
  up = wide ? vector : Matrix(d * vector);
  down = wide ? Matrix(vector.transpose() * d) : Matrix(vector.transpose());
}

template <class Real, class Matrix>
void assign_matrix(const ParameterView<Real>& to, const Matrix& from) {
  for (Index o = 0; o < to.rows; ++o) {
    for (Index i = 0; i < to.cols; ++i) to(o, i) = static_cast<Real>(from(o, i));
  }
}

}  // namespace impl

/// The experts of `experts` as differences of rank r from `shared`, a bank of one expert of that shape: the
/// mean (merge_into), a pretrained model, or a merged one. Factors are the singular vectors of the r largest
/// singular values on the shorter side, and what the matrix is in them (U and S V^T, or U S and V^T), formed
/// in double. Throws config_error for banks that do not go together, a rank
/// out of range or a share outside (0, 1], numeric_error for parameters that are not finite.
template <class B>
TwinExperts<B> twin_experts(const B& shared, const B& experts, const TaskVectorOptions& options) {
  using Real = typename B::Real;
  if (!(options.keep > 0 && options.keep <= 1)) {
    fail<config_error>("share of the differences to keep: expected a value in (0, 1], got ", options.keep);
  }
  if (shared.width() != experts.width() || shared.hidden() != experts.hidden() ||
      shared.has_bias() != experts.has_bias()) {
    const auto bias = [](const B& bank) { return bank.has_bias() ? "with" : "without"; };
    fail<config_error>("shared expert: expected one of the experts' shape ", experts.width(), " x ",
                       experts.hidden(), " ", bias(experts), " biases, got ", shared.width(), " x ",
                       shared.hidden(), " ", bias(shared), " biases");
  }
  TwinExperts<B> twin(shared, experts.experts(), options.rank);
  std::vector<ParameterView<Real>> to;  // up and down of a matrix, or a bias, in the order of the parameters
  twin.visit_task_vectors([&](const Parameter<Real>& p) { to.push_back(p.value); });
  std::vector<ParameterView<const Real>> base;
  visit_parameters(shared, [&](const auto& p) { base.push_back(p.value); });

  std::vector<impl::TaskVector> vectors;  // of the expert that is shown
  std::size_t at = 0;
  visit_parameters(experts, [&](const auto& p) {
    const ParameterView<const Real>& from = base[vectors.size()];
    impl::TaskVector v{Eigen::MatrixXd(from.rows, from.cols), std::string_view(p.name).ends_with(".bias")};
    for (Index o = 0; o < from.rows; ++o) {
      for (Index i = 0; i < from.cols; ++i) {
        v.value(o, i) = static_cast<double>(p.value(o, i)) - static_cast<double>(from(o, i));
        if (!is_finite(v.value(o, i))) {
          fail<numeric_error>(p.name, ": expected a finite difference from the shared expert, got ",
                              v.value(o, i));
        }
      }
    }
    vectors.push_back(std::move(v));
    if (vectors.size() < base.size()) return;
    impl::trim(vectors, options.keep);
    for (const impl::TaskVector& own : vectors) {
      if (own.is_bias) {
        impl::assign_matrix(to[at++], own.value);
        continue;
      }
      Eigen::MatrixXd up, down;
      impl::rank_factors(own.value, options.rank, up, down);
      impl::assign_matrix(to[at++], up);
      impl::assign_matrix(to[at++], down);
    }
    vectors.clear();
  });
  return twin;
}

MOE_NAMESPACE_END
