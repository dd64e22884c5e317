// A bank chosen at run time gives the bits of the static one, forward and backward.
#include "moe/expert/bank/any.hpp"

#include <string>

#include "moe/expert/bank/list.hpp"
#include "moe/expert/concept.hpp"
#include "moe/layer/frame/identity.hpp"
#include "moe/layer/shared/none.hpp"
#include "support/catch.hpp"
#include "support/everything.hpp"

using namespace test;
using Listed = moe::FromList<moe::OneBank, moe::FeedForwardBanks<float>>;

static_assert(moe::TrainableExpertBank<Listed>);

TEST_CASE("a listed bank behind OneBank", "[expert]") {
  const moe::NoShared none;
  const moe::IdentityFrame identity;
  CHECK(everything(Listed(glu(4, 1)), none, identity) == everything(glu(4, 1), none, identity));
  CHECK(everything(Listed(mlp()), none, identity) == everything(mlp(), none, identity));
  CHECK(std::string(Listed(glu(4, 1)).name()) == "glu");
}
