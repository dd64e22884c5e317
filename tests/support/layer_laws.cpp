#include "support/layer_laws.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <random>

#include "moe/core/check.hpp"
#include "moe/executor/pool.hpp"
#include "support/catch.hpp"
#include "support/counted_malloc.hpp"
#include "support/same_bits.hpp"

namespace test {
namespace {

using Values = std::vector<double>;
using Made = std::unique_ptr<ErasedLayer>;

/// Draws are the same in every call; the scale of the losses is no power of two.
constexpr std::uint64_t kDraws = 3;
constexpr double kScale = 0.8;

class Laws {
 public:
  Laws(std::function<Made()> make, std::function<Made()> other, LayerCall call)
      : make_(std::move(make)), other_(std::move(other)), call_(std::move(call)), layer_(made(make_)) {
    std::mt19937_64 random(call_.seed);
    std::normal_distribution<double> normal;
    width_ = layer_->width();
    x_.resize(static_cast<std::size_t>(call_.tokens * width_));
    dy_.resize(x_.size());
    for (double& v : x_) v = normal(random);
    for (double& v : dy_) v = normal(random);
    rows_.resize(static_cast<std::size_t>(call_.tokens));
    std::iota(rows_.begin(), rows_.end(), Index{0});
    if (layer_->coupling(true) != moe::Coupling::row_independent ||
        layer_->coupling(false) != moe::Coupling::row_independent) {
      ends_ = call_.ends;
    }
  }

  void check() {
    forward_is_forward_train();
    threads_change_nothing();
    rows_stand_alone();
    memory_is_exact();
    no_rows();
    if (call_.padding) padding_is_nothing();
    foreign_things_are_refused();
    if (call_.gradients) gradients_are_differences();
  }

 private:
  /// One call: rows by number, with their segments and columns.
  struct Call {
    std::vector<Index> rows, ends;
    Values x, y;
    std::vector<std::uint64_t> keys;
    std::unique_ptr<bool[]> valid;
    moe::DrawCounter draws{kDraws};
    moe::LayerInput<double> in;
    moe::LayerOutput<double> out;
  };
  struct Results {
    Values y, dx, gradients;
    double losses = 0;
    bool operator==(const Results& b) const {
      return same_bits(y, b.y) && same_bits(dx, b.dx) && same_bits(gradients, b.gradients) &&
             same_bits(Values{losses}, Values{b.losses});
    }
  };

  Made made(const std::function<Made()>& make) const {
    Made layer = make();
    if (!call_.draw_parameters) return layer;
    std::mt19937_64 random(call_.seed + 17);
    std::normal_distribution<double> normal;
    const ErasedLayer::Held gradients = layer->make_gradients();
    layer->visit(gradients.get(), [&](const moe::Parameter<double>& p) {
      const double scale = 1 / std::sqrt(static_cast<double>(p.value.cols));
      for (Index i = 0; i < p.value.size(); ++i) {
        p.value(i / p.value.cols, i % p.value.cols) = scale * normal(random);
      }
    });
    return layer;
  }

  Values taken(const Values& from, const std::vector<Index>& rows) const {
    Values to;
    for (const Index t : rows)
      to.insert(to.end(), from.begin() + t * width_, from.begin() + (t + 1) * width_);
    return to;
  }

  std::unique_ptr<Call> call(const std::vector<Index>& rows, const std::vector<Index>& ends) const {
    auto made = std::make_unique<Call>();
    made->rows = rows;
    made->ends = ends;
    made->x = taken(x_, rows);
    made->y.assign(made->x.size(), 7);
    const Index tokens = static_cast<Index>(rows.size());
    made->in = moe::LayerInput<double>(moe::ConstMatrixView<double>(made->x.data(), tokens, width_));
    for (const Index t : rows) made->keys.push_back(static_cast<std::uint64_t>(1000 + t));
    made->in.row_key = std::span<const std::uint64_t>(made->keys);
    made->in.draws = &made->draws;
    if (!ends.empty()) made->in.segments = moe::Segments(std::span<const Index>(made->ends));
    if (call_.columns) call_.columns(made->in, made->rows);
    made->out = moe::LayerOutput<double>(moe::MatrixView<double>(made->y.data(), tokens, width_));
    return made;
  }

  /// y, dx, gradients and losses of a training call.
  Results train(Call& call, AnyExecutor executor) const {
    const ErasedLayer::Held tape = layer_->make_tape(), gradients = layer_->make_gradients();
    moe::Workspace workspace;
    call.draws = moe::DrawCounter(kDraws);
    layer_->train(call.in, call.out, tape.get(), workspace, executor);
    Results results{call.y, Values(call.x.size(), 5), {}, call.out.losses.total()};
    const Values dy = taken(dy_, call.rows);
    const Index tokens = static_cast<Index>(call.rows.size());
    layer_->back(tape.get(), {{dy.data(), tokens, width_}, {results.dx.data(), tokens, width_}, kScale},
                 gradients.get(), workspace, executor);
    layer_->visit(gradients.get(), [&](const moe::Parameter<double>& p) {
      for (Index i = 0; i < p.gradient.size(); ++i)
        results.gradients.push_back(p.gradient(i / p.gradient.cols, i % p.gradient.cols));
    });
    return results;
  }

  Values forward(Call& call, AnyExecutor executor) const {
    moe::Workspace workspace;
    call.draws = moe::DrawCounter(kDraws);
    layer_->forward(call.in, call.out, workspace, executor);
    return call.y;
  }

  void forward_is_forward_train() {
    const auto call = this->call(rows_, ends_);
    for (const moe::Mode mode : {moe::Mode::inference, moe::Mode::training}) {
      call->in.mode = mode;
      const Values y = forward(*call, serial());
      call->y.assign(call->y.size(), 3);
      CHECK(same_bits(train(*call, serial()).y, y));
    }
  }

  void threads_change_nothing() {
    const auto call = this->call(rows_, ends_);
    const Results one = train(*call, serial());
    const Values y = forward(*call, serial());
    for (const Index workers : {2, 3, 8}) {
      CAPTURE(workers);
      moe::PoolExecutor pool(workers);
      CHECK(train(*call, AnyExecutor(pool)) == one);
      CHECK(same_bits(forward(*call, AnyExecutor(pool)), y));
    }
  }

  /// The rows of a part of the batch, in another order where the layer does not look at the order: a segment
  /// of a layer that couples rows, else any rows.
  void rows_stand_alone() {
    for (const bool training : {false, true}) {
      CAPTURE(training);
      const moe::Coupling coupling = layer_->coupling(training);
      if (coupling == moe::Coupling::per_batch) continue;
      const moe::Mode mode = training ? moe::Mode::training : moe::Mode::inference;
      const auto whole = call(rows_, ends_);
      whole->in.mode = mode;
      const Values y = forward(*whole, serial());
      std::vector<std::vector<Index>> parts;
      if (coupling == moe::Coupling::row_independent) {
        std::vector<Index> shuffled = rows_;
        std::shuffle(shuffled.begin(), shuffled.end(), std::mt19937_64(call_.seed));
        parts.push_back(shuffled);
        parts.push_back({rows_.back()});
        parts.push_back({rows_[1], rows_[0]});
      } else {
        for (std::size_t s = 1; s < ends_.size(); ++s) {
          std::vector<Index> part(static_cast<std::size_t>(ends_[s] - ends_[s - 1]));
          std::iota(part.begin(), part.end(), ends_[s - 1]);
          parts.push_back(part);
        }
      }
      for (const std::vector<Index>& part : parts) {
        std::vector<Index> ends;
        if (!ends_.empty()) ends = {0, static_cast<Index>(part.size())};
        const auto alone = call(part, ends);
        alone->in.mode = mode;
        CHECK(same_bits(forward(*alone, serial()), taken(y, part)));
      }
    }
  }

  /// workspace_bytes is what a call takes, no more and no less, and a warm call allocates nothing.
  void memory_is_exact() {
    for (const Index workers : {1, 3}) {
      CAPTURE(workers);
      moe::PoolExecutor pool(workers);
      const AnyExecutor executor(pool);
      const auto call = this->call(rows_, ends_);
      const Results want = train(*call, serial());
      const Values y = forward(*call, serial());
      const moe::CallShape shape{call_.tokens, call->in.segments.count(call_.tokens), call->in.options};
      const ErasedLayer::Held tape = layer_->make_tape(), gradients = layer_->make_gradients();
      const Values dy = dy_;
      Values dx(x_.size());
      const auto forward_in = [&](moe::Workspace& workspace) {
        call->draws = moe::DrawCounter(kDraws);
        layer_->forward(call->in, call->out, workspace, executor);
      };
      const auto train_in = [&](moe::Workspace& workspace) {
        call->draws = moe::DrawCounter(kDraws);
        layer_->train(call->in, call->out, tape.get(), workspace, executor);
        layer_->back(tape.get(),
                     {{dy.data(), call_.tokens, width_}, {dx.data(), call_.tokens, width_}, kScale},
                     gradients.get(), workspace, executor);
      };
      check_memory(shape, moe::Mode::inference, workers, forward_in, [&] { return same_bits(call->y, y); });
      check_memory(shape, moe::Mode::training, workers, train_in,
                   [&] { return same_bits(call->y, want.y) && same_bits(dx, want.dx); });
    }
  }
  template <class Run, class Same>
  void check_memory(const moe::CallShape& shape, moe::Mode mode, Index workers, const Run& run,
                    const Same& same) {
    const Index bytes = layer_->workspace_bytes(shape, mode, workers);
    std::vector<std::byte> memory(static_cast<std::size_t>(bytes) + 64, std::byte{0xFF});
    moe::Workspace fixed(std::span<std::byte>(memory.data(), static_cast<std::size_t>(bytes)));
    for (int i = 0; i < 4; ++i) run(fixed);  // tapes keep two calls by turns, and so do tapes on them
    CHECK(same());
    CHECK(std::all_of(memory.end() - 64, memory.end(), [](std::byte b) { return b == std::byte{0xFF}; }));
    CHECK(allocations_of([&] { run(fixed); }) == 0);
    moe::Workspace less(std::span<std::byte>(memory.data(), static_cast<std::size_t>(bytes - 64)));
    CHECK_THROWS_AS(run(less), moe::workspace_error);
  }

  void no_rows() {
    const auto none = call({}, ends_.empty() ? ends_ : std::vector<Index>{0});
    CHECK(forward(*none, serial()).empty());
    const Results results = train(*none, serial());
    for (const double g : results.gradients) CHECK(g == 0);
  }

  /// Rows that take no part are 0, have no gradient, and the others do not see what is in them.
  void padding_is_nothing() {
    const auto call = this->call(rows_, ends_);
    call->valid = std::make_unique<bool[]>(rows_.size());
    for (std::size_t t = 0; t < rows_.size(); ++t) call->valid[t] = t != 1 && t + 1 != rows_.size();
    call->in.valid = std::span<const bool>(call->valid.get(), rows_.size());
    const Results before = train(*call, serial());
    for (std::size_t t = 0; t < rows_.size(); ++t) {
      if (call->valid[t]) continue;
      for (Index j = 0; j < width_; ++j) {
        const std::size_t i = t * static_cast<std::size_t>(width_) + static_cast<std::size_t>(j);
        CHECK(before.y[i] == 0);
        CHECK(before.dx[i] == 0);
        call->x[i] = std::numeric_limits<double>::quiet_NaN();
      }
    }
    CHECK(train(*call, serial()) == before);
  }

  /// Tapes and gradients of another layer: state_error and shape_error, and nothing is written.
  void foreign_things_are_refused() {
    const auto call = this->call(rows_, ends_);
    const Made twin = made(make_);
    const ErasedLayer::Held tape = layer_->make_tape(), twins = twin->make_tape();
    moe::Workspace workspace;
    layer_->train(call->in, call->out, tape.get(), workspace, serial());
    call->draws = moe::DrawCounter(kDraws);
    twin->train(call->in, call->out, twins.get(), workspace, serial());
    const ErasedLayer::Held gradients = layer_->make_gradients(), empty = layer_->make_tape();
    Values dx(x_.size(), 5);
    const Values untouched = dx;
    const moe::MatrixView<double> out(dx.data(), call_.tokens, width_);
    const moe::ConstMatrixView<double> dy(dy_.data(), call_.tokens, width_);
    const auto back = [&](const void* from, const ErasedLayer::Back& rows, void* to) {
      layer_->back(from, rows, to, workspace, serial());
    };
    CHECK_THROWS_AS(back(twins.get(), {dy, out}, gradients.get()), moe::state_error);
    CHECK_THROWS_AS(back(empty.get(), {dy, out}, gradients.get()), moe::state_error);
    CHECK_THROWS_AS(back(tape.get(), {{dy_.data(), call_.tokens - 1, width_}, out}, gradients.get()),
                    moe::state_error);
    CHECK_THROWS_AS(back(tape.get(), {{dy_.data(), call_.tokens, width_ - 1, width_}, out}, gradients.get()),
                    moe::shape_error);
    CHECK_THROWS_AS(back(tape.get(), {dy, {dx.data(), call_.tokens, width_ - 1, width_}}, gradients.get()),
                    moe::shape_error);
    CHECK_THROWS_AS(back(tape.get(), {dy, out, std::nan("")}, gradients.get()), moe::config_error);
    if (other_) {
      const ErasedLayer::Held foreign = made(other_)->make_gradients();
      CHECK_THROWS_AS(back(tape.get(), {dy, out}, foreign.get()), moe::shape_error);
    }
    CHECK(same_bits(dx, untouched));
    layer_->visit(gradients.get(), [&](const moe::Parameter<double>& p) {
      for (Index i = 0; i < p.gradient.size(); ++i)
        REQUIRE(p.gradient(i / p.gradient.cols, i % p.gradient.cols) == 0);
    });
    moe::LayerOutput<double> narrow(moe::MatrixView<double>(dx.data(), call_.tokens, width_ - 1, width_));
    CHECK_THROWS_AS(layer_->forward(call->in, narrow, workspace, serial()), moe::shape_error);
    moe::LayerOutput<double> over(moe::MatrixView<double>(call->x.data(), call_.tokens, width_));
    CHECK_THROWS_AS(layer_->forward(call->in, over, workspace, serial()), moe::shape_error);
    if (layer_->carry_width() == 0) {
      Values carry(x_.size(), 5);
      moe::LayerOutput<double> asked(moe::MatrixView<double>(call->y.data(), call_.tokens, width_));
      asked.carry = moe::MatrixView<double>(carry.data(), call_.tokens, width_);
      CHECK_THROWS_AS(layer_->forward(call->in, asked, workspace, serial()), moe::config_error);
    }
    CHECK(same_bits(dx, untouched));
    CHECK(same_bits(call->x, x_));
    back(tape.get(), {dy, out}, nullptr);  // all frozen
  }

  double loss(Call& call) const {
    const ErasedLayer::Held tape = layer_->make_tape();
    moe::Workspace workspace;
    call.draws = moe::DrawCounter(kDraws);
    layer_->train(call.in, call.out, tape.get(), workspace, serial());
    double sum = kScale * call.out.losses.total();
    for (std::size_t i = 0; i < call.y.size(); ++i) sum += dy_[i] * call.y[i];
    return sum;
  }

  /// Differences over h and 2 h: (4 d(h) - d(2h)) / 3 is off by O(h^4), for which |d(h) - d(2h)| h / h is a
  /// generous bound, and by the roundings of the loss over h.
  void gradients_are_differences() {
    const auto call = this->call(rows_, ends_);
    const Results analytic = train(*call, serial());
    double size = std::abs(kScale * call->out.losses.total());
    for (std::size_t i = 0; i < call->y.size(); ++i) size += std::abs(dy_[i] * call->y[i]);
    int compared = 0;
    const auto compare = [&](const std::string& of, double& entry, double gradient) {
      const double h = call_.step, old = entry;
      const auto at = [&](double value) {
        entry = value;
        const double f = loss(*call);
        entry = old;
        return f;
      };
      const double near = (at(old + h) - at(old - h)) / (2 * h);
      const double far = (at(old + 2 * h) - at(old - 2 * h)) / (4 * h);
      const double change = std::abs(near - far);
      const double roundings = 1000 * 0x1p-53 * size / h;
      ++compared;
      const bool smooth = change <= 1e-4 * (1 + std::abs(gradient));
      const bool close = std::abs((4 * near - far) / 3 - gradient) <= change + roundings;
      if (!smooth || !close) {
        FAIL_CHECK(of << ": analytic " << gradient << ", differences " << near << " (h), " << far << " (2 h)"
                      << (smooth ? "" : ": not smooth here, take another seed"));
      }
    };
    for (std::size_t i = 0; i < call->x.size(); ++i)
      compare("x[" + std::to_string(i) + "]", call->x[i], analytic.dx[i]);
    const ErasedLayer::Held gradients = layer_->make_gradients();
    std::size_t first = 0;
    layer_->visit(gradients.get(), [&](const moe::Parameter<double>& p) {
      const Index stride = 1 + (p.value.size() - 1) / call_.most;
      for (Index i = 0; i < p.value.size(); i += stride) {
        compare(std::string(p.name) + "[" + std::to_string(i) + "]",
                p.value(i / p.value.cols, i % p.value.cols),
                analytic.gradients[first + static_cast<std::size_t>(i)]);
      }
      first += static_cast<std::size_t>(p.value.size());
    });
    CHECK(first == analytic.gradients.size());
    CHECK(compared > 0);
  }

  AnyExecutor serial() const { return AnyExecutor(serial_); }

  std::function<Made()> make_, other_;
  LayerCall call_;
  Made layer_;
  mutable moe::SerialExecutor serial_;
  Index width_ = 0;
  Values x_, dy_;
  std::vector<Index> rows_, ends_;
};

}  // namespace

void check_printed(const std::string& text) {
  CHECK(text.find("layer of width ") == 0);
}
ErasedLayer::Visit absent_counter(Index& absent) {
  return [&absent](const moe::Parameter<double>& p) {
    absent += p.value.data == nullptr && p.value.size() > 0 ? 1 : 0;
  };
}
void check_no_absent(Index absent) {
  CHECK(absent == 0);
}

void check_erased_layer(const std::string& name, const std::function<Made()>& make,
                        const std::function<Made()>& other, const LayerCall& call) {
  CAPTURE(name);
  Laws(make, other, call).check();
}

}  // namespace test
