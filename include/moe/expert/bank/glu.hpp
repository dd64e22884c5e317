// Gated experts: z = Wd (act(Wg x + bg) * (Wu x + bu)) + bd (arXiv:2002.05202), SwiGLU with Silu, GeGLU with
// a Gelu.
#pragma once

#include <utility>

#include "moe/expert/two_layer/bank.hpp"
#include "moe/kernel/activation.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

template <class Act>
struct GluUnit {
  using Layout = GluLayout;
  static constexpr const char* kName = "glu";
  Act act;

  template <class Real>
  void forward(const Real* pre, Index rows, Real* h, Index h_stride) const noexcept {
    gated_rows(act, pre, pre + kHalf<Real>, kPanel<Real>, h, h_stride, rows, kHalf<Real>);
  }
  template <class Real>
  void backward(const Real* pre, const Real* dh, Real* dpre) const noexcept {
    gated_backward_row(act, pre, pre + kHalf<Real>, dh, dpre, dpre + kHalf<Real>, kHalf<Real>);
  }
};

}  // namespace impl

template <class, class>
class GateProbe;

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

  /// The same experts with weights of another storage, rounded: see quantise().
  template <class From>
  explicit Glu(const Glu<Act, From>& other) : Base(other) {}

  /// The weights of expert e as published: gate and up [F, D], down [D, F]; block storages round them. Throws
  /// config_error, shape_error or (block storages) numeric_error, naming the argument, before anything is
  /// written.
  void load(Index e, const ConstMatrixView<Real>& gate, const ConstMatrixView<Real>& up,
            const ConstMatrixView<Real>& down) {
    check_shapes(e, gate, up, down);
    if constexpr (BlockStorage<Storage>) {
      require_roundable<Storage>("gate", gate);
      require_roundable<Storage>("up", up);
      require_roundable<Storage>("down", down);
    }
    const ConstMatrixView<Real> part[] = {gate, up};
    this->parameters().load(e, part, down);
  }

  /// The same of codes and scales that the storage holds as they are: nothing is rounded. The caller answers
  /// for their extents, and for scales that are finite. Throws config_error.
  template <StorageGroups<Storage> Groups>
  void load_groups(Index e, const Groups& gate, const Groups& up, const Groups& down) {
    require_range("expert", e, 0, this->experts() - 1);
    const Groups part[] = {gate, up};
    this->parameters().load_groups(e, part, down);
  }

  /// What the kernels multiply with, exactly: loading it again changes nothing.
  void unpack(Index e, const MatrixView<Real>& gate, const MatrixView<Real>& up,
              const MatrixView<Real>& down) const {
    check_shapes(e, gate, up, down);
    const MatrixView<Real> part[] = {gate, up};
    this->parameters().unpack(e, part, down);
  }

 private:
  friend class GateProbe<Act, Storage>;

  template <class T>
  void check_shapes(Index e, const MatrixView<T>& gate, const MatrixView<T>& up,
                    const MatrixView<T>& down) const {
    require_range("expert", e, 0, this->experts() - 1);
    require_shape("gate", gate, this->hidden(), this->width());
    require_shape("up", up, this->hidden(), this->width());
    require_shape("down", down, this->output_width(), this->hidden());
  }
};

MOE_NAMESPACE_END
