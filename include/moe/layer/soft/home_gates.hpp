// What stands between the levels of HoME's soft experts (layer/soft/home_soft.hpp): a scale for each expert
// of the first, a gate for each group of rows, the norm of the second.
#pragma once

#include "moe/core/buffer.hpp"
#include "moe/core/types.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/math.hpp"
#include "moe/kernel/row.hpp"
#include "moe/storage/parameter.hpp"

MOE_NAMESPACE_BEGIN

/// What stands between the levels: z = scale[e] clamp(sigmoid(<gate, mean> + bias), 0.01, 1) result, of a
/// slot of expert e in a group whose rows have that mean, and the root-mean-square norm of the second level.
/// Parameters "expert_scale" [1, E], "group_gate.weight" [1, D], "group_gate.bias" [1, 1], "between.norm"
/// [1, D]; scale and norm are 1 at first, the gate is sigmoid(0).
template <class Real>
class HomeGates {
 public:
  struct Gradients {
    Buffer<Real> scale;  // [E]
    Buffer<Real> gate;   // [D]
    Buffer<Real> bias;   // [1]
    Buffer<Real> norm;   // [D]
  };

  HomeGates(Index width, Index experts) : scale_(experts), gate_(width), bias_(1), norm_(width) {
    scale_.fill(1);
    norm_.fill(1);
  }

  Real scale(Index e) const noexcept { return scale_[e]; }
  /// The group's gate; `open`: whether it has a derivative, which it loses where it is clamped.
  Real gate(const Real* mean, bool& open) const noexcept {
    const Real s = math::sigmoid_pair(dot(gate_.data(), mean, gate_.size()) + bias_[0]).of_x;
    open = s > Real(0.01) && s < Real(1);
    return s < Real(0.01) ? Real(0.01) : s;
  }
  const Real* gate_weight() const noexcept { return gate_.data(); }
  const Real* norm() const noexcept { return norm_.data(); }
  bool finite() const noexcept {
    return all_finite(scale_.data(), scale_.size()) && all_finite(gate_.data(), gate_.size()) &&
           all_finite(bias_.data(), bias_.size()) && all_finite(norm_.data(), norm_.size());
  }

  Gradients make_gradients() const {
    return {Buffer<Real>(scale_.size()), Buffer<Real>(gate_.size()), Buffer<Real>(1),
            Buffer<Real>(norm_.size())};
  }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    each([&](const char* name, Buffer<Real>& values, Buffer<Real> Gradients::*own) {
      const auto view = [](Buffer<Real>& b) { return ParameterView<Real>{b.data(), 1, b.size(), 1, 1, 1}; };
      f(Parameter<Real>{name, view(values),
                        gradients == nullptr ? ParameterView<Real>{} : view(gradients->*own)});
    });
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    each([&](const char* name, Buffer<Real>& values, Buffer<Real> Gradients::*own) {
      visit_buffer(f, name, values, gradients, own);
    });
  }

 private:
  template <class F>
  void each(const F& f) {
    f("expert_scale", scale_, &Gradients::scale);
    f("group_gate.weight", gate_, &Gradients::gate);
    f("group_gate.bias", bias_, &Gradients::bias);
    f("between.norm", norm_, &Gradients::norm);
  }

  Buffer<Real> scale_, gate_, bias_, norm_;
};

MOE_NAMESPACE_END
