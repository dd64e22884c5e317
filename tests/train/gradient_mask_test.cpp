#include "moe/train/gradient_mask.hpp"

#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/errors.hpp"
#include "train/small_layer.hpp"

using moe::Index;
using test::Rows;

namespace {

constexpr bool kLearns[] = {true,  false,  // retain
                            true,  false,  // retain
                            true,  true,   // both
                            false, true,   // forget
                            false, true};
const moe::ConstMatrixView<bool> kTable(kLearns, 5, 2);

struct Trained {
  test::SmallLayer layer = test::small_layer();
  Rows x = Rows::Random(12, 10), y = Rows(12, 10), dy = Rows::Random(12, 10), dx = Rows(12, 10);
  moe::Workspace workspace;
  test::SmallLayer::Tape tape;
  test::SmallLayer::Gradients gradients = layer.make_gradients();
  moe::Buffer<bool> frozen;

  Trained() {
    moe::LayerOutput<double> out(y);
    layer.forward_train(x, out, tape, workspace);
  }
  void backward() {
    layer.zero_gradients(gradients);
    test::SmallLayer::LayerGradients back(dy, dx, gradients);
    back.frozen_pair = frozen;
    layer.backward(tape, back, workspace);
  }
  /// Whether some gradient of an expert is not 0.
  bool trained(Index expert) {
    bool any = false;
    const std::string prefix = "experts." + std::to_string(expert) + ".";
    layer.experts().visit_parameters(&gradients.experts, [&](const moe::Parameter<double>& p) {
      if (std::string(p.name).find(prefix) != 0) return;
      for (Index o = 0; o < p.gradient.rows; ++o) {
        for (Index i = 0; i < p.gradient.cols; ++i) any = any || p.gradient(o, i) != 0;
      }
    });
    return any;
  }
};

}  // namespace

TEST_CASE("a forget batch leaves experts of what is kept exactly as they are, and dx too", "[train][smoke]") {
  Trained c;
  c.backward();
  for (Index e = 0; e < 5; ++e) REQUIRE(c.trained(e));
  const Rows dx = c.dx;
  const std::vector<std::int32_t> forget(12, 1), retain(12, 0);
  moe::gradient_mask(c.tape.routes(), forget, kTable, c.frozen);
  c.backward();
  CHECK((!c.trained(0) && !c.trained(1) && c.trained(2) && c.trained(3) && c.trained(4)));
  CHECK((c.dx.array() == dx.array()).all());
  moe::gradient_mask(c.tape.routes(), retain, kTable, c.frozen);
  c.backward();
  CHECK((c.trained(0) && c.trained(1) && c.trained(2) && !c.trained(3) && !c.trained(4)));
  CHECK((c.dx.array() == dx.array()).all());
}

TEST_CASE("a pair is frozen unless its expert learns from its row's label", "[train]") {
  Trained c;
  std::vector<std::int32_t> label;
  for (int t = 0; t < 12; ++t) label.push_back(t % 3 == 0 ? 1 : 0);
  const auto& routes = c.tape.routes();
  moe::gradient_mask(routes, label, kTable, c.frozen);
  REQUIRE(c.frozen.size() == routes.pairs());
  for (Index t = 0; t < 12; ++t) {
    for (Index p = routes.offsets[t]; p < routes.offsets[t + 1]; ++p)
      CHECK(c.frozen[p] == !kLearns[2 * routes.expert[p] + label[static_cast<std::size_t>(t)]]);
  }
}

TEST_CASE("labels and the experts' sets are checked", "[train]") {
  Trained c;
  c.frozen.assign(1, true);
  std::vector<std::int32_t> label(12, 0), few(11, 0);
  const auto message = [&](const auto& labels, const moe::ConstMatrixView<bool>& learns) {
    const std::string text = test::message_of<moe::shape_error>(
        [&] { moe::gradient_mask(c.tape.routes(), labels, learns, c.frozen); });
    CHECK((c.frozen.size() == 1 && c.frozen[0]));
    return text;
  };
  CHECK(message(few, kTable) == "moe: label: expected 12 entries, got 11");
  CHECK(message(label, moe::ConstMatrixView<bool>(kLearns, 4, 2)) ==
        "moe: labels of the experts: expected 5 rows, got 4");
  for (const std::int32_t bad : {-1, 2}) {
    label[3] = bad;
    CHECK(test::message_of<moe::route_error>([&] {
            moe::gradient_mask(c.tape.routes(), label, kTable, c.frozen);
          }) == "moe: label: expected labels in [0, 2), got " + std::to_string(bad) + " for token 3");
  }
}
