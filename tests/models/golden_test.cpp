// Every golden folder: the layer loaded from the published files chooses the same experts as the model's own
// code, and weights, outputs and gradients agree within what float arithmetic allows (naive_model.hpp).
#include <algorithm>
#include <cmath>
#include <set>
#include <string>

#include "models/fixture.hpp"
#include "models/naive_model.hpp"
#include "support/catch.hpp"
#include "support/close.hpp"

namespace {

using test::Bounded;
using test::Golden;
using test::Index;
using test::Ran;
using test::Var;
using test::Vars;

/// Both the library and the model's own code may be off by the bound, and by one more for sums and formulas
/// in another order than the naive ones, whose bounds are to first order.
constexpr double kSlack = 2;

bool agrees(float actual, const Bounded& exact) {
  return test::within(actual, static_cast<long double>(exact.v), static_cast<long double>(kSlack * exact.e));
}

/// What the preset refuses, because weights are normalised after dropping.
bool is_refused(const std::string& name) {
  return name == "nllb_moe_2" || name == "nllb_moe_3";
}

Vars row_of(const std::vector<float>& rows, Index t, Index width) {
  Vars row;
  for (Index j = 0; j < width; ++j)
    row.emplace_back(static_cast<double>(rows[static_cast<std::size_t>(t * width + j)]));
  return row;
}

class Checked {
 public:
  explicit Checked(const std::string& name)
      : golden_(name), layer_(golden_.load()), ran_(layer_, golden_.input()), naive_(start()) {
    for (Index t = 0; t < golden_.tokens; ++t) {
      std::vector<int> ids;
      std::vector<bool> kept;
      for (Index k = 0; k < golden_.k; ++k) {
        const auto i = static_cast<std::size_t>(t * golden_.k + k);
        ids.push_back(static_cast<int>(golden_.ids[i]));
        kept.push_back(golden_.kept[i] != 0);
      }
      x_.push_back(row_of(golden_.x, t, golden_.width));
      router_x_.push_back(golden_.router_x.empty() ? x_.back() : row_of(golden_.router_x, t, golden_.width));
      carry_.push_back(golden_.carry.empty() ? Vars() : row_of(golden_.carry, t, golden_.carry_width()));
      token_.push_back(naive_(x_.back(), router_x_.back(), ids, kept, carry_.back()));
    }
  }
  ~Checked() { test::recording = nullptr; }

  const std::string& model() const { return layer_.spec().model; }

  /// Bad choices, weights, outputs.
  void forward() const {
    Index wrong_ids = 0, wrong_weights = 0, wrong_y = 0;
    // NLLB: the golden weights are those before the factor 1 - moe_token_dropout, and 0 where dropped.
    const double factor = model() == "nllb_moe" ? moe::models::weights_of(layer_.spec()).scale : 1;
    for (Index t = 0; t < golden_.tokens; ++t) {
      const moe::RouteTable<float>& routes = ran_.tape.routes();
      wrong_ids += routes.count(t) != golden_.k;
      for (Index k = 0; k < golden_.k; ++k) {
        const auto i = static_cast<std::size_t>(t * golden_.k + k);
        const float ours = ran_.weight(t, golden_.ids[i]);
        const Bounded want = token_[static_cast<std::size_t>(t)].weight[static_cast<std::size_t>(k)].value();
        wrong_ids += moe::is_nan(ours);
        wrong_weights += !agrees(ours, want);
        wrong_weights += !agrees(static_cast<float>(factor * static_cast<double>(golden_.weights[i])),
                                 Bounded(want.v, want.e + 0x1p-23 * std::abs(want.v)));
      }
      for (Index j = 0; j < golden_.width; ++j) {
        const auto i = static_cast<std::size_t>(t * golden_.width + j);
        const Bounded want = token_[static_cast<std::size_t>(t)].y[static_cast<std::size_t>(j)].value();
        wrong_y += !agrees(ran_.y[i], want) || !agrees(golden_.y[i], want);
      }
    }
    CHECK(wrong_ids == 0);
    CHECK(wrong_weights == 0);
    CHECK(wrong_y == 0);
  }

  /// What MoE++ hands on are the logits of its own code: rows of 24 and 64 products in float, of size 1
  /// or so where the largest logit is.
  void handed_on() const {
    const Index n = layer_.carry_width();
    if (n == 0) return;
    const std::vector<float> want = test::floats(golden_.expected.at("router_logits"));
    std::vector<float> y(ran_.y.size()), carry(want.size());
    moe::LayerOutput<float> out(moe::MatrixView<float>(y.data(), golden_.tokens, golden_.width));
    out.carry = moe::MatrixView<float>(carry.data(), golden_.tokens, n);
    moe::Workspace workspace;
    layer_.forward(golden_.input(), out, workspace);
    CHECK(y == ran_.y);
    double largest = 0;
    for (const float v : want) largest = std::max(largest, std::abs(static_cast<double>(v)));
    for (std::size_t i = 0; i < want.size(); ++i) {
      CHECK(std::abs(static_cast<double>(carry[i]) - static_cast<double>(want[i])) <=
            1000 * 0x1p-24 * largest);
    }
  }

  void backward() {
    std::vector<std::pair<std::uint32_t, double>> seeds;
    for (Index t = 0; t < golden_.tokens; ++t) {
      for (Index j = 0; j < golden_.width; ++j) {
        const auto i = static_cast<std::size_t>(t * golden_.width + j);
        seeds.emplace_back(token_[static_cast<std::size_t>(t)].y[static_cast<std::size_t>(j)].id,
                           static_cast<double>(golden_.dy[i]));
      }
    }
    adjoint_ = recording_.backward(seeds);

    std::vector<float> dx(golden_.x.size()), router_dx(golden_.router_x.size());
    auto gradients = layer_.make_gradients();
    moe::models::AnyLayer::Backward call{
        .dy = moe::ConstMatrixView<float>(golden_.dy.data(), golden_.tokens, golden_.width),
        .dx = moe::MatrixView<float>(dx.data(), golden_.tokens, golden_.width),
        .gradients = &gradients};
    if (!router_dx.empty())
      call.router_dx = moe::MatrixView<float>(router_dx.data(), golden_.tokens, golden_.width);
    std::vector<float> dcarry(golden_.carry.size());
    if (!dcarry.empty()) call.dcarry = {dcarry.data(), golden_.tokens, golden_.carry_width()};
    moe::Workspace workspace;
    layer_.backward(ran_.tape, call, workspace);
    // Gemma 4's dx is of the residual, which the router reads; that of the experts' rows is d_expert_x, and
    // reaches dx through a norm outside of the layer.
    rows(x_, dx, router_dx.empty() ? "dx" : "d_expert_x");
    if (!router_dx.empty()) rows(router_x_, router_dx, nullptr);
    if (!dcarry.empty()) rows(carry_, dcarry, "d_carry");
    parameters(gradients);
  }

 private:
  test::NaiveModel start() {
    test::recording = &recording_;
    return test::NaiveModel(layer_);
  }

  void rows(const std::vector<Vars>& of, const std::vector<float>& ours, const char* name) const {
    INFO((name == nullptr ? "router_dx" : name));
    const std::vector<float> theirs = name == nullptr ? ours : test::floats(golden_.expected.at(name));
    Index wrong = 0;
    for (std::size_t i = 0; i < ours.size(); ++i) {
      const std::size_t width = of[0].size();
      const Bounded want = adjoint_[of[i / width][i % width].id];
      wrong += !agrees(ours[i], want) || !agrees(theirs[i], want);
    }
    CHECK(wrong == 0);
  }

  /// Every gradient of ours against the naive one, and the golden ones that are there.
  void parameters(moe::models::AnyLayer::Gradients& gradients) {
    const moe::models::LayerTensors tensors(golden_.model, golden_.config, layer_.spec());
    Index compared = 0;
    layer_.visit_parameters(gradients, [&](const moe::Parameter<float>& p) {
      INFO(p.name);
      Index wrong = 0;
      const test::Matrix& naive = naive_.parameter.at(p.name);
      for (Index o = 0; o < p.value.rows; ++o) {
        for (Index i = 0; i < p.value.cols; ++i) {
          const Bounded want =
              adjoint_[naive.row[static_cast<std::size_t>(o)][static_cast<std::size_t>(i)].id];
          wrong += !agrees(p.gradient(o, i), want);
        }
      }
      CHECK(wrong == 0);
      compared += published(tensors, p, naive);
    });
    CHECK(compared >= 1);
  }

  /// The golden gradient of our parameter, element by element where it lies in its published tensor; 0 if
  /// there is none.
  Index published(const moe::models::LayerTensors& tensors, const moe::Parameter<float>& p,
                  const test::Matrix& naive) {
    using moe::io::ExpertMatrix;
    const std::string name = p.name;
    const std::string plain = tensors.name_of(name);
    if (!plain.empty()) {
      const bool router = name == "gate.weight" || name == "gate.2.weight" || name == "sim_matrix";
      return compare(router ? "d_router" : "grad." + plain, p, naive,
                     {.transposed = tensors.named(name)->turned}, moe::io::Outputs::all);
    }
    const bool shared = name.find("shared_experts.0.") == 0;
    const std::string rest = shared ? name.substr(17) : name.substr(name.find('.', 8) + 1);
    const Index e = shared ? 0 : std::atoi(name.c_str() + 8);
    if (!shared && e != test::integers(golden_.expected.at("grad_expert"))[0]) return 0;
    constexpr const char* kOurs[] = {"gate_proj", "up_proj", "down_proj", "fc1", "fc2"};
    for (Index part = 0; part < moe::io::kParts; ++part) {
      const moe::io::ExpertLayout& layout = shared ? tensors.shared() : tensors.experts();
      if (rest == std::string(kOurs[part]) + ".weight") {
        const moe::io::MatrixLayout& m = layout.matrix[part];
        return compare("grad." + moe::io::with_number(m.name, "{expert}", m.first + e), p, naive, m,
                       m.outputs);
      }
      if (rest == std::string(kOurs[part]) + ".bias") {
        const moe::io::BiasLayout& b = layout.bias[part];
        return compare("grad." + moe::io::with_number(b.name, "{expert}", e), p, naive, {}, b.outputs);
      }
    }
    return 0;
  }

  Index compare(const std::string& tensor, const moe::Parameter<float>& p, const test::Matrix& naive,
                const moe::io::MatrixLayout& layout, moe::io::Outputs outputs) const {
    const moe::io::Tensor* const t = golden_.expected.find(tensor);
    if (t == nullptr) return 0;
    const std::vector<float> theirs = test::floats(*t);
    const moe::io::impl::OutputChoice choice(outputs, p.value.rows);
    REQUIRE(static_cast<Index>(theirs.size()) == choice.stored * p.value.cols);
    Index wrong = 0;
    for (Index o = 0; o < p.value.rows; ++o) {
      for (Index i = 0; i < p.value.cols; ++i) {
        const Index at = layout.transposed ? i * choice.stored + choice(o) : choice(o) * p.value.cols + i;
        const Bounded want = adjoint_[naive.row[static_cast<std::size_t>(o)][static_cast<std::size_t>(i)].id];
        wrong += !agrees(theirs[static_cast<std::size_t>(at)], want);
      }
    }
    INFO(tensor);
    CHECK(wrong == 0);
    return 1;
  }

  test::Recording recording_;
  Golden golden_;
  moe::models::AnyLayer layer_;
  Ran ran_;
  test::NaiveModel naive_;
  std::vector<Vars> x_, router_x_, carry_;
  std::vector<test::NaiveModel::Token> token_;
  std::vector<Bounded> adjoint_;
};

}  // namespace

TEST_CASE("layers of released models compute what the models' own code does", "[models]") {
  test::unit_roundoff = 0x1p-24;
  std::set<std::string> models;
  for (const std::string& name : test::golden_folders()) {
    INFO(name);
    if (is_refused(name)) {
      CHECK_THROWS_AS(Golden(name).load(), moe::config_error);
      continue;
    }
    Checked checked(name);
    checked.forward();
    checked.handed_on();
    checked.backward();
    models.insert(checked.model());
  }
  CHECK(models.size() >= 55);
}
