// From logits, rows by slots of a group, to the weights of both sides of a mixing, and back.
#pragma once

#include <algorithm>
#include <cstdint>

#include "moe/core/executor.hpp"
#include "moe/core/types.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/panel.hpp"
#include "moe/kernel/row.hpp"
#include "moe/kernel/softmax.hpp"
#include "moe/plan/mix_table.hpp"
#include "moe/product/row_mix.hpp"
#include "moe/router/soft/concept.hpp"

MOE_NAMESPACE_BEGIN

/// What the weights are softmaxes of, a slot's logits over the rows of its group or a row's over its slots.
enum class MixWeights : std::uint8_t {
  rows_and_slots,  // dispatch over rows, combine over slots
  rows,            // over rows: what mixed into a slot comes back by the same weights
  slots,           // over slots, both ways
};

namespace impl {

inline bool over_rows(MixWeights weights) noexcept {
  return weights != MixWeights::slots;
}
inline bool over_slots(MixWeights weights) noexcept {
  return weights != MixWeights::rows;
}

/// f(group, first, last) for places of a group's rows, by blocks that a worker takes at once; and of slots.
template <class Real, Executor X, class F>
void each_run_of_rows(const MixTable<Real>& table, X& executor, const F& f) {
  each_run_of_rows<kHalf<Real>>(table.offsets, table.groups, executor, f);
}
template <class Real, Executor X, class F>
void each_run_of_slots(const MixTable<Real>& table, X& executor, const F& f) {
  Index blocks = 0;
  for (Index g = 0; g < table.groups; ++g) {
    blocks = (std::max)(blocks, ceil_div(table.slots(g), kHalf<Real>));
  }
  executor.parallel_for(table.groups * blocks, [&](Index i, Index) noexcept {
    const Index g = i / blocks, first = i % blocks * kHalf<Real>;
    f(g, first, (std::min)(first + kHalf<Real>, table.slots(g)));
  });
}

/// `table.combine` holds the logits of every row, none of them NaN or +inf and one finite: both sides become
/// weights.
template <class Real, Executor X>
void mix_softmax(const MixTable<Real>& table, MixWeights weights, X& executor) {
  if (over_rows(weights)) {
    each_run_of_slots(table, executor, [&](Index g, Index first, Index last) noexcept {
      const Index rows = table.rows(g);
      for (Index r = 0; r < rows; ++r) {
        const Real* const from = table.combine_row(table.combine, g, r);
        for (Index s = first; s < last; ++s) table.dispatch_row(table.dispatch, g, s)[r] = from[s];
      }
      for (Index s = first; s < last; ++s) {
        Real* const p = table.dispatch_row(table.dispatch, g, s);
        if (any_above_neg_inf(p, rows)) {
          moe::softmax_row(p, p, rows);
        } else {
          moe::fill_row(Real{0}, p, rows);  // a slot that is masked for all of its rows
        }
      }
    });
  }
  each_run_of_rows(table, executor, [&](Index g, Index first, Index last) noexcept {
    for (Index r = first; over_slots(weights) && r < last; ++r) {
      Real* const p = table.combine_row(table.combine, g, r);
      moe::softmax_row(p, p, table.slots(g));
    }
    for (Index s = 0; weights != MixWeights::rows_and_slots && s < table.slots(g); ++s) {
      Real* const d = table.dispatch_row(table.dispatch, g, s);
      for (Index r = first; r < last; ++r) {
        Real& c = table.combine_row(table.combine, g, r)[s];
        over_rows(weights) ? c = d[r] : d[r] = c;
      }
    }
  });
}

/// dlogit_of(group, place) [slots of the group] = the gradient of a row's logits, overwritten. `scratch` is
/// as long as the table's dispatch; `out` is overwritten.
template <class Real, class LogitOf, Executor X>
void mix_softmax_backward(const MixTable<Real>& table, MixWeights weights, const MixGradients<Real>& out,
                          const LogitOf& dlogit_of, Real* scratch, X& executor) {
  if (weights == MixWeights::rows) {
    each_run_of_rows(table, executor, [&](Index g, Index first, Index last) noexcept {
      for (Index s = 0; s < table.slots(g); ++s) {
        Real* const to = table.dispatch_row(out.dispatch, g, s);
        for (Index r = first; r < last; ++r) to[r] += table.combine_row(out.combine, g, r)[s];
      }
    });
  }
  if (over_rows(weights)) {
    each_run_of_slots(table, executor, [&](Index g, Index first, Index last) noexcept {
      for (Index s = first; s < last; ++s) {
        Real* const to = table.dispatch_row(scratch, g, s);
        moe::fill_row(Real{0}, to, table.rows(g));
        moe::softmax_backward_row(table.dispatch_row(table.dispatch, g, s),
                                  table.dispatch_row(out.dispatch, g, s), to, table.rows(g));
      }
    });
  }
  each_run_of_rows(table, executor, [&](Index g, Index first, Index last) noexcept {
    const Index slots = table.slots(g);
    for (Index r = first; r < last; ++r) moe::fill_row(Real{0}, dlogit_of(g, r), slots);
    for (Index s = 0; s < slots; ++s) {
      const Real* const from = table.dispatch_row(over_rows(weights) ? scratch : out.dispatch, g, s);
      for (Index r = first; r < last; ++r) {
        (over_rows(weights) ? dlogit_of(g, r) : table.combine_row(out.combine, g, r))[s] += from[r];
      }
    }
    for (Index r = first; over_slots(weights) && r < last; ++r) {
      moe::softmax_backward_row(table.combine_row(table.combine, g, r), table.combine_row(out.combine, g, r),
                                dlogit_of(g, r), slots);
    }
  });
}

}  // namespace impl

MOE_NAMESPACE_END
