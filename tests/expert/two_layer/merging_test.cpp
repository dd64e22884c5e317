#include "moe/expert/two_layer/merging.hpp"

#include <vector>

#include "expert/bank_fixture.hpp"
#include "moe/expert/bank/glu.hpp"
#include "moe/expert/bank/mlp.hpp"
#include "moe/expert/bank/multi_head.hpp"
#include "support/close.hpp"
#include "support/errors.hpp"

using moe::Index;

namespace {

/// Parameters of expert e in the order in which they are shown, with the head of each.
struct Shown {
  std::vector<std::vector<double>> value;  // [E]
  std::vector<Index> head;
};

template <class Bank>
Shown shown(const Bank& bank, Index heads) {
  Shown all{std::vector<std::vector<double>>(static_cast<std::size_t>(bank.experts())), {}};
  const Index per = bank.width() / heads;
  moe::visit_parameters(bank, [&](const auto& p) {
    const bool second = test::contains(p.name, "fc2") || test::contains(p.name, "down");
    const std::string name = p.name;
    const auto e = static_cast<std::size_t>(std::stoi(name.substr(name.find('.') + 1)));
    for (Index o = 0; o < p.value.rows; ++o) {
      for (Index i = 0; i < p.value.cols; ++i) {
        all.value[e].push_back(static_cast<double>(p.value(o, i)));
        if (e == 0) all.head.push_back(heads == 1 ? 0 : (second ? o : i) / per);
      }
    }
  });
  return all;
}

template <class Bank, class Single>
void check_merge(Bank& bank, Single& one, Index heads) {
  using Real = typename Bank::Real;
  const Index experts = bank.experts();
  std::mt19937_64 random(5);
  std::vector<Real> p;
  test::fill_random(p, static_cast<std::size_t>(heads * experts), random);
  p[1] = 0;
  const Shown all = shown(bank, heads);

  std::vector<std::vector<double>> merged;
  for (const Index threads : {1, 3}) {
    moe::PoolExecutor pool(threads);
    bank.merge_into(p.data(), one, pool);
    merged.push_back(shown(one, 1).value[0]);
  }
  CHECK(test::same_bits(merged[0], merged[1]));
  Index outside = 0;
  for (std::size_t i = 0; i < merged[0].size(); ++i) {
    long double sum = 0, size = 0;
    for (Index e = 0; e < experts; ++e) {
      const long double term =
          static_cast<long double>(p[static_cast<std::size_t>(all.head[i] * experts + e)]) *
          static_cast<long double>(all.value[static_cast<std::size_t>(e)][i]);
      sum += term, size += std::fabs(term);
    }
    outside += !test::within(merged[0][i], sum, test::gamma<Real>(experts + 1) * size);
  }
  CHECK(outside == 0);

  // Backward: the bank's own parameters of the mixture stand for a gradient.
  moe::Arena measuring;
  bank.take_merged(measuring);
  bank.measure_merge_backward(measuring, 3);
  std::vector<std::vector<double>> dp, gradient;
  for (const Index threads : {1, 3}) {
    moe::PoolExecutor pool(threads);
    moe::Workspace memory;
    moe::Arena arena = memory.arena(measuring.bytes());
    const auto done = bank.take_merged(arena);
    bank.merge(p.data(), done, arena, pool);
    auto gradients = bank.make_gradients();
    std::vector<Real> d(p.size());
    bank.merge_backward(p.data(), done, d.data(), &gradients, arena, pool);
    dp.emplace_back(d.begin(), d.end());
    gradient.emplace_back();
    bank.visit_parameters(&gradients, [&](const auto& q) {
      for (Index o = 0; o < q.gradient.rows; ++o) {
        for (Index i = 0; i < q.gradient.cols; ++i) {
          gradient.back().push_back(static_cast<double>(q.gradient(o, i)));
        }
      }
    });
  }
  CHECK(test::same_bits(dp[0], dp[1]));
  CHECK(test::same_bits(gradient[0], gradient[1]));
  const std::size_t size = merged[0].size();
  for (Index h = 0; h < heads; ++h) {
    for (Index e = 0; e < experts; ++e) {
      long double sum = 0, magnitude = 0;
      for (std::size_t i = 0; i < size; ++i) {
        if (all.head[i] != h) continue;
        const long double term = static_cast<long double>(merged[0][i]) *
                                 static_cast<long double>(all.value[static_cast<std::size_t>(e)][i]);
        sum += term, magnitude += std::fabs(term);
      }
      INFO("head " << h << " expert " << e);
      CHECK(test::within(static_cast<Real>(dp[0][static_cast<std::size_t>(h * experts + e)]), sum,
                         test::gamma<Real>(static_cast<Index>(size) + 2) * magnitude));
    }
  }
  Index wrong = 0;
  for (std::size_t e = 0; e < static_cast<std::size_t>(experts); ++e) {
    for (std::size_t i = 0; i < size; ++i) {
      const Real weight = p[static_cast<std::size_t>(all.head[i] * experts) + e];
      wrong += !(gradient[0][e * size + i] == static_cast<double>(static_cast<Real>(merged[0][i]) * weight));
    }
  }
  CHECK(wrong == 0);
}

}  // namespace

TEST_CASE("merged parameters are the weighted sums of the experts', on any number of workers", "[expert]") {
  for (const Index width : {6, 70}) {
    INFO("D " << width);
    moe::Mlp<moe::Identity, double> mlp({5, width, 45, true}), one({1, width, 45, true});
    test::randomise_bank(mlp, 3);
    check_merge(mlp, one, 1);
    moe::Glu<moe::Silu, float> glu({3, width, 67}), single({1, width, 67});
    test::randomise_bank(glu, 4);
    check_merge(glu, single, 1);
  }
}

TEST_CASE("heads share the columns of input and output, wherever panels end", "[expert]") {
  using Modules = moe::MultiHead<moe::Mlp<moe::Identity, double>>;
  for (const Index heads : {1, 2, 3, 6, 36}) {
    INFO("H " << heads);
    Modules modules(moe::Mlp<moe::Identity, double>({4, 36, 40}), heads);
    test::randomise_bank(modules, 6);
    moe::Mlp<moe::Identity, double> one({1, 36, 40});
    check_merge(modules, one, heads);
  }
  moe::MultiHead<moe::Mlp<moe::Relu, float>> wide(moe::Mlp<moe::Relu, float>({3, 192, 20}),
                                                  3);  // heads of whole panels
  test::randomise_bank(wide, 7);
  moe::Mlp<moe::Relu, float> one({1, 192, 20});
  check_merge(wide, one, 3);
}

TEST_CASE("an expert whose weight is 0 is not read", "[expert]") {
  moe::Mlp<moe::Relu, double> bank({2, 3, 4}), one({1, 3, 4});
  const double nan[12] = {std::numeric_limits<double>::quiet_NaN()}, two[12] = {2, 2, 2, 2};
  bank.load(0, moe::ConstMatrixView<double>(nan, 4, 3), moe::ConstMatrixView<double>(nan, 3, 4));
  bank.load(1, moe::ConstMatrixView<double>(two, 4, 3), moe::ConstMatrixView<double>(two, 3, 4));
  const double p[] = {0, 1};
  moe::SerialExecutor serial;
  bank.merge_into(p, one, serial);
  CHECK(test::same_bits(shown(one, 1).value[0], shown(bank, 1).value[1]));
}

TEST_CASE("heads that do not divide, biases under heads and banks of other shapes are refused", "[expert]") {
  using Bank = moe::Mlp<moe::Relu, double>;
  const auto heads = [](Index n) {
    return test::message_of<moe::config_error>([n] { moe::MultiHead<Bank>(Bank({2, 6, 4}), n); });
  };
  CHECK(heads(4) == "moe: heads: expected a divisor of the width 6, got 4");
  CHECK(heads(0) == "moe: heads: expected a value in [1, 6], got 0");
  CHECK(heads(7) == "moe: heads: expected a value in [1, 6], got 7");
  CHECK(test::message_of<moe::config_error>([] {
          moe::MultiHead<Bank>(Bank({2, 6, 4, true}), 2);
        }) == "moe: experts of several heads: expected them without biases, got some with");
  const Bank bank({2, 6, 4});
  Bank other({1, 6, 5});
  const double p[] = {1, 1};
  moe::SerialExecutor serial;
  CHECK(test::message_of<moe::config_error>([&] { bank.merge_into(p, other, serial); }) ==
        "moe: merged expert: expected a bank of 1 expert 6 x 4 without biases, got 1 experts 6 x 5 without "
        "biases");
}
