// Frames and shared experts chosen at run time give the bits of the static ones, forward and backward.
#include "moe/layer/frame/any.hpp"
#include "moe/layer/frame/list.hpp"
#include "moe/layer/shared/any.hpp"

#include "moe/layer/frame/identity.hpp"
#include "moe/layer/frame/output_bias.hpp"
#include "moe/layer/frame/scaled.hpp"
#include "moe/layer/shared/none.hpp"
#include "moe/layer/shared/shared_experts.hpp"
#include "support/catch.hpp"
#include "support/everything.hpp"

using namespace test;
using AnyFrame = moe::AnyFrame<float>;
using AnyShared = moe::AnyShared<StaticGlu>;

TEST_CASE("shared experts chosen at run time", "[layer]") {
  const moe::IdentityFrame identity;
  CHECK(everything(glu(4, 1), AnyShared(), identity) == everything(glu(4, 1), moe::NoShared{}, identity));
  for (const bool gated : {false, true}) {
    using Static = moe::SharedExperts<StaticGlu>;
    CHECK(everything(glu(4, 1), AnyShared(Static(glu(1, 2), gated)), identity) ==
          everything(glu(4, 1), Static(glu(1, 2), gated), identity));
  }
  AnyShared none;
  CHECK((none.get() == nullptr && none.width() == 0));
}

TEST_CASE("frames chosen at run time", "[layer]") {
  STATIC_REQUIRE(moe::Frames<float>::kSize == 4);  // each is compared below
  const moe::NoShared none;
  CHECK(everything(glu(4, 1), none, AnyFrame(moe::IdentityFrame{})) ==
        everything(glu(4, 1), none, moe::IdentityFrame{}));
  CHECK(everything(glu(4, 1), none, AnyFrame(moe::ScaledFrame<float>(kEverythingWidth, 2))) ==
        everything(glu(4, 1), none, moe::ScaledFrame<float>(kEverythingWidth, 2)));
  CHECK(everything(glu(4, 1), none, AnyFrame(moe::OutputBias<float>(kEverythingWidth))) ==
        everything(glu(4, 1), none, moe::OutputBias<float>(kEverythingWidth)));
  CHECK(everything(glu(4, 1), none, AnyFrame(latent())) == everything(glu(4, 1), none, latent()));
}
