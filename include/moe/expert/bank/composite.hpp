// Several banks behind one range of expert ids: the first bank's experts first. Each bank gets the slots of
// its own experts, with offsets from 0; no row is copied.
#pragma once

#include <array>
#include <cstddef>
#include <limits>
#include <tuple>
#include <type_traits>
#include <utility>

#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/core/types.hpp"
#include "moe/core/workspace.hpp"
#include "moe/expert/concept.hpp"
#include "moe/expert/parameter_names.hpp"
#include "moe/plan/statistics.hpp"
#include "moe/storage/parameter.hpp"

MOE_NAMESPACE_BEGIN

/// Trainable if all its banks are. Names of parameters have the composite's ids if their bank takes
/// visit_parameters(gradients, f, first_id); else, as the names of flat ranges, the ids of their bank
/// ("experts.0-7.gate_up"), which keeps them apart.
template <ExpertBank First, ExpertBank... Rest>
class Composite {
  static constexpr std::size_t kBanks = 1 + sizeof...(Rest);
  static constexpr bool kTrainable = TrainableExpertBank<First> && (TrainableExpertBank<Rest> && ...);

 public:
  using Real = typename First::Real;
  static_assert((std::is_same_v<typename Rest::Real, Real> && ...),
                "moe: the banks of a composite must compute in the same type");

  struct Tape {
    std::tuple<impl::TapeOf<First>, impl::TapeOf<Rest>...> bank;
  };
  struct Gradients {
    std::tuple<impl::GradientsOf<First>, impl::GradientsOf<Rest>...> bank;
  };

 private:
  template <class Bank>
  static constexpr bool kUpdates = requires(Bank& bank, const RouteStats& stats) {
    bank.on_step_end(stats);
  };
  static constexpr Coupling weakest_coupling(bool training) noexcept {
    Coupling all = impl::bank_coupling<First>(training);
    ((all = weakest(all, impl::bank_coupling<Rest>(training))), ...);
    return all;
  }

 public:
  static constexpr Coupling coupling = weakest_coupling(true);
  static constexpr Coupling inference_coupling = weakest_coupling(false);
  static constexpr bool kRemembers = impl::kRemembers<First> || (impl::kRemembers<Rest> || ...);
  static constexpr bool kFreezesPairs = impl::kFreezesPairs<First> && (impl::kFreezesPairs<Rest> && ...);

  /// Throws config_error unless all banks have one width.
  explicit Composite(First first, Rest... rest) : bank_(std::move(first), std::move(rest)...) {
    std::array<Index, kBanks + 1> first_id{};
    for_each_bank([&](auto i) {
      const auto& own = std::get<i>(bank_);
      if (Index{own.width()} != width() || impl::output_width_of(own) != width()) {
        fail<config_error>("composite: expected banks of the first one's width, ", width(), ", got ",
                           own.width(), " (of results ", impl::output_width_of(own), ") in bank ", i());
      }
      first_id[i + 1] = first_id[i] + Index{own.experts()};
    });
    first_id_ = first_id;
    require_range("experts of a composite", experts(), 1, (std::numeric_limits<ExpertId>::max)());
  }

  Index experts() const noexcept { return first_of(kBanks); }
  Index width() const noexcept { return std::get<0>(bank_).width(); }

  template <class Visitor>
  void visit_names(const char* role, Visitor& f) const {
    std::apply([&](const auto&... bank) { (impl::visit_names_of(role, bank, f), ...); }, bank_);
  }

  template <std::size_t I>
  auto& bank() noexcept {
    return std::get<I>(bank_);
  }
  template <std::size_t I>
  const auto& bank() const noexcept {
    return std::get<I>(bank_);
  }

  template <class Call>
  void check_call(const Call& in) const {
    std::apply([&](const auto&... bank) { (impl::check_call_of(bank, in), ...); }, bank_);
  }

  // Banks run one after the other and share scratch memory.
  void measure(Arena& arena, Index pairs, Index concurrency) const {
    for_each_bank([&](auto i) {
      const Index mark = arena.mark();
      arena.take<Index>(count(i) + 1);
      impl::measure_of(std::get<i>(bank_), arena, pairs, concurrency);
      arena.rewind(mark);
    });
  }
  void measure_backward(Arena& arena, Index pairs, Index concurrency) const requires kTrainable {
    for_each_bank([&](auto i) {
      const Index mark = arena.mark();
      arena.take<Index>(count(i) + 1);
      impl::measure_backward_of(std::get<i>(bank_), arena, pairs, concurrency);
      arena.rewind(mark);
    });
  }

  template <Executor X>
  void forward(const RowBatch<Real>& batch, const RowSink<Real>& sink, Arena& arena, X& executor) const {
    for_each_bank([&](auto i) {
      const Index mark = arena.mark(), base = batch.offsets[first_of(i)];
      std::get<i>(bank_).forward(part(batch, i, arena), part(sink, base), arena, executor);
      arena.rewind(mark);
    });
  }

  template <Executor X>
  void forward_train(const RowBatch<Real>& batch, const RowSink<Real>& sink, Tape& tape, Arena& arena,
                     X& executor) const requires kTrainable {
    for_each_bank([&](auto i) {
      const Index mark = arena.mark(), base = batch.offsets[first_of(i)];
      impl::forward_train_of(std::get<i>(bank_), part(batch, i, arena), part(sink, base),
                             std::get<i>(tape.bank), arena, executor);
      arena.rewind(mark);
    });
  }

  template <Executor X>
  void backward(const RowBatch<Real>& batch, const Tape& tape, const RowGradients<Real>& rows,
                Gradients* gradients, Arena& arena, X& executor) const requires kTrainable {
    impl::check_gradients_of(*this, gradients);
    for_each_bank([&](auto i) {
      const Index mark = arena.mark(), base = batch.offsets[first_of(i)];
      RowGradients<Real> own{rows.dy + base, rows.weight + base, rows.dweight + base, part(rows.dx, base),
                             rows.frozen == nullptr ? nullptr : rows.frozen + base};
      own.dmemory = rows.dmemory;
      std::get<i>(bank_).backward(part(batch, i, arena), std::get<i>(tape.bank), own, part(gradients, i),
                                  arena, executor);
      arena.rewind(mark);
    });
  }

  Gradients make_gradients() const requires kTrainable {
    return std::apply([](const auto&... own) { return Gradients{{impl::make_gradients_of(own)...}}; }, bank_);
  }

  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor&& f, Index first_id = 0) {
    for_each_bank([&](auto i) {
      impl::visit_parameters_from(std::get<i>(bank_), part(gradients, i), f, first_id + first_of(i));
    });
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor&& f) {
    for_each_bank([&](auto i) {
      const auto show = [&](const char* name, Real* values, Real* g, Index n) {
        f(ranged(i, name).c_str(), values, g, n);
      };
      impl::visit_storage_of(std::get<i>(bank_), part(gradients, i), show);
    });
  }
  /// Each bank gets the counts of its experts; tokens and pairs that were dropped, elided or spoiled are all
  /// experts'. Throws shape_error for counts of fewer experts, unless nothing has been counted.
  void on_step_end(const RouteStats& stats) requires(kUpdates<First> || (kUpdates<Rest> || ...)) {
    const bool counted = stats.experts() > 0;
    if (counted && stats.experts() < experts()) {
      fail<shape_error>("statistics: expected at least ", experts(), " experts, got ", stats.experts());
    }
    for_each_bank([&](auto i) {
      auto& bank = std::get<i>(bank_);
      if constexpr (kUpdates<std::remove_reference_t<decltype(bank)>>) {
        RouteStats own;
        own.tokens = stats.tokens;
        own.dropped = stats.dropped;
        own.elided = stats.elided;
        own.spoiled = stats.spoiled;
        if (counted) {
          own.load.copy_from(stats.load.data() + first_of(i), count(i));
          own.gate_mass.copy_from(stats.gate_mass.data() + first_of(i), count(i));
        }
        bank.on_step_end(own);
      }
    });
  }
  template <class Visitor>
  void visit_state(Visitor& f) {
    std::apply([&](auto&... bank) { (impl::visit_state_of(bank, f), ...); }, bank_);
  }
  template <class Visitor>
  void visit_state(Visitor& f) const {
    std::apply([&](const auto&... bank) { (impl::visit_state_of(bank, f), ...); }, bank_);
  }
  template <class Visitor>
  void visit_packed(Visitor&& f) {
    for_each_bank([&](auto i) {
      auto& own = std::get<i>(bank_);
      const auto show = [&](const char* name, std::byte* data, Index n) {
        f(ranged(i, name).c_str(), data, n);
      };
      if constexpr (requires { own.visit_packed(show); }) own.visit_packed(show);
    });
  }

 private:
  /// f(std::integral_constant<std::size_t, i>) for every bank, in order.
  template <class F>
  static void for_each_bank(F&& f) {
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      (f(std::integral_constant<std::size_t, I>{}), ...);
    }
    (std::make_index_sequence<kBanks>{});
  }

  ParameterName ranged(std::size_t i, const char* name) const noexcept {
    return impl::ranged_name(first_of(i), first_of(i + 1) - 1, name);
  }

  Index first_of(std::size_t i) const noexcept { return first_id_.get()[i]; }
  Index count(std::size_t i) const noexcept { return first_of(i + 1) - first_of(i); }

  RowBatch<Real> part(const RowBatch<Real>& batch, std::size_t i, Arena& arena) const {
    const Index* const offsets = batch.offsets + first_of(i);
    Index* const own = arena.take<Index>(count(i) + 1);
    for (Index e = 0; e <= count(i); ++e) own[e] = offsets[e] - offsets[0];
    RowBatch<Real> rows{
        batch.row + offsets[0], batch.token + offsets[0], own, count(i), batch.tokens, batch.draws};
    rows.memory = batch.memory;
    return rows;
  }
  static RowSink<Real> part(const RowSink<Real>& sink, Index base) noexcept {
    if (sink.data == nullptr) return {};
    return {sink.row(base), sink.stride, sink.result + base};
  }
  template <class I>
  static auto* part(Gradients* gradients, I i) noexcept {
    return gradients == nullptr ? nullptr : &std::get<i>(gradients->bank);
  }

  std::tuple<First, Rest...> bank_;
  impl::Movable<std::array<Index, kBanks + 1>> first_id_;  // first id of each bank, then E
};

MOE_NAMESPACE_END
