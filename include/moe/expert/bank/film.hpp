// Feature-wise modulation as an expert: z = (Gamma x + g) * x + (B x + b), Gamma and B full D x D maps.
// MoFME, Zhang et al. 2312.16610 (released code).
#pragma once

#include <string_view>

#include "moe/expert/bank/one_layer.hpp"
#include "moe/kernel/row.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

struct FilmUnit {
  static constexpr const char* kName = "film";
  static constexpr Index kParts = 2, kVectors = 0;
  static constexpr const char* kPart[kParts] = {"gamma", "beta"};

  template <class Values, class Real>
  static void activate(const Values&, const Real*, Index) noexcept {}
  template <class Values, class Real>
  static void result(const Real* x, const Values& values, const Real*, Real* z, Index n) noexcept {
    moe::copy_row(values[1], z, n);
    moe::fma_row(values[0], x, z, n);
  }
  template <class Values, class Gradients, class Real>
  static void backward(const Real* x, const Values& values, const Real*, const Real* dz,
                       const Gradients& dvalues, Real* dx, Index n) noexcept {
    moe::fill_row(Real{0}, dvalues[0], n);
    moe::fma_row(dz, x, dvalues[0], n);
    moe::copy_row(dz, dvalues[1], n);
    moe::fill_row(Real{0}, dx, n);
    moe::fma_row(dz, values[0], dx, n);
  }
};

}  // namespace impl

/// Maps "gamma" and "beta". Shared work, before the experts and after their sum, is a frame's: see
/// layer/named/mofme.hpp.
template <class Real = float>
class FilmExperts : public OneLayerBank<impl::FilmUnit, Real> {
 public:
  using OneLayerBank<impl::FilmUnit, Real>::OneLayerBank;

  /// gamma = 1, beta = 0: every expert returns its row.
  void set_identity() {
    this->visit_parameters(nullptr, [](const Parameter<Real>& p) {
      const std::string_view name = p.name;
      const bool one = name.ends_with("gamma.bias");
      for (Index o = 0; o < p.value.rows; ++o) {
        for (Index i = 0; i < p.value.cols; ++i) p.value(o, i) = one ? Real{1} : Real{0};
      }
    });
  }
};

MOE_NAMESPACE_END
