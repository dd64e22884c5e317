// How far each storage format is from float, in relative L2:
//   accuracy/<storage>/<gaussian|heavy_tailed>
// Weights are standard normal or follow Student's t with 4 degrees of freedom, rows are standard normal; one
// SwiGLU expert of 1024 x 512. Counters: weight_error of the rounded weights, result_error of the expert's
// results, the rounding of rows included. The time is that of rounding the weights.
#include <cmath>
#include <random>

#include "moe/expert/bank/quantise.hpp"
#include "moe/layer/forward_experts.hpp"
#include "storages.hpp"
#include "suite.hpp"

namespace bench {
namespace {

constexpr Index kWidth = 1024, kHidden = 512, kRows = 64;

struct Case {
  moe::Glu<moe::Silu> exact{{.experts = 1, .width = kWidth, .hidden = kHidden}};
  std::vector<float> x;

  explicit Case(bool heavy) : x(kRows * kWidth) {
    std::mt19937_64 random(5);
    std::normal_distribution<double> normal;
    std::student_t_distribution<double> tails(4);
    exact.visit_parameters(nullptr, [&](const moe::Parameter<float>& p) {
      const double scale = 1 / std::sqrt(static_cast<double>(p.value.cols));
      for (Index o = 0; o < p.value.rows; ++o) {
        for (Index i = 0; i < p.value.cols; ++i) {
          p.value(o, i) = static_cast<float>(scale * (heavy ? tails(random) : normal(random)));
        }
      }
    });
    for (float& v : x) v = static_cast<float>(normal(random));
  }

  template <class Bank>
  std::vector<float> results(const Bank& bank) const {
    std::vector<float> y(x.size());
    const std::vector<moe::ExpertId> ids(kRows, 0);
    const std::vector<float> ones(kRows, 1);
    moe::Workspace workspace;
    moe::forward_experts(bank, {x.data(), kRows, kWidth}, {ids.data(), kRows, 1}, {ones.data(), kRows, 1},
                         {y.data(), kRows, kWidth}, workspace);
    return y;
  }
};

double relative_error(const std::vector<float>& a, const std::vector<float>& exact) {
  double off = 0, size = 0;
  for (std::size_t i = 0; i < exact.size(); ++i) {
    const double e = static_cast<double>(exact[i]);
    off += (static_cast<double>(a[i]) - e) * (static_cast<double>(a[i]) - e);
    size += e * e;
  }
  return std::sqrt(off / size);
}

template <class Bank>
std::vector<float> weights(const Bank& bank) {
  std::vector<float> all(3 * kWidth * kHidden);
  float* const down = all.data() + 2 * kWidth * kHidden;
  bank.unpack(0, {all.data(), kHidden, kWidth}, {all.data() + kWidth * kHidden, kHidden, kWidth},
              {down, kWidth, kHidden});
  return all;
}

template <class Storage>
void accuracy(benchmark::State& state, bool heavy) {
  const Case c(heavy);
  double weight_error = 0, result_error = 0;
  for (auto _ : state) {
    const auto rounded = moe::quantise<Storage>(c.exact);
    state.PauseTiming();
    weight_error = relative_error(weights(rounded), weights(c.exact));
    result_error = relative_error(c.results(rounded), c.results(c.exact));
    state.ResumeTiming();
  }
  state.counters["weight_error"] = weight_error;
  state.counters["result_error"] = result_error;
}

template <class Storage>
void add_storage() {
  for (const bool heavy : {false, true}) {
    add(std::string("accuracy/") + StorageInfo<Storage>::kName + (heavy ? "/heavy_tailed" : "/gaussian"),
        [heavy](benchmark::State& state) { accuracy<Storage>(state, heavy); })
        ->Iterations(1);
  }
}

}  // namespace

void add_accuracy() {
  add_storage<moe::BFloat16>();
  add_storage<moe::Int8Groups<>>();
  add_storage<moe::Int4Groups<>>();
  add_storage<moe::Int8Channels>();
  add_storage<moe::Q4K>();
  add_storage<moe::Q6K>();
}

}  // namespace bench
