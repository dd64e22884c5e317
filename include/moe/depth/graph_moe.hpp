// GraphMoE, 2501.07890: one layer again and again, whose router is a GRU over these rounds: its state, a row
// for every token, is the virtual node that tells a round what the rounds before chose.
#pragma once

#include <utility>

#include "moe/core/check.hpp"
#include "moe/core/types.hpp"
#include "moe/depth/chain.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/router/named/rmoe.hpp"
#include "moe/router/scorer/gru_cell.hpp"

MOE_NAMESPACE_BEGIN

/// All rounds refer to the caller's router and bank, which must outlive them.
template <class Bank>
using GraphMoe = Chain<MoeLayer<RmoeRouter<typename Bank::Real, GruCell<typename Bank::Real>>&, Bank&>>;

struct GraphMoeOptions {
  Index rounds = 2;  // T
  Residual residual = Residual::none;
};

/// `router`: as rmoe_router() makes one with a cell of its own. The state before the first round is 0, or the
/// call's column `carry`; that after the last is handed on. Throws config_error for rounds < 1 and for a
/// router that does not fit the bank.
template <class Bank>
GraphMoe<Bank> graph_moe(const GraphMoeOptions& options,
                         RmoeRouter<typename Bank::Real, GruCell<typename Bank::Real>>& router, Bank& bank) {
  require_range("rounds", options.rounds, 1, INT32_MAX);
  typename GraphMoe<Bank>::Layers rounds;
  for (Index i = 0; i < options.rounds; ++i) rounds.emplace_back(router, bank);
  return GraphMoe<Bank>(std::move(rounds), options.residual);
}

MOE_NAMESPACE_END
