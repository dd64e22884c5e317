// Stage 1/5 route, by a codebook. In: RouterInput. Out: RouteTable. Next: moe/plan/dispatch_plan.hpp
// Every row goes where its nearest code points, or those of its residuals; codes follow the rows by a loss.
// VQMoE, Do et al. 2411.19402.
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
#include "moe/router/vector_length.hpp"
#include "moe/storage/parameter.hpp"

MOE_NAMESPACE_BEGIN

/// Which code is the nearest of a row. The loss is of differences either way.
enum class CodeMeasure : std::uint8_t {
  difference,  // least |x - v|^2
  cosine,      // greatest cos(x, v); vectors shorter than 1e-12 count as that long
};

struct CodebookRouterOptions {
  Index width = 0;    // D
  Index experts = 0;  // E
  Index codes = 0;    // M; 0: one for each expert
  Index levels = 1;   // K: of residuals, each with M codes of its own
  CodeMeasure measure = CodeMeasure::difference;
  double loss = 0.08;        // coefficient
  double commitment = 0.25;  // of the part of the loss that draws rows to their codes
  double decay = 0.99;       // of the codes' usage, by step
  bool revive = false;       // codes that are hardly used move to the rows nearest to them, at a step's end
  NonFinite non_finite = NonFinite::throw_;
};

/// r_0 = x, j_l = the nearest of level l's codes to r_l (ties: the lowest), r_{l+1} = r_l - v_{j_l}; every
/// level sends the row to expert j_l mod E with weight 1 / K, and what several send to one expert is added
/// up. (With one level: the expert of the row's code, with weight 1.) In training the loss "vq", coefficient
/// sum over levels of (mean |v - sg r|^2 + commitment mean |sg v - r|^2), means over rows that take part and
/// columns. sg: no gradient; so d v is that of the first mean, d x that of the second, of every level.
///
/// Parameter "codebook.weight" [K M, D], level by level, 0 until initialise(). State "codebook.usage" [K M].
/// What a step's end needs of the rows arrives by collect().
template <class RealType>
class CodebookRouter {
 public:
  static constexpr const char* kName = "codebook";
  using Real = RealType;
  using Options = CodebookRouterOptions;
  struct Tape {
    impl::Writer writer;
    Buffer<std::int32_t> code;  // [T, K] -1: takes no part
  };
  struct Gradients {
    Buffer<Real> code;  // [K M, D]
  };

  static constexpr Coupling coupling(bool) noexcept { return Coupling::row_independent; }

  /// Throws config_error for a width, experts or levels below 1, codes below 0, coefficients that are not
  /// finite or below 0, a decay outside [0, 1).
  explicit CodebookRouter(const Options& o) : options_(o), non_finite_(o.non_finite) {
    require_range("width", o.width, 1, INT32_MAX);
    require_range("experts", o.experts, 1, INT32_MAX);
    require_range("codes", o.codes, 0, INT32_MAX);
    require_range("levels of codes", o.levels, 1, 64);
    for (const auto& [name, value] : {std::pair{"codebook loss", o.loss}, {"commitment", o.commitment}}) {
      if (!(value >= 0 && is_finite(value))) {
        fail<config_error>(name, ": expected a finite coefficient >= 0, got ", value);
      }
    }
    if (!(o.decay >= 0 && o.decay < 1)) {
      fail<config_error>("decay of usage: expected a value in [0, 1), got ", o.decay);
    }
    const Index codes = checked_product("codes", o.levels, o.codes == 0 ? o.experts : o.codes);
    code_.assign(checked_product("codebook", codes, o.width), Real{0});
    usage_.assign(codes, 0);
    rows_.assign(codes, 0);
    distance_.assign(codes, std::numeric_limits<double>::infinity());
    anchor_.assign(code_.size(), Real{0});
    residual_.assign(o.width, Real{0});
  }

  Index width() const noexcept { return options_->width; }
  Index experts() const noexcept { return options_->experts; }
  /// M.
  Index codes() const noexcept { return usage_.size() / levels(); }
  /// K: codes that the router leaves in table.code [T, K], each in [0, M), or -1.
  Index levels() const noexcept { return options_->levels; }
  Index codes_per_token() const noexcept { return levels(); }
  /// v_j of a level [D].
  const Real* code(Index j, Index level = 0) const noexcept {
    return code_.data() + (level * codes() + j) * width();
  }
  /// Share of the rows that code j of a level got, averaged over steps.
  double usage(Index j, Index level = 0) const noexcept { return usage_[level * codes() + j]; }
  NonFinite non_finite() const noexcept { return non_finite_; }
  void set_non_finite(NonFinite policy) noexcept { non_finite_ = policy; }
  Index max_pairs(const CallShape& shape) const { return checked_product("pairs", shape.tokens, levels()); }

  /// U(-1/M, 1/M), and no usage.
  void initialise(std::uint64_t seed) {
    const KeyedRandom draw(seed, 0, DrawStream::initialise);
    for (Index i = 0; i < code_.size(); ++i) {
      code_[i] = static_cast<Real>((2 * draw.uniform(static_cast<std::uint64_t>(i), 0) - 1) /
                                   static_cast<double>(codes()));
    }
    usage_.fill(0);
  }
  /// [K M, D]. Throws shape_error, numeric_error for values that are not finite.
  void set_codes(const ConstMatrixView<Real>& values) {
    require_shape("codes", values, usage_.size(), width());
    for (Index j = 0; j < values.rows; ++j) {
      if (!all_finite(values.row(j), width())) {
        fail<numeric_error>("codes: expected finite values, got others for code ", j);
      }
    }
    for (Index j = 0; j < values.rows; ++j) copy_row(values.row(j), code_.data() + j * width(), width());
  }

  /// The code of a row, or of a level's residual, [D]; -1 if what is compared is not finite, for a row or a
  /// code is not.
  std::int32_t nearest(const Real* x, Index level = 0) const noexcept {
    std::int32_t best = -1;
    Real least = std::numeric_limits<Real>::infinity();
    const Real size = length(x);
    for (Index j = 0; j < codes(); ++j) {
      const Real distance = distance_of(x, size, code(j, level));
      if (!is_finite(distance)) return -1;
      if (!(distance < least)) continue;
      least = distance;
      best = static_cast<std::int32_t>(j);
    }
    return best;
  }
  /// The codes of a row, level by level [K]; all -1 if one of them is. `residual` [D] is written unless there
  /// is one level.
  void find(const Real* x, std::int32_t* found, Real* residual) const noexcept {
    bool whole = true;
    if (levels() > 1) copy_row(x, residual, width());
    for (Index l = 0; whole && l < levels(); ++l) {
      found[l] = nearest(l == 0 ? x : residual, l);
      whole = found[l] >= 0;
      if (whole && l + 1 < levels()) axpy_row(Real{-1}, code(found[l], l), residual, width());
    }
    for (Index l = 0; !whole && l < levels(); ++l) found[l] = -1;
  }

  void measure(Arena& arena, const CallShape& shape, Index concurrency) const {
    take_codes(arena, shape.tokens);
    take_residuals(arena, concurrency);
  }

  /// Throws config_error for a mask or an option of the call that distances do not follow (K is their own),
  /// numeric_error for a row whose distances are not finite, unless such rows are isolated.
  template <Executor X>
  void route(const RouterInput<Real>& in, RouteTable<Real>& table, Arena& arena, X& executor) const {
    check(in);
    fill(in, table, take_codes(arena, in.tokens()), arena, executor);
  }
  template <Executor X>
  void route_train(const RouterInput<Real>& in, RouteTable<Real>& table, Tape& tape, Arena& arena,
                   X& executor) const {
    check(in);
    tape.writer.clear();
    fill(in, table, tape.code.resize(checked_product("tape", in.tokens(), levels())), arena, executor);
    tape.writer.set(identity_);
  }

  /// Throws state_error for the tape of another router or batch, config_error for gradients from outside.
  void check_backward(const RouterInput<Real>& in, const RouteTable<Real>&, const Tape& tape,
                      const RouteGradients<Real>& out) const {
    tape.writer.require("router tape", identity_);
    if (tape.code.size() != in.tokens() * levels()) {
      fail<state_error>("router tape: expected that of a call with ", in.tokens(), " rows, got one of ",
                        tape.code.size() / levels());
    }
    impl::refuse_outside_gradients(out, "a codebook");
  }
  /// Of the loss alone: weights are constants. Rows ascending.
  template <Executor X>
  void backward(const RouterInput<Real>& in, const RouteTable<Real>& table, const Tape& tape,
                const RouteGradients<Real>& out, Gradients* gradients, Arena&, X&) const {
    check_backward(in, table, tape, out);
    impl::check_gradients_of(*this, gradients);
    const double scale = in.training ? 2 * options_->loss * out.auxiliary_scale / terms(tape.code) : 0;
    const auto of_codes = static_cast<Real>(scale);
    const auto of_row = static_cast<Real>(scale * options_->commitment);
    for (Index t = 0; scale != 0 && t < in.tokens(); ++t) {
      const std::int32_t* const found = tape.code.data() + t * levels();
      if (found[0] < 0) continue;
      for (Index i = 0; i < width(); ++i) {
        Real r = in.x(t, i), dx = 0;
        for (Index l = 0; l < levels(); ++l) {
          const Index at = (l * codes() + found[l]) * width() + i;
          const Real off = r - code_[at];
          if (gradients != nullptr) gradients->code[at] = moe::fma(of_codes, Real(-off), gradients->code[at]);
          dx = moe::fma(of_row, off, dx);
          r = off;
        }
        if (out.dx) out.dx(t, i) += dx;
      }
    }
  }

  /// Remembers the codes of rows [T, D], those a call in training read, and for each code the row (of a later
  /// level: the residual) nearest to it, of equal ones the first. `valid` as the call's. Rows that no call
  /// would route are left out. Of many calls all count. Throws shape_error.
  void collect(const ConstMatrixView<Real>& rows, const Column<bool>& valid = {}) {
    require_extent("rows", "columns", width(), rows.cols);
    if (!valid.empty()) require_extent("valid", "entries", rows.rows, static_cast<Index>(valid.size()));
    Buffer<std::int32_t> found(levels());
    for (Index t = 0; t < rows.rows; ++t) {
      if (!valid.empty() && !valid[t]) continue;
      find(rows.row(t), found.data(), residual_.data());
      if (found[0] < 0) continue;
      copy_row(rows.row(t), residual_.data(), width());
      for (Index l = 0; l < levels(); ++l) {
        rows_[l * codes() + found[l]] += 1;
        keep_anchors(residual_.data(), l);
        axpy_row(Real{-1}, code(found[l], l), residual_.data(), width());
      }
    }
  }

  /// u_j = decay u_j + (1 - decay) share of the rows collected; then, reviving, v_j += a_j (anchor_j - v_j)
  /// with a_j = exp(-10 M u_j / (1 - decay) - 0.001): a code that no row came to lately becomes, nearly, the
  /// row nearest to it. Without rows nothing changes.
  void on_step_end(const RouteStats&) noexcept {
    const double all = sum_row(rows_.data(), codes());  // the same in every level
    for (Index j = 0; all > 0 && j < usage_.size(); ++j) {
      usage_[j] = options_->decay * usage_[j] + (1 - options_->decay) * rows_[j] / all;
      if (!options_->revive || !is_finite(distance_[j])) continue;
      const double share =
          std::exp(-10 * static_cast<double>(codes()) * usage_[j] / (1 - options_->decay) - 1e-3);
      for (Index i = j * width(); i < (j + 1) * width(); ++i) {
        code_[i] = moe::fma(static_cast<Real>(share), Real(anchor_[i] - code_[i]), code_[i]);
      }
    }
    rows_.fill(0);
    distance_.fill(std::numeric_limits<double>::infinity());
  }

  Gradients make_gradients() const { return {Buffer<Real>(code_.size())}; }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor&& f) {
    const auto view = [this](Buffer<Real>& of) noexcept {
      return ParameterView<Real>{of.data(), usage_.size(), width(), 1, width(), 1};
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
  /// |x| where the measure needs it.
  Real length(const Real* x) const noexcept {
    return options_->measure == CodeMeasure::cosine ? impl::length_of(x, width()) : Real{1};
  }
  /// How far v is from x, whose length() is `size`.
  Real distance_of(const Real* x, Real size, const Real* v) const noexcept {
    if (options_->measure == CodeMeasure::cosine) return -dot(x, v, width()) / (size * length(v));
    Real sum = 0;
    for (Index i = 0; i < width(); ++i) {
      const Real off = x[i] - v[i];
      sum = moe::fma(off, off, sum);
    }
    return sum;
  }
  void keep_anchors(const Real* x, Index level) noexcept {
    const Real size = length(x);
    for (Index j = level * codes(); j < (level + 1) * codes(); ++j) {
      const auto distance = static_cast<double>(distance_of(x, size, code_.data() + j * width()));
      if (!(distance < distance_[j])) continue;
      distance_[j] = distance;
      copy_row(x, anchor_.data() + j * width(), width());
    }
  }
  /// What the loss is a mean of.
  double terms(const Buffer<std::int32_t>& code) const noexcept {
    Index rows = 0;
    for (Index t = 0; t < code.size(); t += levels()) rows += code[t] >= 0 ? 1 : 0;
    return static_cast<double>(rows > 0 ? rows * width() : 1);
  }
  std::int32_t* take_codes(Arena& arena, Index tokens) const {
    return arena.take<std::int32_t>(checked_product("codes", tokens, levels()));
  }
  Real* take_residuals(Arena& arena, Index concurrency) const {
    return levels() == 1 ? nullptr : arena.take<Real>(checked_product("residuals", concurrency, width()));
  }

  void check(const RouterInput<Real>& in) const {
    impl::require_there("router", identity_ && experts() > 0);
    if (in.logit_mask) fail<config_error>("logit_mask: expected none for a codebook, got one");
    if (in.options.experts_per_token != 0 && in.options.experts_per_token != levels()) {
      fail<config_error>("experts per token: expected ", levels(), " (a row's codes), got ",
                         in.options.experts_per_token);
    }
    impl::refuse_score_options(in.options, "a codebook");
  }

  /// `code_of` [T, K].
  template <Executor X>
  void fill(const RouterInput<Real>& in, RouteTable<Real>& table, std::int32_t* code_of, Arena& arena,
            X& executor) const {
    Real* const residuals = take_residuals(arena, executor.concurrency());
    executor.parallel_for(in.tokens(), [&](Index t, Index worker) noexcept {
      std::int32_t* const found = code_of + t * levels();
      for (Index l = 0; l < levels(); ++l) found[l] = -1;
      if (in.takes_part(t)) find(in.x.row(t), found, residuals + (levels() == 1 ? 0 : worker * width()));
    });
    double sum = 0;
    Index rows = 0;
    for (Index t = 0; t < in.tokens(); ++t) {
      const std::int32_t* const found = code_of + t * levels();
      table.begin_token(t);
      for (Index l = 0; table.code != nullptr && l < levels(); ++l) table.code[t * levels() + l] = found[l];
      if (!in.takes_part(t)) continue;
      if (found[0] < 0) {
        if (non_finite_ == NonFinite::throw_) {
          fail<numeric_error>("codebook: expected a row with finite distances to the codes, got token ", t);
        }
        table.spoiled[t] = true;
        continue;
      }
      push(table, t, found);
      rows += 1;
      for (Index i = 0; in.training && i < width(); ++i) {
        Real r = in.x(t, i);
        for (Index l = 0; l < levels(); ++l) {
          r -= code(found[l], l)[i];
          sum += static_cast<double>(r) * static_cast<double>(r);
        }
      }
    }
    if (table.code != nullptr) table.coded_by = this;
    if (!in.training || options_->loss == 0) return;
    table.losses.add("vq", rows == 0 ? 0
                                     : options_->loss * (1 + options_->commitment) * sum /
                                           static_cast<double>(rows * width()));
  }
  void push(RouteTable<Real>& table, Index t, const std::int32_t* found) const noexcept {
    for (Index l = 0; l < levels(); ++l) {
      const auto to = static_cast<ExpertId>(found[l] % experts());
      Index earlier = 0, same = 1;
      for (Index m = 0; m < levels(); ++m) {
        if (found[m] % experts() != to) continue;
        earlier += m < l ? 1 : 0;
        same += m > l ? 1 : 0;
      }
      if (earlier == 0) table.push(t, to, static_cast<Real>(same) / static_cast<Real>(levels()));
    }
  }

  impl::Movable<Options> options_;
  NonFinite non_finite_;
  impl::Identity identity_;
  Buffer<Real> code_;        // [K M, D]
  Buffer<double> usage_;     // [K M] saved
  Buffer<double> rows_;      // [K M] of the step
  Buffer<double> distance_;  // [K M] of the step's nearest row, infinite without one
  Buffer<Real> anchor_;      // [K M, D] that row
  Buffer<Real> residual_;    // [D] scratch of collect()
};

MOE_NAMESPACE_END
