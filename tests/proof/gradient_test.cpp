// Analytic gradients of whole layers against central differences in double, over a pairwise covering array of
// router, score, weighting, loss, experts, capacity, shared experts and frame.
#include <cmath>
#include <cstring>

#include "moe/executor/pool.hpp"
#include "support/catch.hpp"
#include "support/layer_cases.hpp"
#include "support/pairwise.hpp"

namespace {

using namespace test;

enum Factor {
  kRouter,
  kScore,
  kWeighting,
  kLoss,
  kExpert,
  kExpertBias,
  kCapacity,
  kShared,
  kFrame,
  kExtra,
  kFactors
};
enum RouterLevel { kTopK, kGroups, kPositive, kNulls, kExpertChoice, kHash, kRouters };
enum ScoreLevel { kSoftmax, kSigmoid, kRelu, kIdentity, kScores };
enum WeightingLevel { kRaw, kSum, kSumEps, kMaxEps, kKeptSoftmax, kWeightings };
enum LossLevel { kNoLoss, kLoad, kZ, kSequence, kAllLosses, kLosses };
enum ExpertLevel { kMlpGeluErf, kMlpSquared, kGluSilu, kGluGeluTanh, kGluRelu, kComposite, kExperts };
enum ExtraLevel { kPlain, kRouterBias, kSelectionBias, kJitter, kMask, kPadding, kExtras };

bool allowed(const Levels& row) {
  const int router = row[kRouter], score = row[kScore], weighting = row[kWeighting];
  const bool scored = router != kHash && router != kExpertChoice;
  if (!scored) {  // one canonical level for what the router does not have
    return score == kSoftmax && weighting == kRaw && row[kLoss] == kNoLoss && row[kExtra] != kRouterBias &&
           row[kExtra] != kSelectionBias && row[kExtra] != kJitter &&
           (router != kHash || row[kExtra] != kMask);
  }
  if ((router == kPositive) != (score == kRelu)) return false;
  if (score == kIdentity && weighting != kRaw && weighting != kKeptSoftmax) return false;  // sums near 0
  if (router == kNulls && (weighting != kSum || score == kIdentity)) return false;
  return router != kPositive || (weighting != kKeptSoftmax && row[kExtra] != kSelectionBias);
}

LayerSpec spec_of(const Levels& row, std::uint64_t seed) {
  using R = NaiveRouter;
  LayerSpec spec;
  NaiveLayer& n = spec.naive;
  R& r = n.router;
  spec.seed = seed;
  n.ffn = 4;
  r.experts = 4;
  n.act = std::vector{
      Act::gelu_erf, Act::relu_squared, Act::silu, Act::gelu_tanh, Act::relu, Act::silu}[row[kExpert]];
  n.glu = row[kExpert] >= kGluSilu;
  if (row[kExpert] == kComposite) {
    n.ffn = 3;
    n.constants = n.copies = 1;
    r.experts = 6;
  }
  spec.outputs = r.experts + (row[kRouter] == kNulls ? 3 : 0);
  r.k = row[kRouter] == kNulls ? 4 : 2;
  r.score =
      std::vector{R::Score::softmax, R::Score::sigmoid, R::Score::relu, R::Score::identity}[row[kScore]];
  if (row[kRouter] == kGroups) {
    r.select = R::Select::groups;
    r.groups = 2;
    r.kept_groups = 1;
    r.top_two = seed % 2 == 0;
  }
  if (row[kRouter] == kPositive) r.select = R::Select::positive;
  if (row[kRouter] == kExpertChoice) r.routing = R::Routing::expert_choice, r.factor = 1.5;
  if (row[kRouter] == kHash)
    r.routing = R::Routing::hash,
    r.hash = {{0, 1, 2, 3, 0, 1, 2, 3, 3, 2, 1}, {1, 2, 3, 0, 2, 3, 0, 1, 0, 0, 0}};
  r.divide = std::vector{R::Divide::none, R::Divide::sum, R::Divide::sum_plus_eps, R::Divide::max_with_eps,
                         R::Divide::none}[row[kWeighting]];
  if (row[kWeighting] == kKeptSoftmax) r.weight = R::Weight::kept_softmax;
  r.eps = 0.3;
  r.scale = row[kWeighting] == kKeptSoftmax ? 1 : 2.5;
  spec.load_balance = row[kLoss] == kLoad || row[kLoss] == kAllLosses ? 0.7 : 0;
  spec.z_loss = row[kLoss] == kZ || row[kLoss] == kAllLosses ? 0.3 : 0;
  spec.sequence_balance = row[kLoss] == kSequence || row[kLoss] == kAllLosses ? 0.9 : 0;
  spec.expert_bias = row[kExpertBias] != 0;
  n.capacity = static_cast<NaiveLayer::Capacity>(row[kCapacity]);
  n.places = 2;
  n.shared = row[kShared] == 0 ? 0 : 2;
  n.shared_gate = row[kShared] == 2;
  n.output_bias = row[kFrame] == 1;
  n.latent = row[kFrame] == 2;
  spec.router_bias = row[kExtra] == kRouterBias;
  if (row[kExtra] == kSelectionBias) {
    for (int e = 0; e < spec.outputs; ++e) r.selection_bias.push_back(0.3 * e);
  }
  spec.jitter = row[kExtra] == kJitter ? 0.2 : 0;
  return spec;
}

/// Loss = <dy, y> + 0.8 * auxiliary losses, at the batch as it is.
class Case {
 public:
  explicit Case(const LayerSpec& spec)
      : spec_(spec),
        random_(spec.seed),
        layer_(make_layer<double>(spec_)),
        batch_(spec_, 7, random_),
        dy_(batch_.x.size()) {
    std::normal_distribution<double> normal;
    for (double& v : dy_) v = normal(random_);
    batch_.offsets = {0, 3, 3, 7};
  }
  Case(const Levels& row, std::uint64_t seed) : Case(spec_of(row, seed)) {
    if (row[kExtra] == kMask)
      batch_.mask.assign(static_cast<std::size_t>(spec_.outputs), 0.25), batch_.mask[1] = -INFINITY;
    if (row[kExtra] == kPadding) {
      batch_.valid = std::make_unique<bool[]>(7);
      for (int t = 0; t < 7; ++t) batch_.valid[static_cast<std::size_t>(t)] = t != 2 && t != 6;
    }
  }

  double loss() {
    moe::LayerOutput<double> out(batch_.y_view());
    layer_->forward_train(batch_.input(), out, workspace_, AnyExecutor(executor_));
    double sum = 0.8 * out.losses.total();
    for (std::size_t i = 0; i < dy_.size(); ++i) sum += dy_[i] * batch_.y[i];
    route_.assign(layer_->plan().pair, layer_->plan().pair + layer_->plan().slots());
    for (Index p = 0; p < layer_->routes().pairs(); ++p) route_.push_back(layer_->routes().expert[p]);
    return sum;
  }

  /// Every entry of x and of every parameter (at most `most` of each).
  void check(int most) {
    loss();
    const auto routes = route_;
    std::vector<double> dx(batch_.x.size(), -1);
    layer_->backward({dy_.data(), batch_.tokens, batch_.width}, {dx.data(), batch_.tokens, batch_.width}, 0.8,
                     workspace_, AnyExecutor(executor_));
    std::vector<std::pair<double*, double>> checked;
    for (std::size_t i = 0; i < dx.size(); ++i) checked.emplace_back(&batch_.x[i], dx[i]);
    layer_->visit(
        [&](const std::string&, moe::ParameterView<double> value, moe::ParameterView<double> gradient) {
          const Index step = 1 + value.size() / most;
          for (Index i = 0; i < value.size(); i += step) {
            checked.emplace_back(&value(i / value.cols, i % value.cols),
                                 gradient(i / value.cols, i % value.cols));
          }
        });
    for (const auto& [entry, analytic] : checked) compare(entry, analytic, routes);
  }

  int compared = 0, skipped = 0, wrong = 0;
  double worst = 0;

 private:
  double difference(double* entry, double h) {
    const double old = *entry;
    *entry = old + h;
    const double up = loss();
    same_ = route_;
    *entry = old - h;
    const double down = loss();
    same_route_ = same_ == route_;
    *entry = old;
    return (up - down) / (2 * h);
  }

  void compare(double* entry, double analytic, const std::vector<Index>& routes) {
    // At h = 1e-5: truncation h^2 f''' / 6 and roundoff eps * |loss| / h are both below 1e-9 times the scale
    // here.
    const double numeric = difference(entry, 1e-5);
    if (!same_route_ || route_ != routes) {
      ++skipped;
      return;
    }
    const double bound = 2e-7 + 2e-6 * std::abs(analytic);
    const double error = std::abs(numeric - analytic);
    if (!(error <= bound)) {
      // A kink (relu, max) within h of the point shows as a difference that depends on h.
      const double closer = difference(entry, 1e-7);
      if (std::abs(closer - analytic) <= 4e-7 + 2e-6 * std::abs(analytic)) {
        ++skipped;
        return;
      }
      ++wrong;
    }
    worst = std::max(worst, error);
    ++compared;
  }

  LayerSpec spec_;
  std::mt19937_64 random_;
  std::unique_ptr<TestLayer<double>> layer_;
  Batch<double> batch_;
  std::vector<double> dy_;
  moe::Workspace workspace_;
  moe::SerialExecutor executor_;
  std::vector<Index> route_, same_;
  bool same_route_ = true;
};

std::vector<Levels> rows() {
  std::set<std::tuple<int, int, int, int>> impossible;
  const std::vector<int> sizes = {kRouters, kScores, kWeightings, kLosses, kExperts, 2, 3, 3, 3, kExtras};
  std::vector<Levels> found = pairwise(sizes, allowed, impossible);
  // A pair is impossible only where `allowed` says so: both factors belong to the router.
  for (const auto& [f, a, g, b] : impossible) {
    INFO("factors " << f << " level " << a << ", " << g << " level " << b);
    CHECK((f <= kLoss || f == kExtra));
    CHECK((g <= kLoss || g == kExtra));
  }
  return found;
}

void check_rows(std::uint64_t first_seed, int repeats, int most, std::size_t stride) {
  const std::vector<Levels> all = rows();
  int cases = 0, compared = 0, skipped = 0;
  for (int repeat = 0; repeat < repeats; ++repeat) {
    for (std::size_t i = 0; i < all.size(); i += stride) {
      Case c(all[i], first_seed + i + 1000 * static_cast<std::uint64_t>(repeat));
      c.check(most);
      std::string levels;
      for (const int level : all[i]) levels += std::to_string(level) + " ";
      INFO("levels " << levels << "repeat " << repeat << ": worst error " << c.worst);
      CHECK(c.wrong == 0);
      ++cases;
      compared += c.compared;
      skipped += c.skipped;
    }
  }
  INFO(cases << " cases, " << compared << " entries compared, " << skipped << " skipped");
  CHECK(skipped * 100 < compared);
  if (stride == 1) CHECK(cases >= 300);
}

}  // namespace

TEST_CASE("gradients of layers agree with central differences", "[proof]") {
  check_rows(1, 6, 24, 1);
}

// Rounded weights have no gradients of their own: tests/expert/storage_test.cpp compares theirs with a float
// bank's. Under sanitizers isolation_test.cpp runs the backward of every listed part, in a hundredth of the
// time.
TEST_CASE("gradients through every listed part agree with central differences", "[proof]") {
  for (const LayerCase& c : layer_cases()) {
    if (!runs_in<double>(c)) continue;
    Case layer(c.spec);
    layer.check(24);
    INFO(c.part << ": worst error " << layer.worst);
    CHECK(layer.wrong == 0);
    CHECK(layer.compared > 20 * layer.skipped);
  }
}

TEST_CASE("gradients of layers agree with central differences, a few", "[smoke]") {
  check_rows(1, 1, 6, 9);
}

TEST_CASE("the covering array covers every pair", "[proof]") {
  std::set<std::tuple<int, int, int, int>> impossible;
  const auto any = [](const Levels&) { return true; };
  const std::vector<Levels> found = pairwise({3, 2, 4, 3}, any, impossible);
  CHECK(impossible.empty());
  CHECK(found.size() < 20);  // of 72
  std::set<std::tuple<int, int, int, int>> seen;
  for (const Levels& row : found) {
    for (int f = 0; f < 4; ++f) {
      for (int g = f + 1; g < 4; ++g) seen.insert({f, row[f], g, row[g]});
    }
  }
  CHECK(seen.size() == 3 * 2 + 3 * 4 + 3 * 3 + 2 * 4 + 2 * 3 + 4 * 3);
}
