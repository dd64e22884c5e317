#include "moe/expert/bank/memory.hpp"

#include <Eigen/Core>
#include <cmath>

#include "moe/expert/bank/composite.hpp"
#include "moe/expert/bank/glu.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/router/named/top_k.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"

namespace {

using moe::Index;
using Rows = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Memory = moe::MemoryExpert<double>;
using Bank = moe::Composite<moe::Glu<moe::Silu, double>, Memory>;
static_assert(moe::TrainableExpertBank<Memory> && Bank::kRemembers && Bank::kFreezesPairs);
static_assert(!moe::impl::kRemembers<moe::Glu<moe::Silu>>);
constexpr Index kWidth = 4;

Bank bank_of(Index experts) {
  moe::Glu<moe::Silu, double> ffn({.experts = experts, .width = kWidth, .hidden = 3});
  ffn.initialise(2);
  return Bank(std::move(ffn), Memory(kWidth));
}

}  // namespace

TEST_CASE("memory expert: results are the rows themselves, gradients weight * dy", "[bank]") {
  const Memory bank(3);
  CHECK((bank.experts() == 1 && bank.width() == 3));
  const Rows memory = Rows::Random(5, 3), x = Rows::Random(2, 3), dy = Rows::Random(2, 3);
  const std::int32_t token[] = {1, 4};
  const Index offsets[] = {0, 2};
  const double *rows[] = {x.data(), x.data() + 3}, *dys[] = {dy.data(), dy.data() + 3}, *result[2] = {};
  moe::RowBatch<double> batch{rows, token, offsets, 1, 0};
  const moe::ConstMatrixView<double> view(memory);
  batch.memory = &view;
  moe::Arena none;
  moe::SerialExecutor serial;
  bank.forward(batch, {nullptr, 3, result}, none, serial);
  CHECK((result[0] == memory.row(1).data() && result[1] == memory.row(4).data()));

  const double weight[] = {0.5, -2};
  double dweight[2] = {};
  Rows dmemory = Rows::Constant(5, 3, 1), dx(2, 3);
  const double* dx_row[] = {dx.data(), dx.data() + 3};
  const moe::MatrixView<double> dmemory_view(dmemory);
  moe::RowGradients<double> back{dys, weight, dweight, {dx.data(), 3, dx_row}};
  back.dmemory = &dmemory_view;
  bank.backward(batch, {}, back, nullptr, none, serial);
  CHECK((dx_row[0] == nullptr && dx_row[1] == nullptr));
  for (Index s = 0; s < 2; ++s) {
    CHECK(dweight[s] == Approx(dy.row(s).dot(memory.row(token[s]))));
    CHECK((dmemory.row(token[s]) - dy.row(s) * weight[s] - Rows::Constant(1, 3, 1)).norm() < 1e-15);
  }
  CHECK((dmemory.row(0).array() == 1).all());

  batch.memory = nullptr;  // nothing to remember
  bank.forward(batch, {nullptr, 3, result}, none, serial);
  CHECK((result[0] == nullptr && result[1] == nullptr));
  bank.backward(batch, {}, back, nullptr, none, serial);
  CHECK((dweight[0] == 0 && dweight[1] == 0));
  CHECK_THROWS_AS(Memory(0), moe::config_error);
}

TEST_CASE("a layer whose experts remember hands its y on, also under a router that reads no memory",
          "[bank]") {
  auto router = moe::softmax_top_k<double>({.width = kWidth, .experts = 3, .k = 3});
  router.scorer().initialise(1, 3);
  router.set_non_finite(moe::NonFinite::isolate_row);
  const moe::MoeLayer layer(std::move(router), bank_of(2));
  using Layer = std::remove_const_t<decltype(layer)>;
  CHECK(layer.carry_width() == kWidth);
  Rows x = Rows::Random(5, kWidth), y(5, kWidth), handed(5, kWidth), dx(5, kWidth), dcarry(5, kWidth);
  Rows carry = Rows::Random(5, kWidth);
  const Rows dy = Rows::Random(5, kWidth), dhanded = Rows::Random(5, kWidth);
  x(3, 0) = std::nan("");
  moe::Workspace workspace;
  auto tape = layer.make_tape();
  const auto forward = [&] {
    moe::LayerInput<double> in(x);
    in.carry = carry;
    moe::LayerOutput<double> out(y);
    out.carry = handed;
    layer.forward_train(in, out, tape, workspace);
  };
  forward();
  for (Index t = 0; t < 5; ++t)
    CHECK((handed.row(t).array() == (t == 3 ? 0 * handed : y).row(t).array()).all());
  CHECK(std::isnan(y(3, 0)));
  auto gradients = layer.make_gradients();
  Layer::LayerGradients back(dy, dx, gradients);
  back.dcarry_out = dhanded, back.dcarry = dcarry;
  layer.backward(tape, back, workspace);
  const Rows both = dy + dhanded, dx_both = dx, dcarry_both = dcarry;
  Layer::LayerGradients summed(both, dx, gradients);
  summed.dcarry = dcarry;
  layer.backward(tape, summed, workspace);
  CHECK((dx_both.array() == dx.array()).all());
  CHECK((dcarry_both.array() == dcarry.array()).all());
  CHECK((dcarry.row(3).array() == 0).all());
  const auto loss = [&] {
    forward();
    double sum = 0;
    for (Index t = 0; t < 5; ++t) sum += t == 3 ? 0 : both.row(t).dot(y.row(t));
    return sum;
  };
  for (Index t = 0; t < 5; ++t) {
    for (Index j = 0; t != 3 && j < kWidth; ++j) {  // linear in the memory
      const double held = carry(t, j);
      carry(t, j) = held + 0.5;
      const double up = loss();
      carry(t, j) = held - 0.5;
      CHECK(dcarry(t, j) == Approx(up - loss()).epsilon(1e-10));
      carry(t, j) = held;
    }
  }
}

TEST_CASE("experts that remember: what does not fit is refused", "[bank]") {
  auto router = moe::softmax_top_k<double>({.width = kWidth, .experts = 3, .k = 2});
  auto on_input = router;
  on_input.set_weight_place(moe::WeightPlace::input);
  CHECK_THROWS_AS(moe::MoeLayer(on_input, bank_of(2)), moe::config_error);
  const moe::MoeLayer layer(router, bank_of(2));
  Rows x = Rows::Random(5, kWidth), y = Rows::Constant(5, kWidth, 8), wide(5, kWidth + 1), handed = y;
  moe::Workspace workspace;
  moe::LayerInput<double> in(x);
  moe::LayerOutput<double> out(y);
  in.carry = wide;
  CHECK(test::message_of<moe::shape_error>([&] { layer.forward(in, out, workspace); }) ==
        "moe: carry: expected 4 columns, got 5");
  in.carry = {};
  out.carry = wide;
  CHECK_THROWS_AS(layer.forward(in, out, workspace), moe::shape_error);
  CHECK((y.array() == 8).all());
  out.carry = handed;
  auto tape = layer.make_tape();
  layer.forward_train(in, out, tape, workspace);
  Rows dx = Rows::Constant(5, kWidth, 8), dcarry(5, kWidth);
  typename std::remove_cvref_t<decltype(layer)>::LayerGradients back(y, dx);
  back.dcarry = dcarry;
  CHECK(test::message_of<moe::config_error>([&] { layer.backward(tape, back, workspace); }) ==
        "moe: dcarry: expected none, for the call had no carry, got a matrix of 4 columns");
  back.dcarry = {};
  back.dcarry_out = wide;
  CHECK_THROWS_AS(layer.backward(tape, back, workspace), moe::shape_error);
  CHECK((dx.array() == 8).all());
}
