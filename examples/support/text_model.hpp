// A language model of bytes with two MoE blocks. A token sees the last C bytes, each through a table of its
// own:
//   h = sum over j < C of table_j[byte(t - j)]      [T, D]
//   h = h + layer(norm(h))                          two blocks; norm(x) = x / rms(x)
//   P(next byte) = softmax(norm(h) W^T)             [T, 256]
// What the layers hand on goes from the first block to the second. They run on the library, the rest on
// Eigen, 64 rows at a time, spread over the same executor: fixed blocks, so that the numbers do not depend on
// how many threads there are.
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "moe/archive/writer.hpp"
#include "moe/moe.hpp"
#include "router_columns.hpp"
#include "text.hpp"
#include "text_layers.hpp"

namespace example {

using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

class TextModel {
 public:
  static constexpr Index kBytes = 256;

  /// `columns_of(batch)`: what the routers are told of a batch besides its rows.
  using ColumnsOf = std::function<RouterColumns(const Batch&)>;

  TextModel(Index context, std::unique_ptr<TextLayers> layers, ColumnsOf columns_of, std::uint64_t seed,
            moe::PoolExecutor& pool)
      : context_(context),
        width_(layers->width()),
        pool_(&pool),
        layers_(std::move(layers)),
        columns_of_(std::move(columns_of)),
        draws_(seed) {
    table_ = random_rows(context * kBytes, width_, seed);
    for (Index j = 0; j < context; ++j) {  // near bytes speak louder
      table_.middleRows(j * kBytes, kBytes) /= static_cast<float>(1 + j);
    }
    dtable_ = Rows::Zero(table_.rows(), width_);
    output_ = doutput_ = Rows::Zero(kBytes, width_);  // so that the first guess is 8 bits per byte
    blocks_.resize(static_cast<std::size_t>(layers_->size()));
  }

  /// Of all calls from now on.
  void set_options(const moe::CallOptions& options) { options_ = options; }

  /// The routers sample their choices and learn from what these cost (MenuExtras::sampled).
  void set_sampled(bool sampled) { sampled_ = sampled; }

  /// Mean loss in nats per byte. Routers that draw in inference draw the same for every batch.
  double loss(const Batch& batch) { return forward(batch, false); }

  /// Same, and adds the gradients of that and of the routers' own losses.
  double add_gradients(const Batch& batch) {
    const double loss = forward(batch, true);
    backward(batch);
    return loss;
  }

  /// After an optimiser step: routers that balance between steps look at the step's loads.
  void on_step_end() {
    std::vector<const moe::RouteStats*> stats;
    for (const Block& block : blocks_) stats.push_back(&block.stats);
    layers_->on_step_end(stats);
  }

  /// What optimisers ask for (moe::TrainedModel).
  using Real = float;
  template <class Visitor>
  void visit_storage(Visitor&& f) {
    moe::TrainedMatrix<float>("table", table_, dtable_).visit_storage(f);
    moe::TrainedMatrix<float>("output", output_, doutput_).visit_storage(f);
    layers_->visit_storage(f);
  }
  template <class Visitor>
  void visit_parameters(Visitor&& f) {
    moe::TrainedMatrix<float>("table", table_, dtable_).visit_parameters(f);
    moe::TrainedMatrix<float>("output", output_, doutput_).visit_parameters(f);
    layers_->visit_parameters(f);
  }

  void save(const char* path) {
    moe::ArchiveWriter writer;
    writer.add_matrix("table", moe::ConstMatrixView<float>(table_));
    writer.add_matrix("output", moe::ConstMatrixView<float>(output_));
    writer.add_layer("blocks", *layers_);
    writer.save(path);
  }
  void load(const char* path) {
    const moe::Archive archive = moe::Archive::from_file(path);
    archive.load_layer("blocks", *layers_);
    archive.load_matrix("table", moe::MatrixView<float>(table_));
    archive.load_matrix("output", moe::MatrixView<float>(output_));
  }

  /// Whether no row's result depends on another one.
  bool by_row() const { return layers_->by_row(); }
  Index blocks() const { return static_cast<Index>(blocks_.size()); }
  /// What block i's layer chose since clear_stats().
  const moe::RouteStats& stats(Index i) const { return blocks_[static_cast<std::size_t>(i)].stats; }
  void clear_stats() {
    for (Block& block : blocks_) block.stats.clear();
  }

 private:
  struct Block {
    Rows x, y, dx;          // [T, D]: normalised input, output
    Rows carry, dcarry;     // [T, R] of what the layer hands on to the next; without columns if it does not
    Eigen::VectorXf scale;  // [T] 1 / rms of the input
    moe::RouteStats stats;
  };

  static Rows random_rows(Index rows, Index cols, std::uint64_t seed) {
    Rows m(rows, cols);
    const moe::KeyedRandom random(seed, 0, moe::DrawStream::user);
    for (Index i = 0; i < m.size(); ++i) {
      m.data()[i] = static_cast<float>(random.normal(static_cast<std::uint64_t>(i), 1));
    }
    return m;
  }

  /// f(first row, rows) for every 64 rows.
  template <class F>
  void for_rows(Index rows, F&& f) {
    constexpr Index kRows = 64;
    pool_->parallel_for(moe::ceil_div(rows, kRows), [&](Index block, Index) noexcept {
      f(block * kRows, std::min(kRows, rows - block * kRows));
    });
  }

  double forward(const Batch& batch, bool training) {
    const RouterColumns columns = columns_of_(batch);
    moe::DrawCounter same_draws(1);
    embed(batch);
    for (Index i = 0; i < blocks(); ++i) {
      Block& block = blocks_[static_cast<std::size_t>(i)];
      normalise(h_, block.x, block.scale);
      block.y.resize(h_.rows(), width_);
      moe::LayerInput<float> in(block.x);
      in.segments = moe::Segments::uniform(batch.length);
      columns.show(in);
      in.options = options_;
      in.draws = training ? &draws_ : &same_draws;
      moe::LayerOutput<float> out(block.y, &block.stats);
      if (takes_over(i)) in.carry = before(i).carry;
      if (hands_on(i)) {
        block.carry.resize(h_.rows(), layers_->carry_width(i));
        out.carry = block.carry;
      }
      if (training) {
        layers_->forward_train(i, in, out, workspace_, *pool_);
      } else {
        layers_->forward(i, in, out, workspace_, *pool_);
      }
      h_ += block.y;
    }
    normalise(h_, x_, scale_);
    return predict(batch, training);
  }

  void backward(const Batch& batch) {
    constexpr Index kColumns = 64;  // of the 256
    pool_->parallel_for(kBytes / kColumns, [&](Index i, Index) noexcept {
      doutput_.middleRows(i * kColumns, kColumns).noalias() +=
          p_.middleCols(i * kColumns, kColumns).transpose() * x_;
    });
    dh_ = Rows::Zero(h_.rows(), width_);
    normalise_backward(x_, scale_, dx_, dh_);
    if (sampled_) {  // of a row's own prediction, over the batch's mean; the loss is a mean over rows
      const auto cost = loss_.template cast<double>().array();
      advantage_ = (cost - cost.mean()) / static_cast<double>(loss_.size());
    }
    for (Index i = blocks(); i-- > 0;) {
      Block& block = blocks_[static_cast<std::size_t>(i)];
      block.dx.resize(h_.rows(), width_);
      TextLayers::Back back{dh_, block.dx};
      if (sampled_) back.advantage = advantage_;
      if (hands_on(i)) back.dcarry_out = block.dcarry;
      if (takes_over(i)) {
        before(i).dcarry.resize(h_.rows(), before(i).carry.cols());
        back.dcarry = before(i).dcarry;
      }
      layers_->backward(i, back, workspace_, *pool_);
      normalise_backward(block.x, block.scale, block.dx, dh_);
    }
    pool_->parallel_for(context_, [&](Index j, Index) noexcept {  // each table by one worker, tokens in order
      for (Index t = 0; t < batch.tokens(); ++t) dtable_.row(j * kBytes + batch.byte(t, j)) += dh_.row(t);
    });
  }

  /// What routers, or experts that remember, pass on over depth.
  bool hands_on(Index i) const { return i + 1 < blocks() && takes_over(i + 1); }
  bool takes_over(Index i) const { return i > 0 && layers_->carry_width(i) > 0; }
  Block& before(Index i) { return blocks_[static_cast<std::size_t>(i - 1)]; }

  void embed(const Batch& batch) {
    h_.resize(batch.tokens(), width_);
    for_rows(batch.tokens(), [&](Index first, Index rows) noexcept {
      for (Index t = first; t < first + rows; ++t) {
        h_.row(t) = table_.row(batch.byte(t, 0));
        for (Index j = 1; j < context_; ++j) h_.row(t) += table_.row(j * kBytes + batch.byte(t, j));
      }
    });
  }

  /// y = x * scale, scale = 1 / sqrt(mean of x^2).
  void normalise(const Rows& x, Rows& y, Eigen::VectorXf& scale) {
    y.resize(x.rows(), x.cols());
    scale.resize(x.rows());
    for_rows(x.rows(), [&](Index first, Index rows) noexcept {
      for (Index t = first; t < first + rows; ++t) {
        scale[t] = 1 / std::sqrt(x.row(t).squaredNorm() / static_cast<float>(width_) + 1e-6f);
        y.row(t) = scale[t] * x.row(t);
      }
    });
  }
  /// dx += scale * (dy - y * mean of y dy).
  void normalise_backward(const Rows& y, const Eigen::VectorXf& scale, const Rows& dy, Rows& dx) {
    for_rows(y.rows(), [&](Index first, Index rows) noexcept {
      for (Index t = first; t < first + rows; ++t) {
        const float mean = y.row(t).dot(dy.row(t)) / static_cast<float>(width_);
        dx.row(t) += scale[t] * (dy.row(t) - mean * y.row(t));
      }
    });
  }

  /// Loss of softmax(x W^T) at the next bytes; for training p becomes its gradient by the logits, and dx that
  /// by x.
  double predict(const Batch& batch, bool training) {
    const Index tokens = batch.tokens();
    p_.resize(tokens, kBytes);
    dx_.resize(tokens, width_);
    loss_.resize(tokens);
    for_rows(tokens, [&](Index first, Index rows) noexcept {
      auto p = p_.middleRows(first, rows);
      p.noalias() = x_.middleRows(first, rows) * output_.transpose();
      for (Index t = first; t < first + rows; ++t) {
        auto row = p_.row(t).array();
        const float highest = row.maxCoeff(), target = row[batch.next(t)];
        row = (row - highest).exp();
        const float sum = row.sum();
        loss_[t] = std::log(sum) + highest - target;
        if (!training) continue;
        row /= sum;
        row[batch.next(t)] -= 1;
        row /= static_cast<float>(tokens);
      }
      if (training) dx_.middleRows(first, rows).noalias() = p * output_;
    });
    return loss_.cast<double>().mean();
  }

  Index context_;
  Index width_;
  moe::PoolExecutor* pool_;
  std::unique_ptr<TextLayers> layers_;
  moe::Workspace workspace_;
  ColumnsOf columns_of_;
  moe::CallOptions options_;
  bool sampled_ = false;
  moe::DrawCounter draws_;
  std::vector<Block> blocks_;
  Rows table_, dtable_;           // [C * 256, D]
  Rows output_, doutput_;         // [256, D]
  Rows h_, x_, dx_, dh_;          // [T, D]
  Rows p_;                        // [T, 256]
  Eigen::VectorXf scale_, loss_;  // [T]
  Eigen::VectorXd advantage_;     // [T]
};

}  // namespace example
