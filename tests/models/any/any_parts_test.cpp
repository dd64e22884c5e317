// Banks of released models, chosen at run time, give the bits of the static ones, forward and backward.
#include "moe/models/any/any_parts.hpp"

#include "moe/expert/bank/composite.hpp"
#include "moe/layer/frame/identity.hpp"
#include "moe/layer/shared/none.hpp"
#include "support/catch.hpp"
#include "support/everything.hpp"

using namespace moe::models;
using namespace test;

TEST_CASE("banks chosen at run time", "[models]") {
  const moe::NoShared none;
  const moe::IdentityFrame identity;
  CHECK(everything(AnyBank<float>(FeedForward<float>(glu(4, 1))), none, identity) ==
        everything(glu(4, 1), none, identity));
  CHECK(everything(AnyBank<float>(FeedForward<float>(mlp())), none, identity) ==
        everything(mlp(), none, identity));
  using Erased = moe::Composite<FeedForward<float>, Cheap>;
  using Static = moe::Composite<StaticGlu, Cheap>;
  CHECK(everything(AnyBank<float>(Erased(FeedForward<float>(glu(3, 1)), cheap())), none, identity) ==
        everything(Static(glu(3, 1), cheap()), none, identity));
  FeedForward<float> bank = glu(2, 1);
  CHECK(bank.get_if<StaticGlu>() != nullptr);
  CHECK(bank.get_if<StaticMlp>() == nullptr);
}
