// A recurrent unit as an expert: one step of a GRU (Cho et al. 1406.1078) from the zero state. Hecto, Pandey
// et al. 2506.22919, whose experts get isolated rows.
#pragma once

#include "moe/core/types.hpp"
#include "moe/expert/bank/one_layer.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/kernel/row.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// values: r, u, n behind their functions.
struct GruUnit {
  static constexpr const char* kName = "gru";
  static constexpr Index kParts = 3, kVectors = 1;
  static constexpr const char* kPart[kParts] = {"reset", "update", "candidate"};
  static constexpr const char* kVector[kVectors] = {"candidate.hidden_bias"};

  template <class Values, class Real>
  static void activate(const Values& values, const Real* hidden, Index n) noexcept {
    moe::activate_row(Sigmoid{}, values[0], values[0], n);
    moe::activate_row(Sigmoid{}, values[1], values[1], n);
    moe::fma_row(values[0], hidden, values[2], n);
    moe::activate_row(Tanh{}, values[2], values[2], n);
  }
  template <class Values, class Real>
  static void result(const Real*, const Values& values, const Real*, Real* z, Index n) noexcept {
    for (Index j = 0; j < n; ++j) z[j] = moe::fma(-values[1][j], values[2][j], values[2][j]);
  }
  template <class Values, class Gradients, class Real>
  static void backward(const Real*, const Values& values, const Real* hidden, const Real* dz,
                       const Gradients& dvalues, Real* dx, Index n) noexcept {
    for (Index j = 0; j < n; ++j) {
      const Real r = values[0][j], u = values[1][j], c = values[2][j];
      const Real dc = moe::fma(-u, dz[j], dz[j]) * moe::fma(-c, c, Real{1});
      dvalues[0][j] = dc * hidden[j] * moe::fma(-r, r, r);
      dvalues[1][j] = -dz[j] * c * moe::fma(-u, u, u);
      dvalues[2][j] = dc;
    }
    moe::fill_row(Real{0}, dx, n);
  }
  template <class Values, class Gradients, class Real>
  static void add_vectors(const Values& values, const Gradients& dvalues, Real* dhidden, Index n) noexcept {
    moe::fma_row(dvalues[2], values[0], dhidden, n);
  }
};

}  // namespace impl

/// z = (1 - u) n, u = sigmoid(Wu x + bu), n = tanh(Wn x + bn + r * h), r = sigmoid(Wr x + br): PyTorch's GRU
/// with W_ir, W_iz, W_in as "reset", "update" and "candidate", br = b_ir + b_hr, bu = b_iz + b_hz, bn = b_in
/// and h = b_hn "experts.<e>.candidate.hidden_bias". What multiplies the state, which is 0, is not here.
template <class Real = float>
class GruExperts : public OneLayerBank<impl::GruUnit, Real> {
 public:
  using OneLayerBank<impl::GruUnit, Real>::OneLayerBank;
};

MOE_NAMESPACE_END
