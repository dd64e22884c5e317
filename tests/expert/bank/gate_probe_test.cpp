#include "moe/expert/bank/gate_probe.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "expert/bank_fixture.hpp"
#include "moe/kernel/activation.hpp"

using moe::Index;

TEST_CASE("gates of listed rows, their lengths, and gradients of the gate projections alone", "[expert]") {
  using Bank = moe::Glu<moe::Silu, double>;
  for (const Index hidden : {3, 19}) {
    Bank bank({.experts = 2, .width = 6, .hidden = hidden, .bias = true});
    test::randomise_bank(bank, 1);
    const moe::GateProbe probe(bank);
    const Index tokens = 3, d = 6;
    const std::vector<std::int32_t> rows{0, 2};
    std::vector<double> x;
    std::mt19937_64 random(2);
    test::fill_random(x, static_cast<std::size_t>(tokens * d), random);
    x[7] = std::numeric_limits<double>::quiet_NaN();  // row 1 is not listed
    for (Index j = 0; j < d; ++j) x[static_cast<std::size_t>(2 * d + j)] = 0;
    moe::Arena measuring;
    const auto carve = [&](moe::Arena& arena) {
      return std::pair{probe.carve_probes(arena, tokens), probe.carve_probes(arena, tokens)};
    };
    carve(measuring);
    const Index mark = measuring.mark();
    probe.measure_probe(measuring, tokens, 2);
    measuring.rewind(mark);
    probe.measure_probe_backward(measuring, tokens, 2);
    std::vector<std::byte> memory(static_cast<std::size_t>(measuring.bytes()));
    moe::Arena arena(memory.data(), measuring.bytes());
    const auto [probes, dprobes] = carve(arena);
    const Index kept = arena.mark();
    moe::PoolExecutor pool(2);
    const moe::ProbeRows<double> in{moe::ConstMatrixView<double>(x.data(), tokens, d), rows.data(), 2};
    probe.probe(in, probes, arena, pool);
    arena.rewind(kept);

    std::vector<std::vector<double>> w(2);
    bank.visit_parameters(nullptr, [&](const moe::Parameter<double>& p) {
      const std::string name = p.name;
      if (name.find("gate_proj.weight") == std::string::npos) return;
      for (Index i = 0; i < p.value.size(); ++i) w[name[8] == '0' ? 0 : 1].push_back(p.value(i / d, i % d));
    });
    for (Index e = 0; e < 2; ++e) {
      double squares = 0;
      for (Index f = 0; f < hidden; ++f) {
        double v = 0;
        for (Index j = 0; j < d; ++j)
          v += w[static_cast<std::size_t>(e)][static_cast<std::size_t>(f * d + j)] *
               x[static_cast<std::size_t>(j)];
        CHECK(std::abs(probes.of(0, e)[f] - v) <= 1e-14);
        squares += v * v;
      }
      CHECK(std::abs(probes.response(0, e) - std::sqrt(squares)) <= 1e-14);
      CHECK(probes.response(1, e) == 0);
      CHECK(probes.response(2, e) == 0);  // a row of zeros
    }
    moe::fill_row(0.0, dprobes.data, dprobes.size);
    for (Index t = 0; t < tokens; ++t) dprobes.response(t, 0) = 1, dprobes.response(t, 1) = -2;
    std::vector<double> dx(x.size(), 1);
    Bank::Gradients gradients = bank.make_gradients();
    probe.probe_backward(in, {}, probes, dprobes, moe::MatrixView<double>(dx.data(), tokens, d), &gradients,
                         arena, pool);
    for (Index j = 0; j < d; ++j) {
      double want = 1;
      for (std::size_t e = 0; e < 2; ++e) {
        for (Index f = 0; f < hidden; ++f)
          want += (e == 0 ? 1 : -2) * probes.of(0, static_cast<Index>(e))[f] /
                  probes.response(0, static_cast<Index>(e)) * w[e][static_cast<std::size_t>(f * d + j)];
      }
      CHECK(std::abs(dx[static_cast<std::size_t>(j)] - want) <= 1e-13);
      CHECK(dx[static_cast<std::size_t>(d + j)] == 1);
      CHECK(dx[static_cast<std::size_t>(2 * d + j)] == 1);
    }
    bank.visit_parameters(&gradients, [&, probes = probes](const moe::Parameter<double>& p) {
      const std::string name = p.name;
      const Index e = name[8] == '0' ? 0 : 1;
      for (Index i = 0; i < p.value.size(); ++i) {
        const Index o = i / p.value.cols, c = i % p.value.cols;
        const double want = name.find("gate_proj.weight") == std::string::npos
                                ? 0
                                : (e == 0 ? 1 : -2) * probes.of(0, e)[o] / probes.response(0, e) *
                                      x[static_cast<std::size_t>(c)];
        CHECK(std::abs(p.gradient(o, c) - want) <= 1e-14);
      }
    });
  }
}
