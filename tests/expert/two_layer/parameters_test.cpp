#include "moe/expert/two_layer/parameters.hpp"

#include <set>
#include <string>
#include <vector>

#include "expert/bank_fixture.hpp"
#include "support/errors.hpp"

using moe::Index;
using moe::TwoLayerOptions;

namespace {

template <class Real>
using GluWeights = moe::TwoLayerParameters<moe::GluLayout, Real>;
using MlpWeights = moe::TwoLayerParameters<moe::MlpLayout, double>;

struct Seen {
  std::string name;
  Index rows, cols;
  bool operator==(const Seen&) const = default;
};

template <class W>
std::vector<Seen> names_of(W& weights, Index first_id) {
  std::vector<Seen> all;
  weights.visit_parameters(
      nullptr,
      [&](const auto& p) {
        all.push_back({p.name, p.value.rows, p.value.cols});
      },
      first_id);
  return all;
}

template <class W>
std::vector<double> initialised(Index experts, std::uint64_t seed, Index threads) {
  W weights(TwoLayerOptions{experts, 5, 19, true});
  moe::PoolExecutor pool(threads);
  weights.initialise(seed, pool);
  std::vector<double> all;
  weights.visit_parameters(
      nullptr,
      [&](const auto& p) {
        for (Index o = 0; o < p.value.rows; ++o) {
          for (Index i = 0; i < p.value.cols; ++i) all.push_back(static_cast<double>(p.value(o, i)));
        }
      },
      0);
  return all;
}

}  // namespace

TEST_CASE("parameters have published names and shapes", "[expert]") {
  GluWeights<double> glu(TwoLayerOptions{2, 5, 19, true});
  CHECK(names_of(glu, 8) == std::vector<Seen>{{"experts.8.gate_proj.weight", 19, 5},
                                              {"experts.8.gate_proj.bias", 19, 1},
                                              {"experts.8.up_proj.weight", 19, 5},
                                              {"experts.8.up_proj.bias", 19, 1},
                                              {"experts.8.down_proj.weight", 5, 19},
                                              {"experts.8.down_proj.bias", 5, 1},
                                              {"experts.9.gate_proj.weight", 19, 5},
                                              {"experts.9.gate_proj.bias", 19, 1},
                                              {"experts.9.up_proj.weight", 19, 5},
                                              {"experts.9.up_proj.bias", 19, 1},
                                              {"experts.9.down_proj.weight", 5, 19},
                                              {"experts.9.down_proj.bias", 5, 1}});
  MlpWeights mlp(TwoLayerOptions{1, 5, 19});
  CHECK(names_of(mlp, 0) ==
        std::vector<Seen>{{"experts.0.fc1.weight", 19, 5}, {"experts.0.fc2.weight", 5, 19}});
}

TEST_CASE("every element of every view has its own place in the flat ranges", "[expert]") {
  GluWeights<double> weights(TwoLayerOptions{3, 17, 33, true});
  GluWeights<double> gradients(weights.shape());
  std::set<const double*> places;
  std::size_t elements = 0;
  weights.visit_parameters(
      &gradients,
      [&](const moe::Parameter<double>& p) {
        for (Index o = 0; o < p.value.rows; ++o) {
          for (Index i = 0; i < p.value.cols; ++i) {
            places.insert(&p.value(o, i));
            places.insert(&p.gradient(o, i));
            elements += 2;
          }
        }
      },
      0);
  CHECK(places.size() == elements);
  CHECK(elements == 2 * 3 * (3 * 17 * 33 + 2 * 33 + 17));

  std::vector<std::string> names;
  Index size = 0;
  weights.visit_storage(&gradients, [&](const char* name, double* values, double* g, Index n) {
    names.push_back(name);
    size += n;
    for (Index i = 0; i < n; ++i) elements -= places.erase(values + i) + places.erase(g + i);
  });
  CHECK(elements == 0);
  CHECK(names == std::vector<std::string>{"experts.gate_up", "experts.down", "experts.gate_up.bias",
                                          "experts.down.bias"});
  CHECK(weights.bytes() == size * Index{sizeof(double)});
  weights.visit_storage(nullptr, [](const char*, double*, double* g, Index) { CHECK(g == nullptr); });
}

TEST_CASE("views copy in and out of the packed order", "[expert]") {
  GluWeights<float> weights(TwoLayerOptions{2, 18, 35, true});
  std::mt19937_64 random(3);
  weights.visit_parameters(
      nullptr,
      [&](const moe::Parameter<float>& p) {
        std::vector<float> in, out(static_cast<std::size_t>(p.value.size()));
        test::fill_random(in, out.size(), random);
        p.value.assign({in.data(), p.value.rows, p.value.cols});
        p.value.copy_to({out.data(), p.value.rows, p.value.cols});
        CHECK(test::same_bits(in, out));
      },
      0);
  // The same elements as unpacking the panels gives.
  std::vector<float> panel(35 * 18), view(35 * 18);
  for (Index part = 0; part < 2; ++part) {
    moe::unpack_half(weights.first(1), part, {panel.data(), 35, 18});
    weights.first_view(1, part).copy_to({view.data(), 35, 18});
    CHECK(test::same_bits(panel, view));
  }
  moe::unpack_plain(weights.second(1), {panel.data(), 18, 35});
  weights.second_view(1).copy_to({view.data(), 18, 35});
  CHECK(test::same_bits(panel, view));
}

TEST_CASE("initialise depends on seed, matrix, expert and place alone", "[expert]") {
  const std::vector<double> once = initialised<GluWeights<double>>(3, 11, 1);
  CHECK(once == initialised<GluWeights<double>>(3, 11, 3));
  CHECK(once != initialised<GluWeights<double>>(3, 12, 1));
  // One expert more does not change the others.
  std::vector<double> fewer = initialised<GluWeights<double>>(2, 11, 1);
  CHECK(fewer == std::vector<double>(once.begin(), once.begin() + static_cast<std::ptrdiff_t>(fewer.size())));
  // float is packed differently.
  const std::vector<double> narrow = initialised<GluWeights<float>>(3, 11, 1);
  REQUIRE(narrow.size() == once.size());
  Index different = 0;
  for (std::size_t i = 0; i < once.size(); ++i)
    different += narrow[i] != static_cast<double>(static_cast<float>(once[i]));
  CHECK(different == 0);

  GluWeights<double> weights(TwoLayerOptions{2, 16, 400, true});
  moe::SerialExecutor serial;
  weights.initialise(5, serial);
  std::set<double> drawn;
  std::size_t elements = 0;
  weights.visit_parameters(
      nullptr,
      [&](const moe::Parameter<double>& p) {
        const bool bias = p.value.cols == 1;
        const double bound = 1 / std::sqrt(static_cast<double>(p.value.cols));
        double lowest = 0, highest = 0;
        for (Index i = 0; i < p.value.size(); ++i) {
          const double v = p.value(i / p.value.cols, i % p.value.cols);
          lowest = std::min(lowest, v);
          highest = std::max(highest, v);
          if (bias) continue;
          drawn.insert(v / bound);
          ++elements;
        }
        INFO(p.name);
        CHECK(highest <= (bias ? 0 : bound));
        CHECK(lowest >= (bias ? 0 : -bound));
        // 6400 draws: the chance to miss the outer hundredth on one side is below 1e-13.
        CHECK((bias || (highest > 0.98 * bound && lowest < -0.98 * bound)));
      },
      0);
  CHECK(drawn.size() == elements);  // no two matrices or experts share a stream
}

TEST_CASE("extents out of range are refused by name", "[expert]") {
  const auto message = [](Index experts, Index width, Index hidden) {
    const std::string config = test::message_of<moe::config_error>([&] {
      GluWeights<float> weights(TwoLayerOptions{experts, width, hidden});
    });
    return config;
  };
  CHECK(test::contains(message(0, 4, 4), "experts"));
  CHECK(test::contains(message(-1, 4, 4), "experts"));
  CHECK(test::contains(message(Index{1} << 31, 4, 4), "experts"));
  CHECK(test::contains(message(1, 0, 4), "width"));
  CHECK(test::contains(message(1, -5, 4), "width"));
  CHECK(test::contains(message(1, 4, 0), "hidden"));
  CHECK(test::contains(message(1, 4, -1), "hidden"));
  const auto overflow = [](Index experts, Index width, Index hidden) {
    return test::message_of<moe::size_error>([&] {
      MlpWeights weights(TwoLayerOptions{experts, width, hidden, true});
    });
  };
  const Index huge = std::numeric_limits<Index>::max();
  CHECK(test::contains(overflow(1, huge, 1), "experts x width x hidden"));
  CHECK(test::contains(overflow(1, 1, huge), "experts x width x hidden"));
  CHECK(test::contains(overflow(1 << 30, 1 << 30, 1 << 30), "experts x width x hidden"));
}
