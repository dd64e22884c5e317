// Experts that read a row through one map into a latent space that they share: z = f_e(A x), A [r, D], f_e
// from r columns to D. Mixture of latent experts, Liu et al. 2503.23100 (MoLAE).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/core/types.hpp"
#include "moe/core/workspace.hpp"
#include "moe/expert/concept.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/row.hpp"
#include "moe/product/grouped.hpp"
#include "moe/product/grouped_outer.hpp"
#include "moe/product/grouped_transposed.hpp"
#include "moe/product/projection.hpp"
#include "moe/product/right_singular.hpp"
#include "moe/storage/parameter.hpp"

MOE_NAMESPACE_BEGIN

/// `Inner`, a Mlp or Glu of any storage, whose rows have r columns and its results D (TwoLayerOptions::width
/// and output). A x is computed once for all experts of a token. Experts in several groups, each with a
/// map of its own, are a Composite of these; a shared map behind the experts as well is a LatentFrame around
/// experts of r columns. Parameters "experts.latent.weight" A [r, D], then Inner's.
template <class Inner>
class LatentBank {
 public:
  using Real = typename Inner::Real;
  using Storage = typename Inner::StorageType;
  static constexpr const char* kName = "latent";
  static constexpr Coupling coupling = Inner::coupling;
  static constexpr bool kFreezesPairs = true;

  struct Tape {
    Buffer<Real> latent;   // [rows of their own, r]
    Buffer<Index> row_of;  // [P] of those, the one a slot read
    typename Inner::Tape inner;
  };
  struct Gradients {
    typename Projection<Real>::Gradients map;
    typename Inner::Gradients inner;
  };

  /// Zero map. Throws config_error for experts whose results are not of `width` columns.
  LatentBank(Index width, Inner inner) : map_(width, inner.width(), false), inner_(std::move(inner)) {
    if (inner_.output_width() != width) {
      fail<config_error>("latent experts: expected experts with results of ", width, " columns, got ",
                         inner_.output_width());
    }
  }

  Index experts() const noexcept { return inner_.experts(); }
  Index width() const noexcept { return map_.in(); }
  /// r
  Index latent() const noexcept { return map_.out(); }
  Projection<Real>& map() noexcept { return map_; }
  const Projection<Real>& map() const noexcept { return map_; }
  Inner& inner() noexcept { return inner_; }
  const Inner& inner() const noexcept { return inner_; }

  template <class Visitor>
  void visit_names(const char* role, Visitor& f) const {
    f(role, kName);
    impl::visit_names_of(role, inner_, f);
  }
  void initialise(std::uint64_t seed) {
    constexpr std::uint64_t kStream = 520;  // matrices of expert/two_layer/parameters.hpp: 256 on
    map_.initialise(seed, kStream);
    inner_.initialise(seed);
  }
  template <class Call>
  void check_call(const Call& in) const {
    impl::check_call_of(inner_, in);
  }

  void measure(Arena& arena, Index pairs, Index concurrency) const {
    Scratch{arena, pairs, latent(), false};
    inner_.measure(arena, pairs, concurrency);
  }
  void measure_backward(Arena& arena, Index pairs, Index concurrency) const {
    BackwardScratch{arena, pairs, latent(), concurrency};
    inner_.measure_backward(arena, pairs, concurrency);
  }

  template <Executor X>
  void forward(const RowBatch<Real>& batch, const RowSink<Real>& sink, Arena& arena, X& executor) const {
    require_experts(experts(), batch);
    const Scratch scratch(arena, batch.slots(), latent(), false);
    inner_.forward(map_rows(batch, scratch, scratch.latent, executor), sink, arena, executor);
  }
  template <Executor X>
  void forward_train(const RowBatch<Real>& batch, const RowSink<Real>& sink, Tape& tape, Arena& arena,
                     X& executor) const {
    require_experts(experts(), batch);
    const Index slots = batch.slots();
    const Scratch scratch(arena, slots, latent(), true);
    Real* const rows = tape.latent.resize(checked_product("latent rows", slots, latent()));
    const RowBatch<Real> own = map_rows(batch, scratch, rows, executor);
    tape.row_of.copy_from(scratch.row_of, slots);
    inner_.forward_train(own, sink, tape.inner, arena, executor);
  }

  /// With dz = weight * dy: dweight, dx (unless dx.data is null) and gradients (unless null) of slots that
  /// are not frozen. Errors are those of Inner's.
  template <Executor X>
  void backward(const RowBatch<Real>& batch, const Tape& tape, const RowGradients<Real>& rows,
                Gradients* gradients, Arena& arena, X& executor) const {
    require_experts(experts(), batch);
    const Index slots = batch.slots();
    if (tape.latent.size() != slots * latent() || tape.row_of.size() != slots) {
      fail<state_error>("expert tape: expected the tape of ", slots, " rows of ", latent(),
                        " latent columns, got one of ", tape.row_of.size(), " rows");
    }
    impl::check_gradients_of(*this, gradients);
    const BackwardScratch scratch(arena, slots, latent(), executor.concurrency());
    RowBatch<Real> own = batch;
    for (Index s = 0; s < slots; ++s) {
      scratch.read[s] = tape.latent.data() + tape.row_of[s] * latent();
      scratch.dlatent_row[s] = scratch.dlatent + s * latent();
    }
    own.row = scratch.read;
    own.tokens = 0;
    const bool wants_dlatent = rows.dx.data != nullptr || gradients != nullptr;
    RowGradients<Real> at_inner = rows;
    at_inner.dx = {};
    if (wants_dlatent) at_inner.dx = {scratch.dlatent, latent(), scratch.dlatent_row};
    inner_.backward(own, tape.inner, at_inner, gradients == nullptr ? nullptr : &gradients->inner, arena,
                    executor);

    Index offsets[2] = {0, slots};
    if (rows.dx.data != nullptr) {
      grouped_gemm_transposed<native_arch>(
          scratch.dlatent_row, latent(), offsets, Index{1}, [this](Index) noexcept { return map_.packed(); },
          [&](Index, Index first, Index m, Index block, const Real* tile) noexcept {
            const Index column = block * kPanel<Real>;
            const Index count = (std::min)(kPanel<Real>, width() - column);
            for (Index i = 0; i < m; ++i)
              copy_row(tile + i * kPanel<Real>, rows.dx.row(first + i) + column, count);
          },
          scratch.tasks, scratch.panels, executor);
    }
    if (gradients == nullptr) return;
    Index& kept = offsets[1] = 0;
    for (Index s = 0; s < slots; ++s) {
      if (rows.freezes(s)) continue;
      scratch.read[kept] = batch.row[s];
      scratch.dlatent_row[kept] = scratch.dlatent + s * latent();
      ++kept;
    }
    grouped_outer<native_arch>(scratch.read, width(), scratch.dlatent_row, latent(), offsets, Index{1},
                               map_.packed_of(gradients->map), scratch.tasks, scratch.panels, executor);
  }

  Gradients make_gradients() const { return {map_.make_gradients(), inner_.make_gradients()}; }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor&& f) {
    map_.visit_parameters("experts.latent", gradients == nullptr ? nullptr : &gradients->map, f);
    inner_.visit_parameters(gradients == nullptr ? nullptr : &gradients->inner, f);
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor&& f) {
    map_.visit_storage("experts.latent", gradients == nullptr ? nullptr : &gradients->map, f);
    inner_.visit_storage(gradients == nullptr ? nullptr : &gradients->inner, f);
  }
  template <class Visitor>
  void visit_packed(Visitor&& f) {
    impl::visit_packed_of(inner_, f);
  }

 private:
  struct Scratch {
    const Real** source;  // [P] rows to be mapped
    const Real** read;    // [P] the mapped row of each slot
    Index* row_of;        // [P]
    Index* seen;          // [P] by token: where its row is mapped to, or -1
    Index* tasks;
    Real* latent;  // [P, r], unless on the tape
    Scratch(Arena& arena, Index slots, Index columns, bool taped)
        : source(arena.take<const Real*>(slots)),
          read(arena.take<const Real*>(slots)),
          row_of(arena.take<Index>(slots)),
          seen(arena.take<Index>(slots)),
          tasks(arena.take<Index>(task_list_size(1))),
          latent(taped ? nullptr : arena.take<Real>(checked_product("latent rows", slots, columns))) {}
  };
  struct BackwardScratch {
    const Real** read;         // [P]
    const Real** dlatent_row;  // [P]
    Index* tasks;
    Real* dlatent;  // [P, r]
    Real* panels;   // per worker
    BackwardScratch(Arena& arena, Index slots, Index columns, Index concurrency)
        : read(arena.take<const Real*>(slots)),
          dlatent_row(arena.take<const Real*>(slots)),
          tasks(arena.take<Index>(task_list_size(1))),
          dlatent(arena.take<Real>(checked_product("latent gradients", slots, columns))),
          panels(arena.take<Real>(checked_product("panels", concurrency, grouped_scratch<Real>()))) {}
  };

  /// The batch of the latent rows, which go to `to`: one for a token where slots say which is theirs, and
  /// there is room to note it.
  template <Executor X>
  RowBatch<Real> map_rows(const RowBatch<Real>& batch, const Scratch& scratch, Real* to, X& executor) const {
    const Index slots = batch.slots();
    const bool by_token = batch.tokens > 0 && batch.tokens <= slots;
    Index offsets[2] = {0, 0};
    Index& count = offsets[1];
    for (Index t = 0; by_token && t < batch.tokens; ++t) scratch.seen[t] = -1;
    for (Index s = 0; s < slots; ++s) {
      Index own = -1;
      Index& at = by_token ? scratch.seen[batch.token[s]] : own;
      if (at < 0) {
        at = count;
        scratch.source[count++] = batch.row[s];
      }
      scratch.row_of[s] = at;
      scratch.read[s] = to + at * latent();
    }
    grouped_gemm<native_arch>(
        scratch.source, offsets, Index{1}, [this](Index) noexcept { return map_.packed(); },
        [&](Index, Index first, Index m, Index j, const Real* tile) noexcept {
          const Index column = j * kPanel<Real>;
          const Index columns = (std::min)(kPanel<Real>, latent() - column);
          for (Index i = 0; i < m; ++i)
            copy_row(tile + i * kPanel<Real>, to + (first + i) * latent() + column, columns);
        },
        scratch.tasks, executor);
    RowBatch<Real> own = batch;
    own.row = scratch.read;
    if (!by_token) own.tokens = 0;
    return own;
  }

  Projection<Real> map_;  // A
  Inner inner_;
};

/// Fills `latent` with the experts of `dense`, of D columns, so that the sum of squares of what the first
/// layers lose, sum over experts of |W_e - B_e A|^2, is the least for its r: A are the r right singular
/// vectors of the largest values of all first layers' matrices, one below the other, and B_e = W_e A^T.
/// Biases and second layers stay. Returns that sum, the squares of the singular values that are left out: 0,
/// but for rounding, where the matrices together have rank r or less. In double on one thread; memory for D +
/// F rows of D doubles. Throws config_error for banks of other sizes, numeric_error for weights that are not
/// finite.
template <class Dense>
requires DenseStorage<typename Dense::StorageType>
double factor_experts(const Dense& dense, LatentBank<Dense>& latent) {
  using Real = typename Dense::Real;
  const Dense& inner = latent.inner();
  if (inner.experts() != dense.experts() || latent.width() != dense.width() ||
      inner.hidden() != dense.hidden() || inner.has_bias() != dense.has_bias()) {
    fail<config_error>("latent experts: expected ", dense.experts(), " experts ", dense.width(), " x ",
                       dense.hidden(), dense.has_bias() ? " with" : " without", " biases, got ",
                       inner.experts(), " experts ", latent.width(), " x ", inner.hidden(),
                       inner.has_bias() ? " with" : " without", " biases");
  }
  require_range("latent columns", latent.latent(), 1, dense.width());
  constexpr Index kParts = Dense::Parameters::kParts;
  const Index kinds = (kParts + 1) * (dense.has_bias() ? 2 : 1);
  const auto is_first = [&](Index at) noexcept {  // a matrix of the first layer
    const Index kind = at % kinds;
    return dense.has_bias() ? kind < 2 * kParts && kind % 2 == 0 : kind < kParts;
  };
  RightSingular singular(dense.width());
  Index at = 0;
  visit_parameters(dense, [&](const auto& p) {
    for (Index o = 0; o < p.value.rows; ++o) {
      for (Index i = 0; i < p.value.cols; ++i) {
        if (!is_finite(p.value(o, i))) {
          fail<numeric_error>(p.name, ": expected finite weights, got ", p.value(o, i));
        }
      }
    }
    if (is_first(at++)) singular.add(p.value.rows, p.value);
  });
  singular.finish();

  const Index r = latent.latent(), width = dense.width();
  Buffer<ParameterView<const Real>> from(kinds * dense.experts());
  at = 0;
  visit_parameters(dense, [&](const auto& p) { from[at++] = p.value; });
  at = 0;
  latent.inner().visit_parameters(nullptr, [&](const Parameter<Real>& p) {
    const ParameterView<const Real>& w = from[at];
    for (Index o = 0; o < p.value.rows; ++o) {
      for (Index i = 0; i < p.value.cols; ++i) {
        if (!is_first(at)) {
          p.value(o, i) = w(o, i);
          continue;
        }
        double along = 0;
        for (Index j = 0; j < width; ++j) along += static_cast<double>(w(o, j)) * singular.vector(i, j);
        p.value(o, i) = static_cast<Real>(along);
      }
    }
    ++at;
  });
  auto show = [&](const Parameter<Real>& p) {
    for (Index o = 0; o < p.value.rows; ++o) {
      for (Index i = 0; i < p.value.cols; ++i) p.value(o, i) = static_cast<Real>(singular.vector(o, i));
    }
  };
  latent.map().visit_parameters("map", nullptr, show);
  double lost = 0;
  for (Index k = r; k < width; ++k) lost += singular.value(k) * singular.value(k);
  return lost;
}

/// The inner experts', behind the same map.
template <class To, class Inner>
auto quantise(const LatentBank<Inner>& bank) {
  LatentBank made(bank.width(), quantise<To>(bank.inner()));
  made.map() = bank.map();
  return made;
}

MOE_NAMESPACE_END
