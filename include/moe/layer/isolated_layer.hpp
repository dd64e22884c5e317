// A layer for servers with several users: what could carry one request's bytes into another's result does not
// compile.
#pragma once

#include <utility>

#include "moe/layer/moe_layer.hpp"

MOE_NAMESPACE_BEGIN

/// `L` is a MoeLayer whose coupling in inference is at most per segment; coupled calls without segments throw
/// (contract C2). Refused: layers that couple the whole batch (2402.05526, 2410.22884 show the leaks).
template <class L>
class IsolatedLayer : public L {
  static_assert(
      L::coupling(false) != Coupling::per_batch,
      "moe: this layer couples tokens of different requests in inference mode (Coupling::per_batch); an "
      "IsolatedLayer needs a router, capacity policy and experts that are row_independent or per_segment");

 public:
  using L::L;
  explicit IsolatedLayer(L layer) : L(std::move(layer)) {}
};

MOE_NAMESPACE_END
