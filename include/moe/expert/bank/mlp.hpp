// Experts without a gate: z = W2 act(W1 x + b1) + b2 (Switch, NLLB with ReLU; Nomic with GELU; Nemotron with
// ReLU^2).
#pragma once

#include <utility>

#include "moe/expert/two_layer/bank.hpp"
#include "moe/kernel/activation.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

template <Activation Act>
struct MlpUnit {
  using Layout = MlpLayout;
  static constexpr const char* kName = "mlp";
  Act act;

  template <class Real>
  void forward(const Real* pre, Index rows, Real* h, Index h_stride) const noexcept {
    activate_rows(act, pre, kPanel<Real>, h, h_stride, rows, kPanel<Real>);
  }
  template <class Real>
  void backward(const Real* pre, const Real* dh, Real* dpre) const noexcept {
    activate_backward_row(act, pre, dh, dpre, kPanel<Real>);
  }
};

}  // namespace impl

/// Bank of E experts z = W2 act(W1 x + b1) + b2; biases if options.bias. Act: any activation, AnyActivation
/// for a choice at run time. Parameters "experts.<e>.fc1.weight" [F, D], "experts.<e>.fc2.weight" [D, F], and
/// ".bias".
template <Activation Act, class Storage = float>
class Mlp : public TwoLayerBank<impl::MlpUnit<Act>, Storage> {
  using Base = TwoLayerBank<impl::MlpUnit<Act>, Storage>;

 public:
  using typename Base::Options;
  using typename Base::Real;

  /// Zero weights. Throws config_error or size_error naming what is out of range.
  explicit Mlp(const Options& options, Act act = Act{}) : Base(options, {std::move(act)}) {}

  /// The same experts with weights of another storage, rounded: see quantise().
  template <class From>
  explicit Mlp(const Mlp<Act, From>& other) : Base(other) {}

  /// The weights of expert e as published: fc1 [F, D], fc2 [D, F]; block storages round them. Throws
  /// config_error, shape_error or (block storages) numeric_error, naming the argument, before anything is
  /// written.
  void load(Index e, const ConstMatrixView<Real>& fc1, const ConstMatrixView<Real>& fc2) {
    check_shapes(e, fc1, fc2);
    if constexpr (BlockStorage<Storage>) {
      require_roundable<Storage>("fc1", fc1);
      require_roundable<Storage>("fc2", fc2);
    }
    this->parameters().load(e, &fc1, fc2);
  }

  /// The same of codes and scales that the storage holds as they are: nothing is rounded. The caller answers
  /// for their extents, and for scales that are finite. Throws config_error.
  template <StorageGroups<Storage> Groups>
  void load_groups(Index e, const Groups& fc1, const Groups& fc2) {
    require_range("expert", e, 0, this->experts() - 1);
    this->parameters().load_groups(e, &fc1, fc2);
  }

  /// What the kernels multiply with, exactly: loading it again changes nothing.
  void unpack(Index e, const MatrixView<Real>& fc1, const MatrixView<Real>& fc2) const {
    check_shapes(e, fc1, fc2);
    this->parameters().unpack(e, &fc1, fc2);
  }

 private:
  template <class T>
  void check_shapes(Index e, const MatrixView<T>& fc1, const MatrixView<T>& fc2) const {
    require_range("expert", e, 0, this->experts() - 1);
    require_shape("fc1", fc1, this->hidden(), this->width());
    require_shape("fc2", fc2, this->output_width(), this->hidden());
  }
};

MOE_NAMESPACE_END
