// What an optimiser keeps from step to step: moments, which are rows of numbers beside every range of
// parameters, and how many steps the range has had. And the step itself, by a rule that says what happens to
// one number.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/types.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/update.hpp"
#include "moe/storage/parameter.hpp"
#include "moe/train/concept.hpp"
#include "moe/train/gradients.hpp"

MOE_NAMESPACE_BEGIN

/// Whether weight decay shrinks a range of parameters; `matrix`: one of them has more than one column.
using DecayRule = bool (*)(const char* range, bool matrix);

/// What is usual: biases, gains and other vectors do not decay.
inline bool decay_matrices(const char*, bool matrix) noexcept {
  return matrix;
}
inline bool decay_everything(const char*, bool) noexcept {
  return true;
}

namespace impl {

inline void require_not_negative(const char* name, double value) {
  if (!(value >= 0 && is_finite(value))) {
    fail<config_error>(name, ": expected a finite value >= 0, got ", value);
  }
}

template <class Real>
class OptimiserState {
 public:
  /// `names`: of the moments, as many.
  OptimiserState(const char* const* names, Index moments) noexcept : names_(names), moments_(moments) {}

  /// rule_of(steps, matrix, name) is the rule of a range at its `steps`th step, from 1. Memory is taken by
  /// the first step in which a range is trained. Before anything is written: state_error for other ranges
  /// than in the steps before, config_error for one that is trained twice.
  template <class Model, class X, class RuleOf>
  void step(Model& model, X& executor, const RuleOf& rule_of) {
    bind(model);
    Index at = 0;
    model.visit_storage([&](const char* name, Real* values, Real* gradients, Index n) {
      const Range& range = ranges_[at];
      double& steps = steps_[at++];
      if (gradients == nullptr) return;
      const auto rule = rule_of(++steps, range.matrix, name);
      for_stretches(n, executor, [&](Index first, Index count, Index) noexcept {
        constexpr Index kMoments = decltype(rule)::kMoments;
        Real* moment[kMoments + 1] = {};
        for (Index m = 0; m < kMoments; ++m) moment[m] = moments_of(range, m) + first;
        moe::update_row(rule, values + first, gradients + first, moment, count);
      });
    });
  }

  /// f(Parameter<Real>) for the moments of every trained parameter, "<parameter>.<moment>", in its shape.
  template <class Model, class Visitor>
  void visit_parameters(Model& model, Visitor& f) {
    bind(model);
    model.visit_parameters([&](const Parameter<Real>& p) {
      const Range* const range = range_of(ranges_, p.value.data);
      if (range == nullptr || range->first < 0) return;
      for (Index m = 0; m < moments_; ++m) {
        ParameterView<Real> view = p.value;
        view.data = moments_of(*range, m) + (p.value.data - range->values);
        f(Parameter<Real>{ParameterName(p.name, ".", names_[m]).c_str(), view, {}});
      }
    });
  }

  /// f("steps", values, n) with a copy, by range, taken over if all are counts; otherwise numeric_error.
  template <class Model, class Visitor>
  void visit_state(Model& model, Visitor& f) {
    bind(model);
    Buffer<double> copy = steps_;
    f("steps", copy.data(), copy.size());
    for (const double steps : copy) {
      if (!(steps >= 0 && steps < 0x1p53 && steps == std::floor(steps))) {
        fail<numeric_error>("optimiser steps: expected a count, got ", steps);
      }
    }
    steps_ = std::move(copy);
  }

 private:
  struct Range {
    std::uint64_t name = 0;  // its hash
    Index n = 0;
    Index first = -1;              // of its moments in memory_; -1: never trained
    const Real* values = nullptr;  // as of the running call
    bool matrix = false;
  };

  static Index padded(Index n) noexcept { return round_up(n, kAlignment / Index{sizeof(Real)}); }
  Real* moments_of(const Range& range, Index m) noexcept {
    return memory_.data() + range.first + m * padded(range.n);
  }

  /// FNV-1a.
  static std::uint64_t hash_of(const char* name) noexcept {
    std::uint64_t hash = 0xcbf29ce484222325;
    for (; *name != '\0'; ++name) hash = (hash ^ static_cast<unsigned char>(*name)) * 0x100000001b3;
    return hash;
  }

  /// The range that a parameter lies in, or null.
  static Range* range_of(Buffer<Range>& ranges, const Real* value) noexcept {
    for (Range& range : ranges) {
      if (range.values <= value && value < range.values + range.n) return &range;
    }
    return nullptr;
  }

  /// The model's ranges become those of the state, or are compared with them; who is trained has memory.
  template <class Model>
  void bind(Model& model) {
    const bool first_time = ranges_.empty();
    Index count = 0;
    bool needs_memory = false;
    model.visit_storage([&](const char* name, Real* values, Real* gradients, Index n) {
      const Index i = count++;
      if (!first_time) {
        if (i >= ranges_.size() || ranges_[i].n != n || ranges_[i].name != hash_of(name)) {
          fail<state_error>("optimiser: expected the ranges of the steps before, got another one at ", i,
                            ", ", name, " of ", n, " numbers; every model needs an optimiser of its own");
        }
        ranges_[i].values = values;
      }
      needs_memory |= gradients != nullptr && (first_time || ranges_[i].first < 0);
    });
    if (!first_time && count != ranges_.size()) {
      fail<state_error>("optimiser: expected the ", ranges_.size(), " ranges of the steps before, got ",
                        count);
    }
    if (needs_memory || ranges_.size() != count) take_memory(model, count);
  }

  template <class Model>
  void take_memory(Model& model, Index count) {
    Buffer<Range> ranges = ranges_;
    if (ranges.empty()) ranges.assign(count, Range{});
    Index at = 0, size = memory_.size();
    model.visit_storage([&](const char* name, Real* values, Real* gradients, Index n) {
      Range& range = ranges[at];
      range.name = hash_of(name);
      range.n = n;
      range.values = values;
      for (Index i = 0; i < at && gradients != nullptr && n > 0; ++i) {
        if (ranges[i].values == values && ranges[i].first >= 0) {
          fail<config_error>("optimiser: expected every range once, got ", name,
                             " again; freeze what layers share in all of them but one");
        }
      }
      if (gradients != nullptr && range.first < 0) {
        range.first = size;
        size += checked_product("optimiser state", moments_, padded(n));
      }
      ++at;
    });
    model.visit_parameters([&](const Parameter<Real>& p) {
      Range* const range = range_of(ranges, p.value.data);
      if (range != nullptr && p.value.cols > 1) range->matrix = true;
    });
    Buffer<Real> memory(size);
    if (!memory_.empty()) {
      std::memcpy(memory.data(), memory_.data(), static_cast<std::size_t>(memory_.size()) * sizeof(Real));
    }
    if (steps_.empty()) steps_.assign(count, 0.0);
    memory_ = std::move(memory);
    ranges_ = std::move(ranges);
  }

  const char* const* names_;
  Index moments_;
  Buffer<Range> ranges_;
  Buffer<double> steps_;  // of each range
  Buffer<Real> memory_;   // the moments of one trained range after the other, each from a cache line on
};

/// The state as an archive sees a layer.
template <class Real, class Model>
class SavedState {
 public:
  SavedState(OptimiserState<Real>& state, Model& model) noexcept : state_(&state), model_(&model) {}

  template <class Visitor>
  void visit_parameters(Visitor&& f) {
    state_->visit_parameters(*model_, f);
  }
  template <class Visitor>
  void visit_state(Visitor&& f) {
    state_->visit_state(*model_, f);
  }

 private:
  OptimiserState<Real>* state_;
  Model* model_;
};

}  // namespace impl

MOE_NAMESPACE_END
