// Experts as what they share and low-rank differences from it: theta_e = theta + U_e V_e for every matrix,
// merged with weights. Twin-Merging, Lu et al. 2406.15479. expert/bank/task_vectors.hpp makes them of trained
// experts.
#pragma once

#include <algorithm>
#include <string_view>
#include <utility>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/workspace.hpp"
#include "moe/expert/merging.hpp"
#include "moe/kernel/row.hpp"
#include "moe/product/grouped.hpp"
#include "moe/product/grouped_transposed.hpp"
#include "moe/product/tile_tasks.hpp"
#include "moe/storage/packed_matrix.hpp"
#include "moe/storage/parameter.hpp"

MOE_NAMESPACE_BEGIN

/// The differences sum over e of p_e U_e V_e of one packed matrix [in rows][panels], `matrices` of which
/// stand in panels together (gate and up). U is packed as the weights of a product of inner size K = matrices
/// * E * r, whose rows are those of V scaled by p: its tiles are pieces of the packed result.
template <class Real>
class LowRankDeltas {
 public:
  LowRankDeltas(Index experts, Index rank, Index in, Index panels, Index matrices)
      : experts_(experts), rank_(rank), in_(in), panels_(panels), matrices_(matrices) {
    up_.assign(packed_size<Real>(checked_product("task vectors", matrices, experts, rank), panels), Real{0});
    down_.assign(checked_product("task vectors", in, inner()), Real{0});
  }

  Index inner() const noexcept { return matrices_ * experts_ * rank_; }
  Index bytes() const noexcept { return (up_.size() + down_.size()) * Index{sizeof(Real)}; }
  /// U [out, r] and V [r, in] of expert e's matrix m.
  ParameterView<Real> up(Index e, Index m, Index out) noexcept {
    const Index columns = kPanel<Real> / matrices_;
    return {up_.data() + first(e, m) * kPanel<Real> + m * columns,
            out,
            rank_,
            columns,
            inner() * kPanel<Real>,
            kPanel<Real>};
  }
  ParameterView<Real> down(Index e, Index m) noexcept {
    return {down_.data() + first(e, m), rank_, in_, rank_, rank_, inner()};
  }
  template <class F>
  void visit(const F& f) {
    f("up", up_), f("down", down_);
  }

  void measure(Arena& arena) const { Scratch{arena, in_, inner()}; }
  void measure_backward(Arena& arena, Index concurrency) const {
    BackwardScratch{arena, in_, inner(), panels_, experts_, concurrency};
  }

  /// to = base + the differences, elements of the packed matrix; [r] chains of fma, e ascending.
  template <Executor X>
  void merge(const Real* p, const Real* base, Real* to, Arena& arena, X& executor) const {
    const Scratch scratch(arena, in_, inner());
    executor.parallel_for(in_, [&](Index i, Index) noexcept {
      Real* const row = scratch.data + i * inner();
      scratch.row[i] = row;
      for (Index part = 0; part < matrices_ * experts_; ++part) {
        scale_row(p[part % experts_], down_.data() + i * inner() + part * rank_, row + part * rank_, rank_);
      }
    });
    scratch.offsets[0] = 0, scratch.offsets[1] = in_;
    grouped_gemm<native_arch>(
        scratch.row, scratch.offsets, Index{1}, packed(),
        [&](Index, Index begin, Index m, Index panel, const Real* tile) noexcept {
          const Index at = (panel * in_ + begin) * kPanel<Real>, count = m * kPanel<Real>;
          copy_row(base + at, to + at, count);
          add_row(tile, to + at, count);
        },
        scratch.tasks, executor);
  }

  /// dp[e] += <done, U_e V_e>: rows of `done` through U, then with V; rows are added up ascending, in double.
  template <Executor X>
  void merge_backward(const Real* done, double* dp, Arena& arena, X& executor) const {
    const BackwardScratch scratch(arena, in_, inner(), panels_, experts_, executor.concurrency());
    const Index positions = panels_ * kPanel<Real>;
    executor.parallel_for(in_, [&](Index i, Index) noexcept {
      Real* const row = scratch.data + i * positions;
      scratch.row[i] = row;
      for (Index j = 0; j < panels_; ++j) {
        copy_row(done + (j * in_ + i) * kPanel<Real>, row + j * kPanel<Real>, kPanel<Real>);
      }
    });
    scratch.offsets[0] = 0, scratch.offsets[1] = in_;
    grouped_gemm_transposed<native_arch>(
        scratch.row, positions, scratch.offsets, Index{1}, packed(),
        [&](Index, Index begin, Index m, Index block, const Real* tile) noexcept {
          const Index column = block * kPanel<Real>, count = (std::min)(kPanel<Real>, inner() - column);
          for (Index i = 0; i < m; ++i) {
            copy_row(tile + i * kPanel<Real>, scratch.through + (begin + i) * inner() + column, count);
          }
        },
        scratch.tasks, scratch.slices, executor);
    executor.parallel_for(in_, [&](Index i, Index) noexcept {
      double* const part = scratch.partial + i * experts_;
      for (Index e = 0; e < experts_; ++e) part[e] = 0;
      for (Index k = 0; k < matrices_ * experts_; ++k) {
        const Index at = i * inner() + k * rank_;
        part[k % experts_] += static_cast<double>(dot(scratch.through + at, down_.data() + at, rank_));
      }
    });
    for (Index i = 0; i < in_; ++i) {
      for (Index e = 0; e < experts_; ++e) dp[e] += scratch.partial[i * experts_ + e];
    }
  }

 private:
  struct Scratch {
    const Real** row;  // [in]
    Index* offsets;    // [2]
    Index* tasks;
    Real* data;  // [in, K]
    Scratch(Arena& arena, Index in, Index inner)
        : row(arena.take<const Real*>(in)),
          offsets(arena.take<Index>(2)),
          tasks(arena.take<Index>(task_list_size(1))),
          data(arena.take<Real>(in * inner)) {}
  };
  struct BackwardScratch {
    const Real** row;
    Index* offsets;
    Index* tasks;
    Real* data;       // [in, positions]
    Real* through;    // [in, K]
    double* partial;  // [in, E]
    Real* slices;     // per worker
    BackwardScratch(Arena& arena, Index in, Index inner, Index panels, Index experts, Index concurrency)
        : row(arena.take<const Real*>(in)),
          offsets(arena.take<Index>(2)),
          tasks(arena.take<Index>(task_list_size(1))),
          data(arena.take<Real>(in * panels * kPanel<Real>)),
          through(arena.take<Real>(in * inner)),
          partial(arena.take<double>(in * experts)),
          slices(arena.take<Real>(concurrency * grouped_scratch<Real>())) {}
  };
  Index first(Index e, Index m) const noexcept { return (m * experts_ + e) * rank_; }
  PackedMatrices<const Real> packed() const noexcept { return {up_.data(), 0, inner(), panels_}; }

  Index experts_, rank_, in_, panels_, matrices_;
  Buffer<Real> up_;    // [K][panels]
  Buffer<Real> down_;  // [in, K]
};

/// A MergingBank: of the mixture p every matrix is theta + sum over e of p_e U_e V_e, every bias theta + sum
/// of p_e times its difference. `B` is a dense bank of two layers. Nothing here is trained (the paper trains
/// the mixer alone): parameters are shown, saved and loaded, "shared." and "task_vectors.<e>.<matrix>.up"
/// [out, r], ".down" [r, in], and have no gradients.
template <MergingBank B>
class TwinExperts : private B {
  using Parameters = typename B::Parameters;
  static constexpr Index kParts = Parameters::kParts;

 public:
  using typename B::Merged;
  using typename B::Real;
  using typename B::Tape;
  struct Gradients {};
  static constexpr const char* kName = "twin_experts";

  /// Differences of 0. Throws config_error for a shared bank of several experts, or a rank that is not in [1,
  /// the smaller of D and F].
  TwinExperts(B shared, Index experts, Index rank)
      : B(std::move(shared)),
        experts_(checked(*this, experts, rank)),
        rank_(rank),
        first_(experts, rank, B::width(), this->parameters().first_panels(), kParts),
        second_(experts, rank, B::hidden(), this->parameters().second_panels(), 1) {
    if (!B::has_bias()) return;
    first_bias_.assign(checked_product("task vectors", experts, this->parameters().bias_positions()),
                       Real{0});
    second_bias_.assign(checked_product("task vectors", experts, this->parameters().second_positions()),
                        Real{0});
  }

  using B::backward_merged;
  using B::check_call;
  using B::forward_merged;
  using B::has_bias;
  using B::heads;
  using B::hidden;
  using B::measure_merged;
  using B::measure_merged_backward;
  using B::open_tape;
  using B::take_merged;
  using B::width;
  Index experts() const noexcept { return experts_; }
  Index rank() const noexcept { return rank_; }
  const B& shared() const noexcept { return *this; }
  /// Of what is shared and of the differences.
  Index bytes() const noexcept {
    return B::bytes() + first_.bytes() + second_.bytes() +
           (first_bias_.size() + second_bias_.size()) * Index{sizeof(Real)};
  }

  void measure_merge(Arena& arena, Index) const {
    each(arena, [&](const auto& deltas) { deltas.measure(arena); });
  }
  void measure_merge_backward(Arena& arena, Index concurrency) const {
    arena.take<double>(experts());
    each(arena, [&](const auto& deltas) { deltas.measure_backward(arena, concurrency); });
  }

  template <Executor X>
  void merge(const Real* p, const Merged& one, Arena& arena, X& executor) const {
    const auto base = this->parameters().weights();
    const Index mark = arena.mark();
    first_.merge(p, base.first.data, one.first.data, arena, executor);
    arena.rewind(mark);
    second_.merge(p, base.second.data, one.second.data, arena, executor);
    arena.rewind(mark);
    if (!has_bias()) return;
    add_biases(p, base.first_biases, first_bias_, one.first_biases, one.first_pitch);
    add_biases(p, base.second_biases, second_bias_, one.second_biases, one.second_pitch);
  }
  template <Executor X>
  void merge_backward(const Real*, const Merged& done, Real* dp, Gradients*, Arena& arena,
                      X& executor) const {
    double* const sum = arena.take<double>(experts());
    for (Index e = 0; e < experts(); ++e) sum[e] = 0;
    const Index mark = arena.mark();
    first_.merge_backward(done.first.data, sum, arena, executor);
    arena.rewind(mark);
    second_.merge_backward(done.second.data, sum, arena, executor);
    arena.rewind(mark);
    for (Index e = 0; e < experts(); ++e) {
      if (has_bias()) {
        sum[e] += static_cast<double>(
            dot(done.first_biases, first_bias_.data() + e * done.first_pitch, done.first_pitch));
        sum[e] += static_cast<double>(
            dot(done.second_biases, second_bias_.data() + e * done.second_pitch, done.second_pitch));
      }
      dp[e] = static_cast<Real>(sum[e]);
    }
  }

  Gradients make_gradients() const noexcept { return {}; }
  template <class Visitor>
  void visit_parameters(Gradients*, Visitor&& f) {
    B::visit_parameters(nullptr, [&](auto parameter) {
      const ParameterName name("shared.", parameter.name);
      parameter.name = name.c_str();
      f(parameter);
    });
    visit_task_vectors(f);
  }
  /// f(Parameter) for the differences alone: who makes them writes here.
  template <class Visitor>
  void visit_task_vectors(Visitor&& f) {
    using Layout = typename Parameters::LayoutType;
    const Index first = this->parameters().bias_positions();
    const auto show = [&](Index e, const char* matrix, const char* kind, const ParameterView<Real>& view) {
      f(Parameter<Real>{ParameterName("task_vectors.", e, ".", matrix, kind).c_str(), view, {}});
    };
    for (Index e = 0; e < experts(); ++e) {
      for (Index m = 0; m < kParts; ++m) {
        show(e, Layout::kPart[m], ".up", first_.up(e, m, hidden()));
        show(e, Layout::kPart[m], ".down", first_.down(e, m));
        if (!has_bias()) continue;
        show(e, Layout::kPart[m], ".bias",
             {first_bias_.data() + e * first + m * Parameters::kColumns, hidden(), 1, Parameters::kColumns,
              kPanel<Real>, 1});
      }
      show(e, Layout::kSecond, ".up", second_.up(e, 0, width()));
      show(e, Layout::kSecond, ".down", second_.down(e, 0));
      if (has_bias()) {
        show(e, Layout::kSecond, ".bias",
             {second_bias_.data() + e * this->parameters().second_positions(), width(), 1});
      }
    }
  }
  template <class Visitor>
  void visit_storage(Gradients*, Visitor&& f) {
    B::visit_storage(nullptr, [&](const char* name, Real* values, Real*, Index n) {
      f(ParameterName("shared.", name).c_str(), values, static_cast<Real*>(nullptr), n);
    });
    const auto show = [&](const char* name, Buffer<Real>& values) {
      if (!values.empty()) f(name, values.data(), static_cast<Real*>(nullptr), values.size());
    };
    first_.visit([&](std::string_view kind, Buffer<Real>& values) {
      show(kind == "up" ? "task_vectors.first.up" : "task_vectors.first.down", values);
    });
    second_.visit([&](std::string_view kind, Buffer<Real>& values) {
      show(kind == "up" ? "task_vectors.second.up" : "task_vectors.second.down", values);
    });
    show("task_vectors.first.bias", first_bias_);
    show("task_vectors.second.bias", second_bias_);
  }

 private:
  static Index checked(const B& shared, Index experts, Index rank) {
    require_range("experts of the shared bank", shared.experts(), 1, 1);
    require_range("output of the shared bank", shared.output_width(), shared.width(), shared.width());
    require_range("experts", experts, 1, INT32_MAX);
    require_range("rank of the task vectors", rank, 1, (std::min)(shared.width(), shared.hidden()));
    return experts;
  }
  template <class F>
  void each(Arena& arena, const F& f) const {
    const Index mark = arena.mark();
    f(first_);
    arena.rewind(mark);
    f(second_);
    arena.rewind(mark);
  }
  void add_biases(const Real* p, const Real* base, const Buffer<Real>& deltas, Real* to,
                  Index n) const noexcept {
    copy_row(base, to, n);
    for (Index e = 0; e < experts(); ++e) axpy_row(p[e], deltas.data() + e * n, to, n);
  }

  impl::Movable<Index> experts_;
  Index rank_;
  LowRankDeltas<Real> first_;
  LowRankDeltas<Real> second_;
  Buffer<Real> first_bias_;   // [E, bias_positions], empty without biases
  Buffer<Real> second_bias_;  // [E, second_positions]
};

MOE_NAMESPACE_END
