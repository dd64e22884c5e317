// Gated experts: z = Wd (act(Wg x + bg) * (Wu x + bu)) + bd (arXiv:2002.05202), SwiGLU with Silu, GeGLU with
// a Gelu.
#pragma once

#include <utility>

#include "moe/expert/two_layer.hpp"
#include "moe/kernel/activation.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

template <class Act>
struct GluUnit {
  using Layout = GluLayout;
  Act act;

  template <class Real>
  void forward(const Real* pre, Real* h) const noexcept {
    gated_row(act, pre, pre + kHalf<Real>, h, kHalf<Real>);
  }
  template <class Real>
  void backward(const Real* pre, const Real* dh, Real* dpre) const noexcept {
    gated_backward_row(act, pre, pre + kHalf<Real>, dh, dpre, dpre + kHalf<Real>, kHalf<Real>);
  }
};

}  // namespace impl

/// Bank of E experts z = Wd h + bd, h = act(Wg x + bg) * (Wu x + bu); biases if options.bias. Act: an
/// activation (AnyActivation for a choice at run time) or a gate of kernel/gate.hpp, which then computes h
/// from both halves. Parameters "experts.<e>.gate_proj.weight" and "up_proj" [F, D], "down_proj" [D, F], and
/// ".bias".
template <class Act, class Storage = float>
requires(Activation<Act> || Gate<Act>) class Glu : public TwoLayerBank<impl::GluUnit<Act>, Storage> {
  using Base = TwoLayerBank<impl::GluUnit<Act>, Storage>;

 public:
  using typename Base::Options;
  using typename Base::Real;

  /// Zero weights. Throws config_error or size_error naming what is out of range.
  /// A gate has no default: its limits are the model's.
  explicit Glu(const Options& options) requires Activation<Act> : Glu(options, Act{}) {}
  Glu(const Options& options, Act act) : Base(options, {std::move(act)}) {}

  /// The weights of expert e as published: gate and up [F, D], down [D, F]. Throws config_error or
  /// shape_error, naming the argument, before anything is written.
  void load(Index e, const ConstMatrixView<Real>& gate, const ConstMatrixView<Real>& up,
            const ConstMatrixView<Real>& down) {
    require_range("expert", e, 0, this->experts() - 1);
    require_shape("gate", gate, this->hidden(), this->width());
    require_shape("up", up, this->hidden(), this->width());
    require_shape("down", down, this->width(), this->hidden());
    pack_half<Real>(gate, 0, this->weights().first(e));
    pack_half<Real>(up, 1, this->weights().first(e));
    pack_plain<Real>(down, this->weights().second(e));
  }
};

MOE_NAMESPACE_END
