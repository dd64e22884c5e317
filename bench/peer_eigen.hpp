// The peer every user has: a loop over experts with Eigen's products.
#pragma once

#include <Eigen/Core>
#include <cmath>

#include "problem.hpp"

namespace bench {

/// Weights as Eigen likes them (column-major W^T, i.e. row-major [out,in]); routes are given.
template <class Real>
class EigenLoop {
 public:
  using Matrix = Eigen::Matrix<Real, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

  template <class Layer>
  EigenLoop(Layer& layer, const Shape& shape, Index threads)
      : shape_(shape), weights_(static_cast<std::size_t>(shape.E)) {
    Eigen::setNbThreads(static_cast<int>(threads));
    std::size_t at = 0;
    auto read = [&](const moe::Parameter<Real>& p) {
      Matrix m(p.value.rows, p.value.cols);
      p.value.copy_to(m);
      weights_[at / 3][at % 3] = std::move(m);  // gate, up, down of expert after expert
      ++at;
    };
    layer.experts().visit_parameters(nullptr, read);
  }

  void forward(const Real* x, Index tokens, const moe::RouteTable<Real>& routes, Real* y) {
    const Eigen::Map<const Matrix> in(x, tokens, shape_.D);
    Eigen::Map<Matrix> out(y, tokens, shape_.D);
    out.setZero();
    std::vector<std::vector<std::pair<Index, Real>>> of(static_cast<std::size_t>(shape_.E));
    for (Index t = 0; t < tokens; ++t) {
      for (Index p = routes.offsets[t]; p < routes.offsets[t + 1]; ++p) {
        of[static_cast<std::size_t>(routes.expert[p])].emplace_back(t, routes.weight[p]);
      }
    }
    for (std::size_t e = 0; e < of.size(); ++e) {
      const auto n = static_cast<Index>(of[e].size());
      if (n == 0) continue;
      rows_.resize(n, shape_.D);
      for (Index i = 0; i < n; ++i) rows_.row(i) = in.row(of[e][static_cast<std::size_t>(i)].first);
      gate_.noalias() = rows_ * weights_[e][0].transpose();
      up_.noalias() = rows_ * weights_[e][1].transpose();
      gate_.array() = gate_.array() / (1 + (-gate_.array()).exp()) * up_.array();
      result_.noalias() = gate_ * weights_[e][2].transpose();
      for (Index i = 0; i < n; ++i) {
        const auto& [t, w] = of[e][static_cast<std::size_t>(i)];
        out.row(t) += w * result_.row(i);
      }
    }
  }

 private:
  Shape shape_;
  std::vector<std::array<Matrix, 3>> weights_;
  Matrix rows_, gate_, up_, result_;
};

}  // namespace bench
