// What the contract C7 tests compile once per instruction set; MOE_ABI_ENTRY names the function of this copy.
#include <cmath>

#include "moe/moe.hpp"

double MOE_ABI_ENTRY();

namespace {

using moe::Index;
constexpr Index kTokens = 9, kWidth = 21, kHidden = 13, kExperts = 3;

// Plain arrays: a std::vector<float> would be this file's own weak symbol, not the library's.
struct Rows {
  float value[kTokens * kWidth];
};

double silu(double x) {
  return x / (1 + std::exp(-x));
}

/// Row t of y as plain loops in double, by the weights that the layer shows.
template <class Layer>
void plain(Layer& layer, const Rows& x, const moe::RouteTable<float>& routes, Index t, double* y) {
  for (Index j = 0; j < kWidth; ++j) y[j] = 0;
  for (Index p = routes.offsets[t]; p < routes.offsets[t + 1]; ++p) {
    double gate[kHidden], up[kHidden];
    Index matrix = 0;  // gate, up, down of each expert in turn
    auto visit = [&](const moe::Parameter<float>& w) {
      const Index e = matrix / 3, kind = matrix % 3;
      ++matrix;
      if (e != routes.expert[p]) return;
      for (Index o = 0; o < w.value.rows; ++o) {
        double sum = 0;
        for (Index i = 0; i < w.value.cols; ++i) {
          const double in = kind == 2 ? silu(gate[i]) * up[i] : static_cast<double>(x.value[t * kWidth + i]);
          sum += static_cast<double>(w.value(o, i)) * in;
        }
        if (kind == 2) {
          y[o] += static_cast<double>(routes.weight[p]) * sum;
        } else {
          (kind == 0 ? gate : up)[o] = sum;
        }
      }
    };
    layer.experts().visit_parameters(nullptr, visit);
  }
}

}  // namespace

// Largest |error| of a layer's y, as a multiple of a bound: some (D + F + 40) roundings of numbers below 1,
// squared for the gate. Not a number if an exception does not come out as the type it was thrown as.
double MOE_ABI_ENTRY() {
  auto router = moe::softmax_top_k<float>({.width = kWidth, .experts = kExperts, .k = 2});
  router.scorer().initialise(1);
  moe::Glu<moe::Silu> experts({.experts = kExperts, .width = kWidth, .hidden = kHidden});
  experts.initialise(2);
  moe::MoeLayer layer(std::move(router), std::move(experts));
  using Layer = decltype(layer);

  Rows x, y, dx;
  for (Index i = 0; i < kTokens * kWidth; ++i) x.value[i] = static_cast<float>((i * 7919) % 101 - 50) / 64.0f;
  const moe::ConstMatrixView<float> in(x.value, kTokens, kWidth);
  moe::RouteStats stats;
  moe::LayerOutput<float> out(moe::MatrixView<float>(y.value, kTokens, kWidth), &stats);
  moe::Workspace workspace;
  moe::PoolExecutor pool(2);
  Layer::Tape tape;
  layer.forward_train(in, out, tape, workspace, pool);
  Layer::Gradients gradients = layer.make_gradients();
  Layer::LayerGradients back(in, moe::MatrixView<float>(dx.value, kTokens, kWidth), gradients);
  layer.backward(tape, back, workspace, pool);
  layer.forward(in, out, workspace);

  double worst = 0;
  const double bound = (kWidth + kHidden + 40) * 4 * 0x1p-24;
  for (Index t = 0; t < kTokens; ++t) {
    double want[kWidth];
    plain(layer, x, tape.routes(), t, want);
    for (Index j = 0; j < kWidth; ++j) {
      const double error = std::fabs(static_cast<double>(y.value[t * kWidth + j]) - want[j]) / bound;
      if (!(error <= worst)) worst = error;
    }
  }
  try {
    layer.forward(moe::ConstMatrixView<float>(x.value, kTokens, kWidth - 1), out, workspace);
    return std::nan("");
  } catch (const moe::shape_error&) {
  }
  return worst;
}
