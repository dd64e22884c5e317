#include "moe/depth/layer_block.hpp"

#include "moe/depth/depth_layer.hpp"
#include "moe/expert/bank/glu.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/router/named/expert_choice.hpp"
#include "moe/router/named/switch.hpp"
#include "moe/router/named/top_k.hpp"
#include "support/catch.hpp"
#include "support/layer_laws.hpp"

namespace {

using moe::Index;
using Bank = moe::Glu<moe::Silu, double>;
using Inner = moe::MoeLayer<moe::SwitchRouter<double>, Bank>;
using Block = moe::LayerBlock<Inner>;
static_assert(moe::TrainableRowBlock<Block>);

Block block(Index width, std::uint64_t hidden = 3) {
  return Block(Inner(moe::switch_router<double>({.width = width, .experts = 2}),
                     Bank({.experts = 2, .width = width, .hidden = static_cast<Index>(hidden)})));
}

}  // namespace

TEST_CASE("layers of experts behind a choice of depth keep the laws of layers", "[depth][smoke]") {
  test::check_layer("two blocks", [] {
    return moe::DepthLayer<moe::SoftmaxTopK<double>, Block, Block>(
        moe::softmax_top_k<double>({.width = 4, .experts = 2, .k = 1}), block(4), block(4, 2));
  });
  test::check_layer("columns", [] {
    return moe::DepthLayer<moe::ExpertChoice<double>, Block>(
        moe::expert_choice<double>({.width = 4, .experts = 1, .capacity_factor = 0.6}), block(4));
  });
}
