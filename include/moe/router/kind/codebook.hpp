// Stage 1/5 route, by a codebook. In: RouterInput. Out: RouteTable. Next: moe/plan/dispatch_plan.hpp
// Every row goes where its nearest code points, with weight 1; codes follow the rows by a loss. VQMoE, Do et
// al. 2411.19402.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/column.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/core/random.hpp"
#include "moe/core/view.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/row.hpp"
#include "moe/plan/statistics.hpp"
#include "moe/router/call_options.hpp"
#include "moe/router/concept.hpp"
#include "moe/storage/parameter.hpp"

MOE_NAMESPACE_BEGIN

struct CodebookRouterOptions {
  Index width = 0;           // D
  Index experts = 0;         // E
  Index codes = 0;           // M; 0: one for each expert
  double loss = 0.08;        // coefficient
  double commitment = 0.25;  // of the part of the loss that draws rows to their codes
  double decay = 0.99;       // of the codes' usage, by step
  bool revive = false;       // codes that are hardly used move to the rows nearest to them, at a step's end
  NonFinite non_finite = NonFinite::throw_;
};

/// code = argmin_j |x - v_j|^2 (ties: the lowest), expert = code mod E, weight 1. In training the loss "vq",
/// coefficient (mean |v - sg x|^2 + commitment mean |sg v - x|^2), means over rows that take part and
/// columns. sg: no gradient; so d v is that of the first mean, d x that of the second.
///
/// Parameter "codebook.weight" [M, D], 0 until initialise(). State "codebook.usage" [M]. What a step's end
/// needs of the rows arrives by collect().
template <class RealType>
class CodebookRouter {
 public:
  static constexpr const char* kName = "codebook";
  using Real = RealType;
  using Options = CodebookRouterOptions;
  struct Tape {
    impl::Writer writer;
    Buffer<std::int32_t> code;  // [T] -1: takes no part
  };
  struct Gradients {
    Buffer<Real> code;  // [M, D]
  };

  static constexpr Coupling coupling(bool) noexcept { return Coupling::row_independent; }

  /// Throws config_error for a width or experts below 1, codes below 0, coefficients that are not finite or
  /// below 0, a decay outside [0, 1).
  explicit CodebookRouter(const Options& o) : options_(o), non_finite_(o.non_finite) {
    require_range("width", o.width, 1, INT32_MAX);
    require_range("experts", o.experts, 1, INT32_MAX);
    require_range("codes", o.codes, 0, INT32_MAX);
    for (const auto& [name, value] : {std::pair{"codebook loss", o.loss}, {"commitment", o.commitment}}) {
      if (!(value >= 0 && is_finite(value))) {
        fail<config_error>(name, ": expected a finite coefficient >= 0, got ", value);
      }
    }
    if (!(o.decay >= 0 && o.decay < 1)) {
      fail<config_error>("decay of usage: expected a value in [0, 1), got ", o.decay);
    }
    const Index codes = o.codes == 0 ? o.experts : o.codes;
    code_.assign(checked_product("codebook", codes, o.width), Real{0});
    usage_.assign(codes, 0);
    rows_.assign(codes, 0);
    distance_.assign(codes, std::numeric_limits<double>::infinity());
    anchor_.assign(code_.size(), Real{0});
  }

  Index width() const noexcept { return options_->width; }
  Index experts() const noexcept { return options_->experts; }
  /// M.
  Index codes() const noexcept { return usage_.size(); }
  /// v_j [D].
  const Real* code(Index j) const noexcept { return code_.data() + j * width(); }
  /// Share of the rows that code j got, averaged over steps.
  double usage(Index j) const noexcept { return usage_[j]; }
  NonFinite non_finite() const noexcept { return non_finite_; }
  void set_non_finite(NonFinite policy) noexcept { non_finite_ = policy; }
  Index max_pairs(const CallShape& shape) const noexcept { return shape.tokens; }

  /// U(-1/M, 1/M), and no usage.
  void initialise(std::uint64_t seed) {
    const KeyedRandom draw(seed, 0, DrawStream::initialise);
    for (Index i = 0; i < code_.size(); ++i) {
      code_[i] = static_cast<Real>((2 * draw.uniform(static_cast<std::uint64_t>(i), 0) - 1) /
                                   static_cast<double>(codes()));
    }
    usage_.fill(0);
  }
  /// [M, D]. Throws shape_error, numeric_error for values that are not finite.
  void set_codes(const ConstMatrixView<Real>& values) {
    require_shape("codes", values, codes(), width());
    for (Index j = 0; j < codes(); ++j) {
      if (!all_finite(values.row(j), width())) {
        fail<numeric_error>("codes: expected finite values, got others for code ", j);
      }
    }
    for (Index j = 0; j < codes(); ++j) copy_row(values.row(j), code_.data() + j * width(), width());
  }

  /// The code of a row [D]; -1 if a distance is not finite, for a row or a code is not.
  std::int32_t nearest(const Real* x) const noexcept {
    std::int32_t best = -1;
    Real least = std::numeric_limits<Real>::infinity();
    for (Index j = 0; j < codes(); ++j) {
      const Real distance = squared_distance(x, code(j));
      if (!is_finite(distance)) return -1;
      if (!(distance < least)) continue;
      least = distance;
      best = static_cast<std::int32_t>(j);
    }
    return best;
  }

  void measure(Arena& arena, const CallShape& shape, Index) const { arena.take<std::int32_t>(shape.tokens); }

  /// Throws config_error for a mask or an option of the call that distances do not follow (K of 1 is their
  /// own), numeric_error for a row whose distances are not finite, unless such rows are isolated.
  template <Executor X>
  void route(const RouterInput<Real>& in, RouteTable<Real>& table, Arena& arena, X& executor) const {
    check(in);
    fill(in, table, arena.take<std::int32_t>(in.tokens()), executor);
  }
  template <Executor X>
  void route_train(const RouterInput<Real>& in, RouteTable<Real>& table, Tape& tape, Arena&,
                   X& executor) const {
    check(in);
    tape.writer.clear();
    fill(in, table, tape.code.resize(in.tokens()), executor);
    tape.writer.set(identity_);
  }

  /// Throws state_error for the tape of another router or batch, config_error for gradients from outside.
  void check_backward(const RouterInput<Real>& in, const RouteTable<Real>&, const Tape& tape,
                      const RouteGradients<Real>& out) const {
    tape.writer.require("router tape", identity_);
    if (tape.code.size() != in.tokens()) {
      fail<state_error>("router tape: expected that of a call with ", in.tokens(), " rows, got one of ",
                        tape.code.size());
    }
    impl::refuse_outside_gradients(out, "a codebook");
  }
  /// Of the loss alone: weights are 1. Rows ascending.
  template <Executor X>
  void backward(const RouterInput<Real>& in, const RouteTable<Real>& table, const Tape& tape,
                const RouteGradients<Real>& out, Gradients* gradients, Arena&, X&) const {
    check_backward(in, table, tape, out);
    impl::check_gradients_of(*this, gradients);
    const double scale = in.training ? 2 * options_->loss * out.auxiliary_scale / terms(tape.code) : 0;
    for (Index t = 0; scale != 0 && t < in.tokens(); ++t) {
      const Index j = tape.code[t];
      if (j < 0) continue;
      const Real *const x = in.x.row(t), *const v = code(j);
      if (gradients != nullptr) {
        add_difference(static_cast<Real>(scale), v, x, gradients->code.data() + j * width());
      }
      if (out.dx) add_difference(static_cast<Real>(scale * options_->commitment), x, v, out.dx.row(t));
    }
  }

  /// Remembers the codes of rows [T, D], those a call in training read, and for each code the row nearest to
  /// it (of equal ones the first). `valid` as the call's. Rows that no call would route are left out. Of many
  /// calls all count. Throws shape_error.
  void collect(const ConstMatrixView<Real>& rows, const Column<bool>& valid = {}) {
    require_extent("rows", "columns", width(), rows.cols);
    if (!valid.empty()) require_extent("valid", "entries", rows.rows, static_cast<Index>(valid.size()));
    for (Index t = 0; t < rows.rows; ++t) {
      if (!valid.empty() && !valid[t]) continue;
      const Real* const x = rows.row(t);
      const Index nearest_code = nearest(x);
      if (nearest_code < 0) continue;
      rows_[nearest_code] += 1;
      for (Index j = 0; j < codes(); ++j) {
        const auto distance = static_cast<double>(squared_distance(x, code(j)));
        if (!(distance < distance_[j])) continue;
        distance_[j] = distance;
        copy_row(x, anchor_.data() + j * width(), width());
      }
    }
  }

  /// u_j = decay u_j + (1 - decay) share of the rows collected; then, reviving, v_j += a_j (anchor_j - v_j)
  /// with a_j = exp(-10 M u_j / (1 - decay) - 0.001): a code that no row came to lately becomes, nearly, the
  /// row nearest to it. Without rows nothing changes.
  void on_step_end(const RouteStats&) noexcept {
    const double all = sum_row(rows_.data(), codes());
    for (Index j = 0; all > 0 && j < codes(); ++j) {
      usage_[j] = options_->decay * usage_[j] + (1 - options_->decay) * rows_[j] / all;
      if (!options_->revive || !is_finite(distance_[j])) continue;
      const double share =
          std::exp(-10 * static_cast<double>(codes()) * usage_[j] / (1 - options_->decay) - 1e-3);
      add_difference(static_cast<Real>(share), anchor_.data() + j * width(), code(j),
                     code_.data() + j * width());
    }
    rows_.fill(0);
    distance_.fill(std::numeric_limits<double>::infinity());
  }

  Gradients make_gradients() const { return {Buffer<Real>(code_.size())}; }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor&& f) {
    const auto view = [this](Buffer<Real>& of) noexcept {
      return ParameterView<Real>{of.data(), codes(), width(), 1, width(), 1};
    };
    f(Parameter<Real>{"codebook.weight", view(code_),
                      gradients == nullptr ? ParameterView<Real>{} : view(gradients->code)});
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor&& f) {
    visit_buffer(f, "codebook.weight", code_, gradients, &Gradients::code);
  }
  /// f gets a copy, taken over if it holds shares, otherwise numeric_error. What is collected of a step that
  /// is not over is not saved.
  template <class Visitor>
  void visit_state(Visitor& f) {
    Buffer<double> usage = usage_;
    f("codebook.usage", usage.data(), usage.size());
    for (const double u : usage) {
      if (!(u >= 0 && u <= 1)) fail<numeric_error>("codebook usage: expected shares in [0, 1], got ", u);
    }
    usage_ = std::move(usage);
  }
  template <class Visitor>
  void visit_state(Visitor& f) const {
    f("codebook.usage", usage_.data(), usage_.size());
  }

 private:
  Real squared_distance(const Real* x, const Real* v) const noexcept {
    Real sum = 0;
    for (Index i = 0; i < width(); ++i) {
      const Real off = x[i] - v[i];
      sum = moe::fma(off, off, sum);
    }
    return sum;
  }
  /// to += a (x - y).
  void add_difference(Real a, const Real* x, const Real* y, Real* to) const noexcept {
    for (Index i = 0; i < width(); ++i) to[i] = moe::fma(a, Real(x[i] - y[i]), to[i]);
  }
  /// What the loss is a mean of.
  double terms(const Buffer<std::int32_t>& code) const noexcept {
    Index rows = 0;
    for (const std::int32_t j : code) rows += j >= 0 ? 1 : 0;
    return static_cast<double>(rows > 0 ? rows * width() : 1);
  }

  void check(const RouterInput<Real>& in) const {
    impl::require_there("router", identity_ && experts() > 0);
    if (in.logit_mask) fail<config_error>("logit_mask: expected none for a codebook, got one");
    if (in.options.experts_per_token > 1) {
      fail<config_error>("experts per token: expected 1 (a row has one code), got ",
                         in.options.experts_per_token);
    }
    impl::refuse_score_options(in.options, "a codebook");
  }

  /// `code` [T].
  template <Executor X>
  void fill(const RouterInput<Real>& in, RouteTable<Real>& table, std::int32_t* code_of, X& executor) const {
    executor.parallel_for(in.tokens(), [&](Index t, Index) noexcept {
      code_of[t] = in.takes_part(t) ? nearest(in.x.row(t)) : -1;
    });
    double sum = 0;
    Index rows = 0;
    for (Index t = 0; t < in.tokens(); ++t) {
      table.begin_token(t);
      if (!in.takes_part(t)) continue;
      const Index j = code_of[t];
      if (j < 0) {
        if (non_finite_ == NonFinite::throw_) {
          fail<numeric_error>("codebook: expected a row with finite distances to the codes, got token ", t);
        }
        table.spoiled[t] = true;
        continue;
      }
      table.push(t, static_cast<ExpertId>(j % experts()), Real{1});
      rows += 1;
      for (Index i = 0; in.training && i < width(); ++i) {
        const double off = static_cast<double>(in.x(t, i)) - static_cast<double>(code(j)[i]);
        sum += off * off;
      }
    }
    if (!in.training || options_->loss == 0) return;
    table.losses.add("vq", rows == 0 ? 0
                                     : options_->loss * (1 + options_->commitment) * sum /
                                           static_cast<double>(rows * width()));
  }

  impl::Movable<Options> options_;
  NonFinite non_finite_;
  impl::Identity identity_;
  Buffer<Real> code_;        // [M, D]
  Buffer<double> usage_;     // [M] saved
  Buffer<double> rows_;      // [M] of the step
  Buffer<double> distance_;  // [M] of the step's nearest row, infinite without one
  Buffer<Real> anchor_;      // [M, D] that row
};

MOE_NAMESPACE_END
