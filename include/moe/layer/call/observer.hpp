// Who looks into a call: one virtual function per layer call, after stage 5.
#pragma once

#include "moe/core/view.hpp"
#include "moe/core/workspace.hpp"
#include "moe/plan/dispatch_plan.hpp"
#include "moe/plan/route_table.hpp"

MOE_NAMESPACE_BEGIN

/// One call between stage 5 and what comes after it (frame, shared experts). Valid while see() runs.
template <class Real>
struct CallView {
  const RouteTable<Real>& table;
  const DispatchPlan<Real>& plan;
  ConstMatrixView<Real>
      logit;  // [T, outputs of the router], empty unless the router is Observable; rows that
  ConstMatrixView<Real> score;          // take no part hold anything
  ConstMatrixView<Real> x;              // [T, D] rows the experts read, inside the frame
  const Real* const* result = nullptr;  // [P] by slot, unweighted; null for a result of zero
  ConstMatrixView<Real> y;              // [T, D] their weighted sum, inside the frame
};

/// Set as LayerOutput::observer. It lends the call memory for logits and scores, which grows at first and is
/// then reused: an observer serves one call at a time.
template <class Real>
struct Observer {
  Observer() = default;
  Observer(const Observer&) = delete;
  Observer& operator=(const Observer&) = delete;
  virtual ~Observer() = default;

  /// An exception leaves the call; y is then half done.
  virtual void see(const CallView<Real>& call) = 0;

  Workspace memory;
};

MOE_NAMESPACE_END
