// A scorer whose logits are mixed over the rows of a segment, so that tokens that belong together go
// together. Graph of tokens, Nguyen et al. 2505.00792.
#pragma once

#include <concepts>
#include <cstdint>
#include <limits>
#include <utility>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/row.hpp"
#include "moe/router/logit_checks.hpp"
#include "moe/router/scorer/concept.hpp"

MOE_NAMESPACE_BEGIN

/// Which rows mix.
struct MixedRows {
  bool* open = nullptr;          // [T] takes part and is finite: the others are as if they were not there
  const Index* begin = nullptr;  // [T] of the row's segment
  const Index* end = nullptr;
};

/// Weights S_tj >= 0 of row t for the rows j of its segment, 0 for rows that are not open. `forward(in, rows,
/// tape, arena, executor)` may close rows that are not finite, and gives an object with `row(t, s)`, which
/// writes s[j - begin], and `one(t, j)`, both noexcept; `again(in, rows, tape)` gives that object in the
/// backward, for `one` alone; `backward(in, rows, active, again, ds, dx, gradients, arena, executor)` adds
/// what ds(t, j) = d loss / d S_tj of the active rows t brings. May have: check_call(call), initialise(seed),
/// parameters.
template <class W>
concept RowWeights = std::move_constructible<W> &&
    requires(const W& w, const RouterInput<typename W::Real>& in, const MixedRows& rows,
             typename W::Tape* tape, Arena& a, SerialExecutor& x, typename W::Real* s) {
  { w.forward(in, rows, tape, a, x).one(Index{}, Index{}) } -> std::same_as<typename W::Real>;
  w.forward(in, rows, tape, a, x).row(Index{}, s);
  w.again(in, rows, *tape);
  w.measure(a, Index{}, Index{});           // tokens, concurrency
  w.measure_backward(a, Index{}, Index{});  // tokens, concurrency
};

/// logit_t = sum_j S_tj inner_j over the rows j of t's segment: O(T^2) for a segment of T rows, in time, not
/// in memory. A row with a logit that is not finite is left out of every sum, and shows; what hides outputs
/// from some rows (MaskedScorer) goes around this scorer and not into it. Parameters are Inner's and the
/// weights'.
template <Scorer Inner, RowWeights Weights>
class RowMixer : public impl::InnerHooks<RowMixer<Inner, Weights>, Inner> {
 public:
  using Real = typename Inner::Real;
  struct Tape {
    typename Inner::Tape inner;
    typename Weights::Tape weights;
    Buffer<Real> raw;   // [T, N] Inner's logits
    Buffer<bool> open;  // [T]
  };
  struct Gradients {
    typename Inner::Gradients inner;
    impl::GradientsOf<Weights> weights;
  };

  /// Throws config_error for a noisy Inner, or one that carries: noise, and what is carried, come behind what
  /// is mixed.
  RowMixer(Inner inner, Weights weights) : inner_(std::move(inner)), weights_(std::move(weights)) {
    if (impl::is_noisy(inner_))
      fail<config_error>("row mixer: expected a scorer without noise, got one with");
    if (impl::carry_width_of(inner_) > 0)
      fail<config_error>("row mixer: expected a scorer that hands nothing on, got one that carries");
  }

  static constexpr Coupling coupling(bool training) noexcept {
    return weakest(Coupling::per_segment, impl::coupling_of<Inner>(training));
  }
  Index width() const noexcept { return inner_.width(); }
  Index outputs() const noexcept { return inner_.outputs(); }
  Inner& inner() noexcept { return inner_; }
  const Inner& inner() const noexcept { return inner_; }
  Weights& weights() noexcept { return weights_; }
  const Weights& weights() const noexcept { return weights_; }
  void initialise(std::uint64_t seed) {
    inner_.initialise(seed);
    if constexpr (requires { weights_.initialise(seed); }) weights_.initialise(seed);
  }

  template <class Visitor>
  void visit_names(const char* role, Visitor& f) const {
    impl::visit_names_of(role, inner_, f);
    impl::visit_names_of("logits", weights_, f);
  }
  template <class Call>
  void check_call(const Call& call) const {
    impl::check_call_of(inner_, call);
    impl::check_call_of(weights_, call);
  }

  void measure(Arena& arena, Index tokens, Index concurrency) const {
    take_rows(arena, tokens), take_segments(arena, tokens), take_open(arena, tokens);
    arena.take<Real>(checked_product("row weights", concurrency, tokens));
    weights_.measure(arena, tokens, concurrency);
    inner_.measure(arena, tokens, concurrency);
  }
  void measure_backward(Arena& arena, Index tokens, Index concurrency) const {
    take_rows(arena, tokens), take_segments(arena, tokens), take_open(arena, tokens);
    arena.take<std::int32_t>(tokens);
    weights_.measure_backward(arena, tokens, concurrency);
    inner_.measure_backward(arena, tokens, concurrency);
  }

  template <Executor X>
  void logits(const RouterInput<Real>& in, const Logits<Real>& out, Tape* tape, Arena& arena,
              X& executor) const {
    const Index tokens = in.tokens(), n = outputs();
    Real* const raw =
        tape == nullptr ? take_rows(arena, tokens) : tape->raw.resize(checked_product("tape", tokens, n));
    MixedRows rows = segments(in, arena);
    rows.open = tape == nullptr ? take_open(arena, tokens) : tape->open.resize(tokens);
    Real* const weights = arena.take<Real>(executor.concurrency() * tokens);
    const Index mark = arena.mark();
    inner_.logits(in, out, tape == nullptr ? nullptr : &tape->inner, arena, executor);
    arena.rewind(mark);
    executor.parallel_for(tokens, [&](Index t, Index) noexcept {
      copy_row(out.value.row(t), raw + t * n, n);
      rows.open[t] = in.takes_part(t) && !impl::mask_spoils(in, t) && all_finite(raw + t * n, n);
    });
    const auto mixing =
        weights_.forward(in, rows, tape == nullptr ? nullptr : &tape->weights, arena, executor);
    executor.parallel_for(tokens, [&](Index t, Index worker) noexcept {
      Real* const to = out.value.row(t);
      if (!rows.open[t]) {
        if (in.takes_part(t) && !impl::mask_spoils(in, t)) {
          fill_row(std::numeric_limits<Real>::quiet_NaN(), to, n);
        }
        return;
      }
      Real* const s = weights + worker * tokens;
      mixing.row(t, s);
      bool first = true;  // S = 1 is Inner to the bit
      for (Index j = rows.begin[t]; j < rows.end[t]; ++j) {
        const Real w = s[j - rows.begin[t]];
        if (w == 0) continue;
        if (first) {
          scale_row(w, raw + j * n, to, n);
        } else {
          axpy_row(w, raw + j * n, to, n);
        }
        first = false;
      }
      if (first) fill_row(Real{0}, to, n);
    });
  }

  /// d inner_j = sum_t S_tj d logit_t, t ascending; S_tj itself gets <d logit_t, inner_j>.
  template <Executor X>
  void backward(const RouterInput<Real>& in, const Tape& tape, const Logits<Real>& dlogits,
                const MatrixView<Real>& dx, Gradients* gradients, Arena& arena, X& executor) const {
    impl::check_gradients_of(*this, gradients);
    const Index tokens = in.tokens(), n = outputs();
    const Real* const raw = impl::taped("row mixer", tape.raw, tokens * n);
    const bool* const open = impl::taped("row mixer", tape.open, tokens);
    const MatrixView<Real> d(take_rows(arena, tokens), tokens, n);
    MixedRows rows = segments(in, arena);
    bool* const active = take_open(arena, tokens);
    std::int32_t* const listed = arena.take<std::int32_t>(tokens);
    Index count = 0;
    for (Index t = 0; t < tokens; ++t) {
      if (open[t]) listed[count++] = static_cast<std::int32_t>(t);
      active[t] = dlogits.rows == nullptr && open[t];
    }
    for (Index a = 0; dlogits.rows != nullptr && a < dlogits.row_count; ++a) active[dlogits.rows[a]] = true;
    rows.open = const_cast<bool*>(open);
    const auto mixing = weights_.again(in, rows, tape.weights);
    executor.parallel_for(tokens, [&](Index j, Index) noexcept {
      fill_row(Real{0}, d.row(j), n);
      for (Index t = rows.begin[j]; open[j] && t < rows.end[j]; ++t) {
        const Real w = active[t] ? mixing.one(t, j) : Real{0};
        if (w != 0) axpy_row(w, dlogits.value.row(t), d.row(j), n);
      }
    });
    const auto ds = [&](Index t, Index j) noexcept { return dot(dlogits.value.row(t), raw + j * n, n); };
    const Index mark = arena.mark();
    weights_.backward(in, rows, active, mixing, ds, dx, gradients == nullptr ? nullptr : &gradients->weights,
                      arena, executor);
    arena.rewind(mark);
    inner_.backward(in, tape.inner, Logits<Real>{.value = d, .rows = listed, .row_count = count}, dx,
                    gradients == nullptr ? nullptr : &gradients->inner, arena, executor);
  }

  Gradients make_gradients() const { return {inner_.make_gradients(), impl::make_gradients_of(weights_)}; }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    inner_.visit_parameters(gradients == nullptr ? nullptr : &gradients->inner, f);
    impl::visit_parameters_of(weights_, gradients == nullptr ? nullptr : &gradients->weights, f);
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    inner_.visit_storage(gradients == nullptr ? nullptr : &gradients->inner, f);
    impl::visit_storage_of(weights_, gradients == nullptr ? nullptr : &gradients->weights, f);
  }

 private:
  Real* take_rows(Arena& arena, Index tokens) const {
    return arena.take<Real>(checked_product("mixed logits", tokens, outputs()));
  }
  static bool* take_open(Arena& arena, Index tokens) { return arena.take<bool>(tokens); }
  static Index* take_segments(Arena& arena, Index tokens) {
    return arena.take<Index>(checked_product("segments of rows", 2, tokens));
  }
  static MixedRows segments(const RouterInput<Real>& in, Arena& arena) {
    const Index tokens = in.tokens();
    Index* const begin = take_segments(arena, tokens);
    Index* const end = begin + tokens;
    for (Index s = 0; s < in.segments.count(tokens); ++s) {
      for (Index t = in.segments.begin(s); t < in.segments.end(s, tokens); ++t) {
        begin[t] = in.segments.begin(s);
        end[t] = in.segments.end(s, tokens);
      }
    }
    return {nullptr, begin, end};
  }

  Inner inner_;
  Weights weights_;
};

MOE_NAMESPACE_END
