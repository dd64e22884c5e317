// Layers of every listed part, called with every argument wrong in every way: each call ends in the exception
// that docs/contracts.md names for it or in the right answer, and writes nothing but its outputs.
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "support/catch.hpp"
#include "support/guarded_memory.hpp"
#include "support/layer_cases.hpp"
#include "support/nasty_calls.hpp"
#include "support/same_bits.hpp"

namespace {

using namespace test;

constexpr Index kTokens = 5;

template <class Real>
constexpr Real kNan = std::numeric_limits<Real>::quiet_NaN();
template <class Real>
constexpr Real kInf = std::numeric_limits<Real>::infinity();

/// Of every listed part, of the kinds of routers, and layers of other shapes.
std::vector<LayerCase> nasty_layers() {
  std::vector<LayerCase> cases = layer_cases();
  const LayerSpec base = cases.front().spec;
  const auto add = [&](const char* part, const std::function<void(LayerSpec&, NaiveLayer&)>& change) {
    LayerSpec spec = base;
    change(spec, spec.naive);
    cases.push_back({part, spec});
  };
  using Routing = NaiveRouter::Routing;
  add("router hash", [](LayerSpec& s, NaiveLayer& n) {
    n.router.routing = Routing::hash;
    n.router.hash.assign(2, {});
    for (int v = 0; v < s.vocabulary; ++v)
      n.router.hash[0].push_back(v % 6), n.router.hash[1].push_back((v + 1) % 6);
  });
  add("router expert_choice",
      [](LayerSpec&, NaiveLayer& n) { n.router.routing = Routing::expert_choice, n.router.factor = 1.5; });
  add("router noisy_top_k", [](LayerSpec& s, NaiveLayer&) { s.named = Named::noisy; });
  add("router gshard", [](LayerSpec& s, NaiveLayer&) { s.named = Named::gshard; });
  add("router isolating", [](LayerSpec& s, NaiveLayer&) { s.non_finite = moe::NonFinite::isolate_row; });
  add("router with losses", [](LayerSpec& s, NaiveLayer&) {
    s.load_balance = s.z_loss = s.sequence_balance = 0.5, s.jitter = 0.1, s.router_bias = true;
  });
  add("router with null experts", [](LayerSpec& s, NaiveLayer&) { s.outputs = 8; });
  add("shared gated", [](LayerSpec&, NaiveLayer& n) { n.shared = 2, n.shared_gate = true; });
  add("wider", [](LayerSpec& s, NaiveLayer&) { s.width = 14; });
  add("more hidden", [](LayerSpec& s, NaiveLayer&) { s.hidden = 40; });
  add("fewer experts", [](LayerSpec& s, NaiveLayer& n) { n.ffn = n.router.experts = s.outputs = 5; });
  add("no bias", [](LayerSpec& s, NaiveLayer&) { s.expert_bias = false; });
  add("another choice", [](LayerSpec&, NaiveLayer& n) { n.router.k = 3; });
  add("one shared", [](LayerSpec&, NaiveLayer& n) { n.shared = 1, n.glu = false; });
  add("latent, other width", [](LayerSpec& s, NaiveLayer& n) { n.latent = true, s.latent_width = 4; });
  return cases;
}

/// A layer with a tape and gradients of its own, and the shapes that tell which others take them.
template <class Real>
struct Known {
  std::string name;
  LayerSpec spec;
  std::unique_ptr<TestLayer<Real>> layer;
  typename TestLayer<Real>::Held tape, gradients;
  std::string shapes, bank_shapes;

  explicit Known(const LayerCase& c)
      : name(c.part),
        spec(c.spec),
        layer(make_layer<Real>(spec)),
        tape(layer->make_tape()),
        gradients(layer->make_gradients()) {
    const auto add = [this](const std::string& of, Index rows, Index cols) {
      const std::string shape = of + " " + std::to_string(rows) + " x " + std::to_string(cols) + ", ";
      shapes += shape;
      if (of.rfind("experts.", 0) == 0) bank_shapes += shape;
    };
    layer->visit([&](const std::string& of, moe::ParameterView<Real> value, moe::ParameterView<Real>) {
      add(of, value.rows, value.cols);
    });
    layer->visit_rounded(
        [&](const std::string& of, ConstMatrixView<Real> value) { add(of, value.rows, value.cols); });
  }
  bool coupled() const { return layer->coupling(false) != moe::Coupling::row_independent; }
  bool scored() const { return spec.naive.router.routing != NaiveRouter::Routing::hash; }

  std::vector<Real> numbers(void* of) const {
    std::vector<Real> all;
    layer->visit_ranges(
        of, [&](const std::string&, Real*, Real* g, Index n) { all.insert(all.end(), g, g + n); });
    return all;
  }
  void fill(void* of, Real value) const {
    layer->visit_ranges(of, [&](const std::string&, Real*, Real* g, Index n) { std::fill(g, g + n, value); });
  }
  std::vector<Real> parameters() const {
    std::vector<Real> all;
    layer->visit([&](const std::string&, moe::ParameterView<Real> value, moe::ParameterView<Real>) {
      for (Index o = 0; o < value.rows; ++o) {
        for (Index i = 0; i < value.cols; ++i) all.push_back(value(o, i));
      }
    });
    layer->visit_packed([&](const std::string&, std::byte* data, Index n) {
      for (Index i = 0; i < n; ++i) all.push_back(static_cast<Real>(std::to_integer<int>(data[i])));
    });
    layer->visit_state(
        [&](const std::string&, double* values, Index n) { all.insert(all.end(), values, values + n); });
    return all;
  }
};

std::vector<double> numbers_of(const moe::RouteStats& stats) {
  std::vector<double> all{double(stats.tokens), double(stats.dropped), double(stats.elided),
                          double(stats.spoiled)};
  for (const Index n : stats.load) all.push_back(static_cast<double>(n));
  all.insert(all.end(), stats.gate_mass.begin(), stats.gate_mass.end());
  return all;
}

template <class Real>
const std::vector<Real>& normal_numbers() {
  static const std::vector<Real> numbers = [] {
    std::mt19937_64 random(7);
    std::normal_distribution<double> normal;
    std::vector<Real> all(701);
    for (Real& v : all) v = static_cast<Real>(normal(random));
    return all;
  }();
  return numbers;
}

/// What may differ from the plain call's answer.
enum class Free { nothing, first_row, everything };

/// A plain call, to be changed.
template <class Real>
struct Call {
  GuardedMemory memory;
  Index tokens, width, outputs;
  MatrixView<Real> x, mask;
  Index* offsets;
  moe::TokenId* token_id;
  bool* valid;
  moe::DrawCounter draws{5};
  moe::LayerInput<Real> in;
  moe::RouteStats stats;
  moe::LayerOutput<Real> out;
  moe::Workspace own;
  std::span<std::byte> block;  // of a fixed workspace
  void* tape = nullptr;
  Free free = Free::nothing;

  explicit Call(const LayerSpec& spec, Index tokens_ = kTokens)
      : tokens(tokens_), width(spec.width), outputs(spec.outputs) {
    x = memory.rows<Real>("x", tokens, width, normal_numbers<Real>());
    in.x = x;
    out.y = memory.rows<Real>("y", tokens, width, std::vector<Real>{7});
    out.stats = &stats;
    stats.load.assign(spec.experts(), 3);
    stats.gate_mass.assign(spec.experts(), 2);
    mask = memory.rows<Real>("logit_mask", tokens, outputs, std::vector<Real>{0});
    offsets = memory.copy<Index>("segments", {0, tokens / 2, tokens});
    in.segments = moe::Segments(std::span<const Index>(offsets, 3));
    token_id = memory.take<moe::TokenId>("token_id", tokens);
    std::fill(token_id, token_id + tokens, 4);
    in.token_id = std::span<const moe::TokenId>(token_id, static_cast<std::size_t>(tokens));
    valid = memory.take<bool>("valid", tokens);
    std::fill(valid, valid + tokens, true);
    in.draws = &draws;
  }
  /// A fixed workspace of so many bytes.
  void fix(Index bytes) {
    block = std::span(memory.take<std::byte>("workspace", bytes), static_cast<std::size_t>(bytes));
    own = moe::Workspace(block);
  }
  /// What must not have been written and is not as it was: scratch memory may be anything.
  std::string changed() {
    if (!block.empty()) memory.restore(block.data(), block.size());
    return memory.changed();
  }
  ConstMatrixView<Real> other(Index rows, Index cols) {
    return memory.rows<Real>("another matrix", rows, cols, std::vector<Real>{0});
  }
  bool same(const std::vector<Real>& got, const std::vector<Real>& plain, bool coupled) const {
    if (free == Free::everything) return true;
    const Index rows = free == Free::nothing ? 0 : coupled ? tokens / 2 : 1;
    return got.size() == plain.size() &&
           std::memcmp(got.data() + rows * width, plain.data() + rows * width,
                       (got.size() - static_cast<std::size_t>(rows * width)) * sizeof(Real)) == 0;
  }
};

template <class Real>
struct BackCall {
  GuardedMemory memory;
  Index width;
  typename TestLayer<Real>::Back rows;
  const void* tape = nullptr;
  void* gradients = nullptr;
  const Known<Real>* owner = nullptr;  // of the gradients
  moe::Workspace own;
  bool any = false;  // any answer

  BackCall(Index tokens, Index width_) : width(width_) {
    rows.dy = memory.rows<Real>("dy", tokens, width, normal_numbers<Real>());
    rows.dx = memory.rows<Real>("dx", tokens, width, std::vector<Real>{8});
  }
  MatrixView<Real> other(Index of_rows, Index cols) {
    return memory.rows<Real>("another matrix", of_rows, cols, std::vector<Real>{1});
  }
};

/// The calls of one layer; of all that it is told, every n-th, another one for every layer.
template <class Real>
class Sweep {
 public:
  using Change = std::function<void(Call<Real>&)>;
  using ChangeBack = std::function<void(BackCall<Real>&)>;

  Sweep(Known<Real>& known, NastyCalls& calls, int every, int first)
      : known_(known), calls_(calls), every_(every), next_(first % every), tape_(known.layer->make_tape()) {
    for (const bool train : {false, true}) {
      Call<Real> call(known.spec);
      call.memory.remember();
      call.tape = tape_.get();
      run(call, train);
      plain_[train] = call.memory.take_back(call.out.y);
      CHECK(call.memory.changed().empty());
    }
    plain_back_ = back_now().second;
    parameters_ = known.parameters();
  }
  ~Sweep() { CHECK(same_bits(parameters_, known_.parameters())); }

  const LayerSpec& spec() const { return known_.spec; }
  Known<Real>& known() { return known_; }
  const void* tape() const { return tape_.get(); }
  /// Of the plain call.
  Index pairs() const { return known_.layer->pairs(tape_.get()); }
  bool its_turn() { return ++next_ % every_ == 0; }

  /// forward and forward_train.
  void forward(const std::string& name, const Ends& want, const Change& change, Index tokens = kTokens) {
    for (const bool train : {false, true}) one(name, want, change, train, tokens);
  }
  void one(const std::string& name, const Ends& want, const Change& change, bool train,
           Index tokens = kTokens) {
    if (its_turn()) always(name, want, change, train, tokens);
  }
  /// Whosever turn it is: what comes after it needs it.
  void always(const std::string& name, const Ends& want, const Change& change, bool train,
              Index tokens = kTokens) {
    Call<Real> call(known_.spec, tokens);
    call.tape = tape_.get();
    change(call);
    call.memory.remember();
    const std::vector<double> stats = numbers_of(call.stats);
    const Outcome got = outcome_of([&] { run(call, train); });
    std::string wrong;
    if (got.ending == answer) {
      if (!call.same(call.memory.take_back(call.out.y), plain_[train], known_.coupled()))
        wrong = " other numbers";
    } else if (!same_bits(stats, numbers_of(call.stats)) || call.draws.calls() != 0) {
      wrong = " statistics or draws";
    }
    calls_.check(known_.name + (train ? ", forward_train: " : ", forward: ") + name, want, got,
                 wrong + call.changed());
    if (train && call.tape == tape_.get()) check_tape(name, got.ending == answer);
  }

  void backward(const std::string& name, const Ends& want, const ChangeBack& change) {
    if (!its_turn()) return;
    BackCall<Real> call(kTokens, known_.spec.width);
    call.tape = tape_.get();
    call.gradients = known_.gradients.get();
    call.owner = &known_;
    change(call);
    if (call.gradients != nullptr) call.owner->fill(call.gradients, Real(0.25));
    call.memory.remember();
    const auto before = call.gradients == nullptr ? std::vector<Real>{} : call.owner->numbers(call.gradients);
    const Outcome got = outcome_of([&] { run(call); });
    auto after = call.gradients == nullptr ? std::vector<Real>{} : call.owner->numbers(call.gradients);
    std::string wrong;
    if (got.ending == answer) {
      const std::vector<Real> dx = call.memory.take_back(call.rows.dx);
      call.memory.take_back(call.rows.router_dx);
      after.insert(after.end(), dx.begin(), dx.end());
      if (!call.any && !same_bits(after, plain_back_)) wrong = " other numbers";
    } else if (!same_bits(before, after)) {
      wrong = " gradients";
    }
    if (call.gradients != nullptr) call.owner->fill(call.gradients, Real(0.25));  // not what a NaN left
    calls_.check(known_.name + ", backward: " + name, want, got, wrong + call.memory.changed());
  }

  void other(const std::string& name, const Ends& want, const std::function<void()>& call) {
    if (!its_turn()) return;
    calls_.check(known_.name + ", " + name, want, outcome_of(call), "");
  }

 private:
  void run(Call<Real>& call, bool train) {
    moe::SerialExecutor serial;
    if (train) {
      known_.layer->train(call.in, call.out, call.tape, call.own, AnyExecutor(serial));
    } else {
      known_.layer->forward(call.in, call.out, call.own, AnyExecutor(serial));
    }
  }
  void run(BackCall<Real>& call) {
    moe::SerialExecutor serial;
    known_.layer->back(call.tape, call.rows, call.gradients, call.own, AnyExecutor(serial));
  }
  /// Gradients and dx of the plain call's tape.
  std::pair<Outcome, std::vector<Real>> back_now() {
    BackCall<Real> call(kTokens, known_.spec.width);
    call.tape = tape_.get();
    call.gradients = known_.gradients.get();
    known_.fill(call.gradients, Real(0.25));
    call.memory.remember();
    const Outcome got = outcome_of([&] { run(call); });
    std::vector<Real> all = known_.numbers(call.gradients), dx = call.memory.take_back(call.rows.dx);
    all.insert(all.end(), dx.begin(), dx.end());
    return {got, all};
  }
  /// A refused call leaves the tape as it was; over another the plain call goes again.
  void check_tape(const std::string& name, bool answered) {
    if (!answered) {
      const auto [got, numbers] = back_now();
      calls_.check(known_.name + ", backward after: " + name, {answer}, got,
                   same_bits(numbers, plain_back_) ? "" : " other numbers");
      if (got.ending == answer) return;
    }
    Call<Real> call(known_.spec);
    call.tape = tape_.get();
    run(call, true);
  }

  Known<Real>& known_;
  NastyCalls& calls_;
  const int every_;
  int next_;
  typename TestLayer<Real>::Held tape_;
  std::vector<Real> plain_[2], plain_back_, parameters_;
};

template <class Real>
using NastyCall = Call<Real>;

template <class Real>
void rows_and_columns(Sweep<Real>& s) {
  using C = Call<Real>&;
  const Index width = s.spec().width;
  const bool scored = s.known().scored();
  for (const Index d : {-1, 1}) {
    const std::string by = d < 0 ? " less" : " more";
    s.forward("x with a row" + by, {shape}, [=](C c) { c.in.x = c.other(c.tokens + d, width); });
    s.forward("x with a column" + by, {shape, "x"}, [=](C c) { c.in.x = c.other(c.tokens, width + d); });
    s.forward("router_x with a row" + by, {shape, "router_x"},
              [=](C c) { c.in.router_x = c.other(c.tokens + d, width); });
    s.forward("router_x with a column" + by, {scored ? shape : shape | answer, "router_x"},
              [=](C c) { c.in.router_x = c.other(c.tokens, width + d); });
    s.forward("y with a row" + by, {shape, "y"},
              [=](C c) { c.out.y = c.memory.template rows<Real>("y", c.tokens + d, width); });
    s.forward("y with a column" + by, {shape, "y"},
              [=](C c) { c.out.y = c.memory.template rows<Real>("y", c.tokens, width + d); });
    moe::InputColumns<Real>::each([&](const char* name, auto column, moe::ColumnSize size) {
      using Column = std::remove_cvref_t<decltype(std::declval<moe::LayerInput<Real>&>().*column)>;
      s.forward(std::string(name) + " with an entry" + by, {shape, name}, [=](C c) {
        const Index n = (size == moe::ColumnSize::experts ? c.stats.experts() : c.tokens) + d;
        if constexpr (requires { typename Column::value_type; }) {
          using Entry = typename Column::value_type;
          Entry* const data = c.memory.template take<Entry>(name, n);
          std::fill(data, data + n, Entry{});
          c.in.*column = Column(data, static_cast<std::size_t>(n));
        } else {
          using Entry = std::remove_const_t<std::remove_pointer_t<decltype(Column::data)>>;
          c.in.*column = c.memory.template rows<Entry>(name, n, c.outputs, std::vector<Entry>{0});
        }
      });
      if constexpr (!requires { typename Column::value_type; }) {
        if (d < 0) return;
        s.forward(std::string(name) + " of no rows", {shape, name}, [=](C c) {
          using Entry = std::remove_const_t<std::remove_pointer_t<decltype(Column::data)>>;
          c.in.*column = c.memory.template rows<Entry>(name, 0, c.outputs);
        });
        s.forward(std::string(name) + " of no rows and no memory", {shape, name},
                  [=](C c) { c.in.*column = Column(nullptr, 0, c.outputs); });
      }
    });
    s.forward("logit_mask with a column" + by, {scored ? shape : config, "logit_mask"},
              [=](C c) { c.in.logit_mask = c.other(c.tokens, c.outputs + d); });
  }
  s.forward("x empty", {shape, "x"}, [](C c) { c.in.x = {}; });
  s.forward("y empty", {shape, "y"}, [](C c) { c.out.y = {}; });
  s.forward("x of no rows", {shape}, [=](C c) { c.in.x = c.other(0, width); });
  s.forward("y of no rows", {shape, "y"},
            [=](C c) { c.out.y = c.memory.template rows<Real>("y", 0, width); });
  s.forward("x of 2^31 rows", {size | shape, "x"},
            [](C c) { c.in.x = ConstMatrixView<Real>(c.x.data, Index{1} << 31, c.width); });
  s.forward("y of 2^40 rows", {shape, "y"},
            [](C c) { c.out.y = MatrixView<Real>(c.out.y.data, Index{1} << 40, c.width); });
  s.forward("router_x of 2^40 rows", {shape, "router_x"},
            [](C c) { c.in.router_x = ConstMatrixView<Real>(c.x.data, Index{1} << 40, c.width); });
  s.forward("columns that nobody reads", {answer}, [](C c) {
    std::int32_t* const task =
        c.memory.template copy<std::int32_t>("task", std::vector<std::int32_t>(c.tokens, -7));
    c.in.task = c.in.adapter = std::span<const std::int32_t>(task, static_cast<std::size_t>(c.tokens));
    c.in.features = c.memory.template rows<Real>("features", c.tokens, 2);  // NaN
  });
}

template <class Real>
void overlaps(Sweep<Real>& s) {
  using C = Call<Real>&;
  const auto shifted = [](const auto& view, Index by) {
    auto moved = view;
    moved.data += by;
    return moved;
  };
  s.forward("y is x", {shape, "y"}, [](C c) { c.out.y = c.x; });
  for (const Index by : {1, -1}) {
    s.forward("y an element from x", {shape, "y"}, [=](C c) { c.out.y = shifted(c.x, by); });
  }
  s.forward("y begins in the last row of x", {shape, "y"}, [](C c) {
    Real* const both = c.memory.template take<Real>("x and y", 3 * c.tokens * c.width);
    std::fill(both, both + 3 * c.tokens * c.width, Real(0));
    c.in.x = ConstMatrixView<Real>(both, c.tokens, c.width);
    c.out.y = MatrixView<Real>(both + c.tokens * c.width - 1, c.tokens, c.width);
  });
  s.forward("y beside x in the same rows", {answer}, [](C c) {
    const MatrixView<Real> both = c.memory.template rows<Real>("x and y", c.tokens, 2 * c.width);
    for (Index t = 0; t < c.tokens; ++t) std::copy(c.x.row(t), c.x.row(t) + c.width, both.row(t));
    c.in.x = ConstMatrixView<Real>(both.data, c.tokens, c.width, both.stride);
    c.out.y = MatrixView<Real>(both.data + c.width, c.tokens, c.width, both.stride);
  });
  s.forward("y is router_x", {shape, "y"}, [](C c) { c.in.router_x = c.out.y; });
  s.forward("router_x is x", {answer}, [](C c) { c.in.router_x = c.x; });
  s.forward("router_x has the numbers of x", {answer}, [](C c) {
    const MatrixView<Real> copy = c.memory.template rows<Real>("router_x", c.tokens, c.width);
    for (Index t = 0; t < c.tokens; ++t) std::copy(c.x.row(t), c.x.row(t) + c.width, copy.row(t));
    c.in.router_x = copy;
  });
}

template <class Real>
void numbers(Sweep<Real>& s) {
  using C = Call<Real>&;
  const bool scored = s.known().scored(), isolates = s.spec().non_finite == moe::NonFinite::isolate_row;
  const unsigned refused = !scored || isolates ? answer : numeric;
  for (const auto& [name, value] :
       {std::pair{"NaN", kNan<Real>}, {"inf", kInf<Real>}, {"-inf", -kInf<Real>}}) {
    s.forward(std::string(name) + " in x", {refused, "logits"},
              [v = value](C c) { c.x(0, 2) = v, c.free = Free::first_row; });
    s.forward(std::string(name) + " in padding", {answer}, [v = value](C c) {
      c.x(0, 2) = v, c.free = Free::first_row, c.valid[0] = false;
      c.in.valid = std::span<const bool>(c.valid, static_cast<std::size_t>(c.tokens));
    });
    s.forward(std::string(name) + " in router_x", {refused, "logits"}, [v = value](C c) {
      const MatrixView<Real> rows =
          c.memory.template rows<Real>("router_x", c.tokens, c.width, normal_numbers<Real>());
      rows(0, 1) = v, c.in.router_x = rows, c.free = Free::first_row;
    });
    const bool masks = std::strcmp(name, "-inf") == 0;
    const unsigned masked = !scored ? config : isolates || masks ? answer : numeric;
    s.forward(std::string(name) + " in logit_mask", {masked, scored ? "logits" : "logit_mask"},
              [v = value](C c) { c.mask(0, 1) = v, c.in.logit_mask = c.mask, c.free = Free::first_row; });
    s.forward(std::string(name) + " all over a row of logit_mask",
              {!scored    ? config
               : isolates ? answer
                          : numeric,
               scored ? "logits" : "logit_mask"},
              [v = value](C c) {
                for (Index e = 0; e < c.outputs; ++e) c.mask(0, e) = v;
                c.in.logit_mask = c.mask, c.free = Free::first_row;
              });
  }
  s.forward("huge numbers in x", {answer | numeric},
            [](C c) { c.x(0, 1) = Real(1e30), c.x(0, 2) = Real(-1e35), c.free = Free::first_row; });
  s.forward("denormal numbers in x", {answer}, [](C c) {
    for (Index j = 0; j < c.width; ++j) c.x(0, j) = std::numeric_limits<Real>::denorm_min();
    c.free = Free::first_row;
  });
  s.forward("only padding", {answer}, [](C c) {
    std::fill(c.valid, c.valid + c.tokens, false);
    c.in.valid = std::span<const bool>(c.valid, static_cast<std::size_t>(c.tokens));
    c.free = Free::everything;
  });
  for (const moe::TokenId id :
       {-1, 11, std::numeric_limits<moe::TokenId>::max(), std::numeric_limits<moe::TokenId>::min()}) {
    s.forward("token id " + std::to_string(id), {scored ? answer : routing, "token_id"},
              [=](C c) { c.token_id[3] = id; });
  }
  s.forward("no token ids", {scored ? answer : config, "token_id"}, [](C c) { c.in.token_id = {}; });
}

template <class Real>
void options_and_segments(Sweep<Real>& s) {
  using C = Call<Real>&;
  const bool scored = s.known().scored();
  for (const Index k : {Index{-1}, Index{9}, Index{1} << 40, PTRDIFF_MAX, -PTRDIFF_MAX}) {
    s.forward("K of " + std::to_string(k), {config, "experts per token"},
              [=](C c) { c.in.options.experts_per_token = k; });
  }
  const std::pair<const char*, double moe::CallOptions::*> options[] = {
      {"capacity factor", &moe::CallOptions::capacity_factor},
      {"temperature", &moe::CallOptions::temperature},
      {"threshold", &moe::CallOptions::threshold},
      {"p", &moe::CallOptions::p}};
  for (const auto& [name, option] : options) {
    for (const double v : {-1.0, std::nan(""), double{kInf<double>}, -double{kInf<double>}, 1e300, 1e-310}) {
      const bool bad = !(v >= 0) || std::isinf(v);
      s.forward(std::string(name) + " of " + std::to_string(v),
                {bad ? config : config | answer | numeric, bad ? name : ""},
                [v, o = option](C c) { c.in.options.*o = v, c.free = Free::everything; });
    }
    if (!scored) {
      s.forward(std::string(name) + " of a router without scores", {config, name},
                [o = option](C c) { c.in.options.*o = 0.5; });
    }
  }
  const auto segments = [&](const char* name, std::vector<Index> offsets) {
    s.forward(std::string("segments ") + name, {shape, "segments"}, [offsets](C c) {
      c.in.segments =
          moe::Segments(std::span<const Index>(c.memory.copy("offsets", offsets), offsets.size()));
    });
  };
  segments("of one offset", {0});
  segments("that begin late", {1, kTokens});
  segments("that begin before", {-1, kTokens});
  segments("that end early", {0, kTokens - 1});
  segments("that end late", {0, kTokens + 1});
  segments("that fall", {0, 3, 2, kTokens});
  segments("that jump", {0, PTRDIFF_MAX, kTokens});
  segments("that jump back", {0, -PTRDIFF_MAX, kTokens});
  s.forward("segments of 2 rows", {shape, "segments"},
            [](C c) { c.in.segments = moe::Segments::uniform(2); });
  s.forward("empty segments", {answer}, [](C c) {
    c.in.segments = moe::Segments(std::span<const Index>(
        c.memory.template copy<Index>("offsets", {0, 0, c.tokens / 2, c.tokens / 2, c.tokens, c.tokens}), 6));
    c.free = Free::everything;  // losses aside, but segments are those of the plain call
  });
  s.one(
      "no segments", {s.known().coupled() ? config : answer, "segments"}, [](C c) { c.in.segments = {}; },
      false);
}

template <class Real>
void memory(Sweep<Real>& s) {
  using C = Call<Real>&;
  auto& layer = *s.known().layer;
  for (const bool train : {false, true}) {
    const Index bytes =
        layer.workspace_bytes({kTokens, 2}, train ? moe::Mode::training : moe::Mode::inference, 1);
    s.one(
        "a workspace of just the size", {answer}, [=](C c) { c.fix(bytes); }, train);
    if (!train)
      s.one(
          "a workspace a byte too small", {workspace, "workspace"}, [=](C c) { c.fix(bytes - 1); }, train);
    s.one(
        "a workspace of a byte", {workspace, "workspace"}, [=](C c) { c.fix(1); }, train);
    s.one(
        "a workspace of nothing", {workspace, "workspace"},
        [](C c) { c.own = moe::Workspace(std::span<std::byte>()); }, train);
  }
  s.forward("a workspace moved from", {answer}, [](C c) {
    c.own.reserve(1 << 16);
    const moe::Workspace gone(std::move(c.own));
  });
  s.forward("statistics of another layer", {shape, "statistics"},
            [](C c) { c.stats.load.assign(3, 1), c.stats.gate_mass.assign(3, 1); });
  s.forward("no statistics", {answer}, [](C c) { c.out.stats = nullptr; });
  s.one(
      "a tape moved from", {answer}, [&](C c) { layer.move_tape(c.tape); }, true);
  using Mode = moe::Mode;
  for (const auto& [name, tokens] : {std::pair<const char*, Index>{"-1 tokens", -1},
                                     {"2^62 tokens", Index{1} << 62},
                                     {"2^55 tokens", Index{1} << 55},
                                     {"as many tokens as there are", PTRDIFF_MAX},
                                     {"the fewest tokens", -PTRDIFF_MAX}}) {
    for (const Mode mode : {Mode::inference, Mode::training}) {
      s.other(std::string("workspace_bytes of ") + name, {size | shape | config}, [&, n = tokens] {
        layer.workspace_bytes({n, 1}, mode, 1);
      });
    }
  }
  s.other("workspace_bytes of a K beyond E", {config | answer}, [&] {
    layer.workspace_bytes({kTokens, 1, {.experts_per_token = 9}}, Mode::inference, 1);
  });
  s.other("workspace_bytes of many workers", {size | answer}, [&] {
    layer.workspace_bytes({kTokens, 1}, Mode::training, PTRDIFF_MAX / 8);
  });
}

template <class Real>
void no_tokens(Sweep<Real>& s) {
  using C = Call<Real>&;
  const auto held = s.known().layer->make_tape();
  void* const tape = held.get();
  const auto none = [&](const std::string& name, const Ends& want,
                        const typename Sweep<Real>::Change& change) {
    s.forward(
        "no tokens, " + name, want, [&](C c) { c.tape = tape, c.free = Free::everything, change(c); }, 0);
    if (want.endings != answer) return;
    s.backward("no tokens, " + name, {answer}, [&](BackCall<Real>& b) {
      b.tape = tape, b.any = true;
      b.rows.dy = b.other(0, b.width), b.rows.dx = b.other(0, b.width);
    });
  };
  s.always(
      "no tokens", {answer}, [&](C c) { c.tape = tape, c.free = Free::everything; }, true, 0);
  none("views of nothing", {answer}, [](C) {});
  none("null views", {answer}, [](C c) {
    c.in.x = ConstMatrixView<Real>(nullptr, 0, c.width), c.out.y = MatrixView<Real>(nullptr, 0, c.width);
  });
  none("router_x of nothing", {answer}, [](C c) { c.in.router_x = c.other(0, c.width); });
  none("one segment", {answer}, [](C c) {
    c.in.segments = moe::Segments(std::span<const Index>(c.memory.template copy<Index>("offsets", {0}), 1));
  });
  none("a mask of no rows", {s.known().scored() ? answer : answer | config, "logit_mask"},
       [](C c) { c.in.logit_mask = c.other(0, c.outputs); });
  none("segments of rows", {shape, "segments"}, [](C c) {
    c.in.segments =
        moe::Segments(std::span<const Index>(c.memory.template copy<Index>("offsets", {0, 1}), 2));
  });
  none("y of a row", {shape, "y"}, [](C c) { c.out.y = c.memory.template rows<Real>("y", 1, c.width); });
  none("router_x of a row", {shape, "router_x"}, [](C c) { c.in.router_x = c.other(1, c.width); });
}

template <class Real>
void backwards(Sweep<Real>& s) {
  using B = BackCall<Real>&;
  auto& layer = *s.known().layer;
  const Index width = s.spec().width;
  for (const Index d : {-1, 1}) {
    s.backward("dy with other rows", {shape | state}, [=](B b) { b.rows.dy = b.other(kTokens + d, width); });
    s.backward("dy with other columns", {shape, "dy"}, [=](B b) { b.rows.dy = b.other(kTokens, width + d); });
    s.backward("dx with other rows", {shape, "dx"}, [=](B b) { b.rows.dx = b.other(kTokens + d, width); });
    s.backward("dx with other columns", {shape, "dx"}, [=](B b) { b.rows.dx = b.other(kTokens, width + d); });
    s.backward("dx an element from dy", {shape, "dx"}, [=](B b) {
      const MatrixView<Real> both = b.other(kTokens, width);
      b.rows.dy = both, b.rows.dx = both, b.rows.dx.data += d;
    });
  }
  s.backward("dy empty", {shape | state}, [](B b) { b.rows.dy = {}; });
  s.backward("dy of 2^40 rows", {shape | state},
             [](B b) { b.rows.dy = ConstMatrixView<Real>(b.rows.dy.data, Index{1} << 40, b.width); });
  s.backward("dx of 2^40 rows", {shape, "dx"},
             [](B b) { b.rows.dx = MatrixView<Real>(b.rows.dx.data, Index{1} << 40, b.width); });
  s.backward("dx is dy", {shape, "dx"}, [=](B b) { b.rows.dy = b.rows.dx = b.other(kTokens, width); });
  s.backward("dx beside dy in the same rows", {answer}, [=](B b) {
    const MatrixView<Real> both = b.other(kTokens, 2 * width);
    for (Index t = 0; t < kTokens; ++t) std::copy(b.rows.dy.row(t), b.rows.dy.row(t) + width, both.row(t));
    b.rows.dy = ConstMatrixView<Real>(both.data, kTokens, width, both.stride);
    b.rows.dx = MatrixView<Real>(both.data + width, kTokens, width, both.stride);
  });
  s.backward("no dx", {answer}, [](B b) { b.rows.dx = {}, b.any = true; });
  s.backward("no gradients", {answer}, [](B b) { b.gradients = nullptr, b.any = true; });
  s.backward("router_dx of a call without router_x", {config, "router_dx"},
             [=](B b) { b.rows.router_dx = b.other(kTokens, width); });
  s.backward("an empty tape", {state, "tape"}, [&, held = layer.make_tape()](B b) { b.tape = held.get(); });
  s.backward("a workspace of a byte", {workspace, "workspace"}, [](B b) {
    b.own = moe::Workspace(std::span(b.memory.template take<std::byte>("workspace", 1), 1));
  });
  for (const Real v : {kNan<Real>, kInf<Real>, Real(1e35)}) {
    s.backward("dy of no number", {answer | numeric, "dy"}, [=](B b) {
      const MatrixView<Real> dy = b.other(kTokens, width);
      dy(1, 1) = v, b.rows.dy = dy, b.any = true;
    });
    s.backward("auxiliary_scale of no number", {std::isfinite(v) ? answer : config, "auxiliary_scale"},
               [=](B b) { b.rows.auxiliary_scale = static_cast<double>(v), b.any = true; });
  }

  // Gradients from outside.
  const bool scored = s.known().scored();
  const Index outputs = s.spec().outputs, pairs = s.pairs();
  const unsigned obeyed = scored ? unsigned{answer} : unsigned{config};
  s.backward("dlogit of zeros", {obeyed, "dlogit"},
             [=](B b) { b.rows.dlogit = b.memory.rows("dlogit", kTokens, outputs, std::vector<Real>{0}); });
  for (const Index d : {-1, 1}) {
    const unsigned refused = scored ? unsigned{shape} : unsigned{config};
    s.backward("dlogit with other rows", {refused, "dlogit"},
               [=](B b) { b.rows.dlogit = b.other(kTokens + d, outputs); });
    s.backward("dlogit with other columns", {refused, "dlogit"},
               [=](B b) { b.rows.dlogit = b.other(kTokens, outputs + d); });
  }
  s.backward("dlogit is dx", {unsigned{shape} | config, "dlogit"}, [=](B b) { b.rows.dlogit = b.rows.dx; });
  for (const Real v : {kNan<Real>, kInf<Real>, -kInf<Real>}) {
    s.backward("dlogit of no number", {scored ? numeric : config, "dlogit"}, [=](B b) {
      const MatrixView<Real> dlogit = b.other(kTokens, outputs);
      dlogit(kTokens - 1, 0) = v, b.rows.dlogit = dlogit;
    });
  }
  for (const Index n : {Index{1}, kTokens, kTokens + 1}) {
    s.backward("advantages of choices that nobody drew", {config, "advantage"}, [=](B b) {
      const std::vector<double> values(static_cast<std::size_t>(n), 1.0);
      b.rows.advantage = std::span(b.memory.copy("advantage", values), values.size());
    });
  }
  const auto frozen = [=](B b, Index n, bool value) {
    bool* const flags = b.memory.template take<bool>("frozen_pair", n);
    std::fill(flags, flags + n, value);
    b.rows.frozen_pair = std::span<const bool>(flags, static_cast<std::size_t>(n));
  };
  s.backward("no pair frozen", {answer}, [=](B b) { frozen(b, pairs, false); });
  s.backward("every pair frozen", {answer}, [=](B b) { frozen(b, pairs, true), b.any = true; });
  for (const Index d : {-1, 1}) {
    s.backward("frozen pairs of another table", {shape, "frozen_pair"},
               [=](B b) { frozen(b, pairs + d, false); });
  }

  // What was moved from: the tape is empty, the gradients are not this layer's.
  const auto tape = layer.make_tape(), gradients = layer.make_gradients();
  s.always(
      "into another tape", {answer}, [&](Call<Real>& c) { c.tape = tape.get(); }, true);
  s.backward("another tape", {answer}, [&](B b) { b.tape = tape.get(); });
  layer.move_tape(tape.get());
  s.backward("a tape moved from", {state, "tape"}, [&](B b) { b.tape = tape.get(); });
  layer.move_gradients(gradients.get());
  s.other("backward into gradients moved from", {shape, "gradients"}, [&] {
    BackCall<Real> b(kTokens, width);
    moe::SerialExecutor serial;
    layer.back(s.tape(), b.rows, gradients.get(), b.own, AnyExecutor(serial));
  });

  // A call with rows of its own for the router.
  const auto separate = layer.make_tape();
  s.always(
      "router_x on the tape", {answer},
      [&](Call<Real>& c) {
        c.tape = separate.get(), c.in.router_x = c.other(c.tokens, width), c.free = Free::everything;
      },
      true);
  const auto back = [&](const std::string& name, const Ends& want,
                        const typename Sweep<Real>::ChangeBack& change) {
    s.backward(name, want, [&](B b) { b.tape = separate.get(), b.any = true, change(b); });
  };
  back("no router_dx", {answer}, [](B) {});
  back("router_dx", {answer}, [=](B b) { b.rows.router_dx = b.other(kTokens, width); });
  back("router_dx with a row less", {shape, "router_dx"},
       [=](B b) { b.rows.router_dx = b.other(kTokens - 1, width); });
  back("router_dx with a column more", {shape, "router_dx"},
       [=](B b) { b.rows.router_dx = b.other(kTokens, width + 1); });
  back("router_dx is dx", {shape, "router_dx"}, [](B b) { b.rows.router_dx = b.rows.dx; });
  back("router_dx is dy", {shape, "router_dx"},
       [=](B b) { b.rows.dy = b.rows.router_dx = b.other(kTokens, width); });
}

/// Tapes and gradients of the other layers.
template <class Real>
void strangers(Sweep<Real>& s, std::vector<Known<Real>>& all) {
  Known<Real>& own = s.known();
  for (Known<Real>& other : all) {
    if (other.layer->type() != own.layer->type()) continue;
    const unsigned taken = other.shapes == own.shapes ? answer | shape : shape;
    s.backward("gradients of " + other.name, {taken, "gradients"}, [&](BackCall<Real>& b) {
      b.gradients = other.gradients.get(), b.owner = &other, b.any = true;
    });
    s.backward("the tape of " + other.name, {&other == &own ? answer : state, "tape"},
               [&](BackCall<Real>& b) { b.tape = other.tape.get(), b.any = true; });
    double sum = 0;
    s.other("visit_parameters, gradients of " + other.name, {taken, "gradients"}, [&] {
      own.layer->visit_gradients(other.gradients.get(), [&](const std::string&, moe::ParameterView<Real>,
                                                            moe::ParameterView<Real> g) {
        for (Index o = 0; o < g.rows; ++o) {
          for (Index i = 0; i < g.cols; ++i) sum += static_cast<double>(g(o, i));
        }
      });
    });
    s.other("visit_storage, gradients of " + other.name, {taken, "gradients"}, [&] {
      own.layer->visit_ranges(other.gradients.get(), [&](const std::string&, Real*, Real* g, Index n) {
        for (Index i = 0; i < n; ++i) sum += static_cast<double>(g[i]);
      });
    });
    CHECK(std::isfinite(sum));
    if (!s.its_turn()) continue;
    const auto tape = other.layer->make_tape();
    Call<Real> filled(other.spec);
    moe::SerialExecutor serial;
    other.layer->train(filled.in, filled.out, tape.get(), filled.own, AnyExecutor(serial));
    s.always(
        "over the tape of " + other.name, {answer}, [&](Call<Real>& c) { c.tape = tape.get(); }, true);
  }
}

/// A batch of rows for a bank alone, two for every expert or none at all.
template <class Real>
struct BankCall {
  GuardedMemory memory;
  std::vector<const Real*> row, dy, result, dx_result;
  std::vector<std::int32_t> token;
  std::vector<Index> offsets;
  MatrixView<Real> z, dx, weight;
  Real* dweight;
  moe::RowBatch<Real> batch;
  moe::RowSink<Real> sink;
  moe::RowGradients<Real> rows;

  BankCall(const ErasedBank<Real>& bank, Index each) {
    const Index slots = each * bank.experts();
    const MatrixView<Real> x = memory.rows<Real>("x", slots, bank.width(), normal_numbers<Real>());
    z = memory.rows<Real>("z", slots, bank.width());
    dx = memory.rows<Real>("dx", slots, bank.width());
    weight = memory.rows<Real>("weight", 1, slots, std::vector<Real>{Real(0.5)});
    dweight = memory.take<Real>("dweight", slots);
    for (Index s = 0; s < slots; ++s) {
      row.push_back(x.row(s)), dy.push_back(x.row(slots - 1 - s));
      result.push_back(z.row(s)), dx_result.push_back(dx.row(s));
      token.push_back(static_cast<std::int32_t>(s));
    }
    for (Index e = 0; e <= bank.experts(); ++e) offsets.push_back(e * each);
    batch = {row.data(), token.data(), offsets.data(), bank.experts()};
    sink = {z.data, z.stride, result.data()};
    rows = {dy.data(), weight.data, dweight, {dx.data, dx.stride, dx_result.data()}};
  }
  /// An arena of a share of what is measured.
  template <class Measure>
  moe::Arena arena(double share, const Measure& measure) {
    moe::Arena measuring;
    measure(measuring);
    scratch.assign(static_cast<std::size_t>(share * double(measuring.bytes())), std::byte{0xFF});
    return {scratch.data(), static_cast<Index>(scratch.size())};
  }
  std::string changed() {
    memory.take_back(z), memory.take_back(dx);
    memory.restore(dweight, row.size() * sizeof(Real));
    return memory.changed();
  }
  std::vector<std::byte> scratch;
};

template <class Real>
void banks(Sweep<Real>& s, std::vector<Known<Real>>& all, NastyCalls& calls) {
  const ErasedBank<Real>& bank = s.known().layer->bank();
  moe::SerialExecutor serial;
  const AnyExecutor executor(serial);
  const auto tape = bank.make_tape(), gradients = bank.make_gradients();
  using C = BankCall<Real>&;
  const auto run = [&](const std::string& what, const Ends& want, Index each, double share, const auto& f) {
    BankCall<Real> call(bank, each);
    call.memory.remember();
    const Outcome got = outcome_of([&] { f(call, share); });
    calls.check(s.known().name + ", bank alone, " + what, want, got, call.changed());
  };
  const auto forward_arena = [&](C c, double share) {
    return c.arena(share, [&](moe::Arena& a) { bank.measure(a, c.batch.slots()); });
  };
  const auto forward = [&](C c, double share) {
    moe::Arena a = forward_arena(c, share);
    bank.forward(c.batch, c.sink, a, executor);
  };
  const auto train = [&](void* to) {
    return [&, to](C c, double share) {
      moe::Arena a = forward_arena(c, share);
      bank.forward_train(c.batch, c.sink, to, a, executor);
    };
  };
  const auto back = [&](const void* from, void* g) {
    return [&, from, g](C c, double share) {
      moe::Arena a = c.arena(share, [&](moe::Arena& m) { bank.measure_backward(m, c.batch.slots()); });
      bank.backward(c.batch, from, c.rows, g, a, executor);
    };
  };
  for (const Index each : {0, 2}) {
    run("forward", {answer}, each, 1, forward);
    run("backward of an empty tape", {state, "tape"}, each, 1, back(bank.make_tape().get(), nullptr));
    run("forward_train", {answer}, each, 1, train(tape.get()));
    run("backward", {answer}, each, 1, back(tape.get(), gradients.get()));
    run("backward, frozen", {answer}, each, 1, back(tape.get(), nullptr));
    run("backward of another batch", {state, "tape"}, 2 - each, 1, back(tape.get(), gradients.get()));
  }
  run("forward in a small arena", {workspace, "workspace"}, 2, 0.1, forward);
  run("forward_train in a small arena", {workspace, "workspace"}, 2, 0.02, train(bank.make_tape().get()));
  run("backward in a small arena", {workspace, "workspace"}, 2, 0.1, back(tape.get(), gradients.get()));
  for (Known<Real>& other : all) {
    if (!s.its_turn()) continue;
    const unsigned taken = other.bank_shapes == s.known().bank_shapes ? answer | shape : shape;
    const ErasedBank<Real>& theirs = other.layer->bank();
    run("gradients of " + other.name, {taken, "gradients"}, 2, 1,
        back(tape.get(), theirs.make_gradients().get()));
    const auto strange = theirs.make_tape();
    BankCall<Real> filled(theirs, 2);
    moe::Arena arena = filled.arena(1, [&](moe::Arena& a) { theirs.measure(a, filled.batch.slots()); });
    theirs.forward_train(filled.batch, filled.sink, strange.get(), arena, executor);
    // A bank knows the tapes of others by their sizes alone; the layer knows whose they are.
    run("the tape of " + other.name, {answer | state, "tape"}, 2, 1, back(strange.get(), gradients.get()));
  }
  bank.move_tape(tape.get());
  run("a tape moved from", {state, "tape"}, 2, 1, back(tape.get(), gradients.get()));
  run("into a tape moved from", {answer}, 2, 1, train(tape.get()));
  bank.move_gradients(gradients.get());
  run("gradients moved from", {shape, "gradients"}, 2, 1, back(tape.get(), gradients.get()));
  run("after all that", {answer}, 2, 1, back(tape.get(), bank.make_gradients().get()));
}

/// A layer that was moved from.
template <class Real>
void moved(Sweep<Real>& s) {
  const LayerSpec& spec = s.spec();
  const auto gone = make_layer<Real>(spec), kept = gone->taken();
  Known<Real>& known = s.known();
  const auto refuses = [&](const char* name, const std::function<void()>& call) {
    s.other(std::string("moved from, ") + name, {state, "layer"}, call);
  };
  moe::SerialExecutor serial;
  Call<Real> call(spec);
  call.memory.remember();
  BackCall<Real> back(kTokens, spec.width);
  const auto tape = kept->make_tape();
  refuses("forward", [&] { gone->forward(call.in, call.out, call.own, AnyExecutor(serial)); });
  refuses("forward_train",
          [&] { gone->train(call.in, call.out, tape.get(), call.own, AnyExecutor(serial)); });
  refuses("backward",
          [&] { gone->back(s.tape(), back.rows, known.gradients.get(), back.own, AnyExecutor(serial)); });
  CHECK(call.memory.changed().empty());
  s.other("moved to, forward", {answer},
          [&] { kept->forward(call.in, call.out, call.own, AnyExecutor(serial)); });
  CHECK(!call.memory.take_back(call.out.y).empty());
}

/// Every n-th call; returns how many.
template <class Real>
int sweep(int every) {
  NastyCalls calls;
  int first = 0;
  std::vector<Known<Real>> layers;
  for (const LayerCase& c : nasty_layers()) {
    if (runs_in<Real>(c)) layers.emplace_back(c);
  }
  for (Known<Real>& known : layers) {
    Call<Real> call(known.spec);
    moe::SerialExecutor serial;
    known.layer->train(call.in, call.out, known.tape.get(), call.own, AnyExecutor(serial));
  }
  for (Known<Real>& known : layers) {
    Sweep<Real> s(known, calls, every, first++);
    rows_and_columns(s);
    overlaps(s);
    numbers(s);
    options_and_segments(s);
    memory(s);
    no_tokens(s);
    backwards(s);
    strangers(s, layers);
    banks(s, layers, calls);
    moved(s);
  }
  return calls.count();
}

}  // namespace

TEST_CASE("nasty calls of layers end in documented exceptions or right answers", "[proof]") {
  CHECK(sweep<float>(5) + sweep<double>(5) >= 8000);
}

TEST_CASE("some nasty calls of layers", "[smoke]") {
  CHECK(sweep<float>(17) + sweep<double>(17) >= 2000);
}

TEST_CASE("all nasty calls of layers", "[.][nasty]") {  // by hand: 42 000, some seconds
  CHECK(sweep<float>(1) + sweep<double>(1) >= 40000);
}
