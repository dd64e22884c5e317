#include "moe/layer/soft/soft_layer.hpp"

#include "moe/expert/bank/glu.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/router/soft/mixture_of_tokens.hpp"
#include "moe/router/soft/soft_moe.hpp"
#include "support/catch.hpp"
#include "support/layer_laws.hpp"

namespace {

using moe::Index;
using Bank = moe::Glu<moe::Silu, double>;

}  // namespace

TEST_CASE("Soft MoE keeps the laws of layers", "[layer]") {
  const auto make = [](Index slots) {
    return [slots] {
      return moe::SoftLayer(moe::soft_moe<double>({.width = 5, .experts = 3, .slots = slots}),
                            Bank({.experts = 3, .width = 5, .hidden = 3, .bias = true}));
    };
  };
  test::check_layer("SoftMoe", make(2), make(1));
}
