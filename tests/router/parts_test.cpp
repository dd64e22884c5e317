// Cases of the sweeps (support/router_cases.hpp) for every part of the lists, in routers composed at run
// time: a new part is swept once it is listed. What its default options do not give stands in
// support/sample_parts.hpp.
#include <type_traits>

#include "moe/router/balance/list.hpp"
#include "moe/router/runtime/token_choice_options.hpp"
#include "moe/router/score/list.hpp"
#include "moe/router/scorer/list.hpp"
#include "moe/router/selection/list.hpp"
#include "moe/router/weighting/list.hpp"
#include "support/catch.hpp"
#include "support/router_cases.hpp"
#include "support/sample_parts.hpp"

namespace {

using test::kSampleOutputs;

moe::TokenChoiceOptions base() {
  return {.width = 5, .outputs = kSampleOutputs, .k = 3};
}
auto built(const moe::TokenChoiceOptions& options) {
  return moe::token_choice_router<double>(options);
}

const bool kScorers =
    test::add_part_cases(moe::Scorers<double>{},
                         []<class Part> {
                           auto options = base();
                           options.scorer = test::sample_scorer_options<Part>();
                           auto router = built(options);
                           router.scorer().inner().inner().inner().initialise(3);  // state as well
                           return router;
                         },
                         {.ties = false});  // biases choose among rows of zeros
const bool kMaps = test::add_part_cases(moe::LogitMaps{}, []<class Part> {
  auto options = base();
  options.map = test::sample_part<Part>();
  return built(options);
});
const bool kScores = test::add_part_cases(moe::Scores{},
                                          []<class Part> {
                                            auto options = base();
                                            options.score = test::sample_part<Part>();
                                            return built(options);
                                          },
                                          {.ties = false});  // scores of 0 or less may choose nobody
const bool kSelections = test::add_part_cases(moe::Selections{},
                                              []<class Part> {
                                                auto options = base();
                                                options.selection = test::sample_part<Part>();
                                                if (std::is_same_v<Part, moe::PositiveSelection>)
                                                  options.score = moe::ReluScore{};
                                                return built(options);
                                              },
                                              {.ties = false});
const bool kWeightings = test::add_part_cases(
    moe::Weightings{},
    []<class Part> {
      auto options = base();
      options.weighting = test::sample_part<Part>();
      if (std::is_same_v<Part, moe::SparseMixerWeighting> || std::is_same_v<Part, moe::GrinWeighting>)
        options.score = moe::IdentityScore{};
      if (std::is_same_v<Part, moe::RandomSecondWeighting>) options.k = 2;
      return built(options);
    },
    {.step = 1e-4});  // the sparse mixer's threshold is near
const bool kBalance = test::add_part_cases(moe::BalanceParts{},
                                           []<class Part> {
                                             auto options = base();
                                             options.balance.set(test::sample_part<Part>());
                                             if (std::is_same_v<Part, moe::LoadLoss>)
                                               options.scorer = moe::NoisyScorerOptions{};
                                             return built(options);
                                           },
                                           {.step = 1e-4});  // the next rank of a probability is near

}  // namespace

TEST_CASE("every part of every list has a router in the sweeps", "[router]") {
  test::check_parts_have_cases(moe::Scorers<double>{});
  test::check_parts_have_cases(moe::LogitMaps{});
  test::check_parts_have_cases(moe::Scores{});
  test::check_parts_have_cases(moe::Selections{});
  test::check_parts_have_cases(moe::SetSelections{});
  test::check_parts_have_cases(moe::Weightings{});
  test::check_parts_have_cases(moe::BalanceParts{});
}
