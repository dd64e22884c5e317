// A classifier of small images with two MoE blocks. An image is P patches, each a row:
//   h = patch W_in^T + position                     [P, D]
//   h = h + M norm(h)                               patches mix: M [P, P], one matrix a block
//   h = h + layer(norm(h))                          two blocks of both; norm(x) = x / rms(x)
//   P(class) = softmax(mean over patches of norm(h), times W_out^T)
// The MoE layers run on the library, the rest on Eigen, an image at a time, spread over the same executor.
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <utility>
#include <vector>

#include "images.hpp"
#include "moe/moe.hpp"

namespace example {

using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// Images cut into patches, and a batch of them.
class Patches {
 public:
  /// Throws unless the side is a multiple of `patch`.
  Patches(const Images& images, Index patch) : images_(&images), patch_(patch) {
    if (images.side % patch != 0) {
      throw std::runtime_error("images: expected a side that is a multiple of " + std::to_string(patch) +
                               " pixels, got " + std::to_string(images.side));
    }
  }
  Index per_image() const { return images_->side / patch_ * (images_->side / patch_); }
  Index size() const { return patch_ * patch_; }

  /// Patches of the images `which`, numbers about [-1, 1].
  Rows rows(const std::vector<Index>& which) const {
    const Index across = images_->side / patch_;
    Rows all(static_cast<Index>(which.size()) * per_image(), size());
    for (Index r = 0; r < all.rows(); ++r) {
      const unsigned char* const image = images_->image(which[static_cast<std::size_t>(r / per_image())]);
      const Index p = r % per_image(), y = p / across * patch_, x = p % across * patch_;
      for (Index i = 0; i < size(); ++i) {
        const Index at = (y + i / patch_) * images_->side + x + i % patch_;
        all(r, i) = static_cast<float>(image[at]) / 127.5f - 1;
      }
    }
    return all;
  }

 private:
  const Images* images_;
  Index patch_;
};

template <class Layer>
class VisionModel {
 public:
  VisionModel(Index patches, Index pixels, Layer first, Layer second, std::uint64_t seed,
              moe::PoolExecutor& pool)
      : patches_(patches), width_(first.width()), pool_(&pool), draws_(seed) {
    input_ = random_rows(width_, pixels, seed) / std::sqrt(static_cast<float>(pixels));
    position_ = random_rows(patches, width_, seed + 1) * 0.3f;
    output_ = Rows::Zero(Images::kClasses, width_);
    dinput_ = Rows::Zero(input_.rows(), input_.cols());
    dposition_ = Rows::Zero(position_.rows(), position_.cols());
    doutput_ = output_;
    blocks_.push_back(Block(std::move(first), random_rows(patches, patches, seed + 2)));
    blocks_.push_back(Block(std::move(second), random_rows(patches, patches, seed + 3)));
  }

  struct Score {
    double loss = 0;  // mean, in nats
    Index right = 0;
  };
  Score score(const Rows& patches, const std::vector<Index>& label) { return forward(patches, label, false); }
  /// Same, and adds the gradients of that and of the routers' own losses.
  Score add_gradients(const Rows& patches, const std::vector<Index>& label) {
    const Score score = forward(patches, label, true);
    backward(patches);
    return score;
  }
  void on_step_end() {
    for (Block& block : blocks_) block.layer.on_step_end(block.stats);
  }

  /// What optimisers ask for (moe::TrainedModel).
  using Real = float;
  template <class Visitor>
  void visit_storage(Visitor&& f) {
    each_part([&](const auto& part) { part.visit_storage(f); });
  }
  template <class Visitor>
  void visit_parameters(Visitor&& f) {
    each_part([&](const auto& part) { part.visit_parameters(f); });
  }

  const moe::RouteStats& stats(Index i) const { return blocks_[static_cast<std::size_t>(i)].stats; }
  void clear_stats() {
    for (Block& block : blocks_) block.stats.clear();
  }

 private:
  struct Block {
    Block(Layer l, const Rows& m)
        : layer(std::move(l)),
          gradients(layer.make_gradients()),
          mix(m * (0.3f / std::sqrt(static_cast<float>(m.rows())))) {
      dmix = Rows::Zero(mix.rows(), mix.cols());
    }
    Layer layer;
    typename Layer::Gradients gradients;
    typename Layer::Tape tape;
    Rows mix, dmix;                      // M
    Rows mixed, x, y, dx;                // [T, D]: normalised inputs of the mixing and of the layer
    Eigen::VectorXf mixed_scale, scale;  // [T] 1 / rms
    moe::RouteStats stats;
  };

  template <class F>
  void each_part(F&& f) {
    f(moe::TrainedMatrix<float>("input", input_, dinput_));
    f(moe::TrainedMatrix<float>("position", position_, dposition_));
    f(moe::TrainedMatrix<float>("output", output_, doutput_));
    f(moe::TrainedMatrix<float>("mix.0", blocks_[0].mix, blocks_[0].dmix));
    f(moe::TrainedMatrix<float>("mix.1", blocks_[1].mix, blocks_[1].dmix));
    f(moe::TrainedLayer(blocks_[0].layer, blocks_[0].gradients, "blocks.0"));
    f(moe::TrainedLayer(blocks_[1].layer, blocks_[1].gradients, "blocks.1"));
  }

  static Rows random_rows(Index rows, Index cols, std::uint64_t seed) {
    Rows m(rows, cols);
    const moe::KeyedRandom random(seed, 0, moe::DrawStream::user);
    for (Index i = 0; i < m.size(); ++i) {
      m.data()[i] = static_cast<float>(random.normal(static_cast<std::uint64_t>(i), 1));
    }
    return m;
  }

  /// f(first row) for every image.
  template <class F>
  void for_images(Index rows, F&& f) {
    pool_->parallel_for(rows / patches_, [&](Index i, Index) noexcept { f(i * patches_); });
  }

  Score forward(const Rows& patches, const std::vector<Index>& label, bool training) {
    const Index tokens = patches.rows();
    h_.resize(tokens, width_);
    for_images(tokens, [&](Index first) noexcept {
      h_.middleRows(first, patches_) = position_;
      h_.middleRows(first, patches_).noalias() += patches.middleRows(first, patches_) * input_.transpose();
    });
    for (Block& block : blocks_) {
      normalise(h_, block.mixed, block.mixed_scale);
      for_images(tokens, [&](Index first) noexcept {
        h_.middleRows(first, patches_).noalias() += block.mix * block.mixed.middleRows(first, patches_);
      });
      normalise(h_, block.x, block.scale);
      block.y.resize(tokens, width_);
      moe::LayerInput<float> in(block.x);
      in.segments = moe::Segments::uniform(patches_);
      in.draws = &draws_;
      moe::LayerOutput<float> out(block.y, &block.stats);
      if (training) {
        block.layer.forward_train(in, out, block.tape, workspace_, *pool_);
      } else {
        block.layer.forward(in, out, workspace_, *pool_);
      }
      h_ += block.y;
    }
    normalise(h_, x_, scale_);
    return predict(label);
  }

  /// Leaves the gradient of the logits in p_.
  Score predict(const std::vector<Index>& label) {
    const Index images = static_cast<Index>(label.size());
    mean_.resize(images, width_);
    for_images(x_.rows(), [&](Index first) noexcept {
      mean_.row(first / patches_) = x_.middleRows(first, patches_).colwise().mean();
    });
    p_.noalias() = mean_ * output_.transpose();
    Score score;
    for (Index i = 0; i < images; ++i) {
      auto row = p_.row(i).array();
      const Index own = label[static_cast<std::size_t>(i)];
      Index best = 0;
      const float highest = row.maxCoeff(&best), target = row[own];
      row = (row - highest).exp();
      const float sum = row.sum();
      score.loss += static_cast<double>(std::log(sum) + highest - target) / static_cast<double>(images);
      score.right += best == own ? 1 : 0;
      row /= sum;
      row[own] -= 1;
      row /= static_cast<float>(images);
    }
    return score;
  }

  void backward(const Rows& patches) {
    const Index tokens = patches.rows();
    doutput_.noalias() += p_.transpose() * mean_;
    const Rows dmean = p_ * output_ / static_cast<float>(patches_);
    dx_.resize(tokens, width_);
    for_images(tokens, [&](Index first) noexcept {
      dx_.middleRows(first, patches_).rowwise() = dmean.row(first / patches_);
    });
    dh_ = Rows::Zero(tokens, width_);
    normalise_backward(x_, scale_, dx_, dh_);
    for (auto block = blocks_.rbegin(); block != blocks_.rend(); ++block) {
      block->dx.resize(tokens, width_);
      block->layer.backward(block->tape, typename Layer::LayerGradients(dh_, block->dx, block->gradients),
                            workspace_, *pool_);
      normalise_backward(block->x, block->scale, block->dx, dh_);
      for_images(tokens, [&](Index first) noexcept {
        dx_.middleRows(first, patches_).noalias() = block->mix.transpose() * dh_.middleRows(first, patches_);
      });
      for (Index first = 0; first < tokens; first += patches_) {  // images in order
        block->dmix.noalias() +=
            dh_.middleRows(first, patches_) * block->mixed.middleRows(first, patches_).transpose();
      }
      normalise_backward(block->mixed, block->mixed_scale, dx_, dh_);
    }
    for (Index first = 0; first < tokens; first += patches_) dposition_ += dh_.middleRows(first, patches_);
    dinput_.noalias() += dh_.transpose() * patches;
  }

  /// y = x * scale, scale = 1 / sqrt(mean of x^2).
  void normalise(const Rows& x, Rows& y, Eigen::VectorXf& scale) {
    y.resize(x.rows(), x.cols());
    scale.resize(x.rows());
    for_images(x.rows(), [&](Index first) noexcept {
      for (Index t = first; t < first + patches_; ++t) {
        scale[t] = 1 / std::sqrt(x.row(t).squaredNorm() / static_cast<float>(width_) + 1e-6f);
        y.row(t) = scale[t] * x.row(t);
      }
    });
  }
  /// dx += scale * (dy - y * mean of y dy).
  void normalise_backward(const Rows& y, const Eigen::VectorXf& scale, const Rows& dy, Rows& dx) {
    for_images(y.rows(), [&](Index first) noexcept {
      for (Index t = first; t < first + patches_; ++t) {
        const float mean = y.row(t).dot(dy.row(t)) / static_cast<float>(width_);
        dx.row(t) += scale[t] * (dy.row(t) - mean * y.row(t));
      }
    });
  }

  Index patches_;
  Index width_;
  moe::PoolExecutor* pool_;
  moe::Workspace workspace_;
  moe::DrawCounter draws_;
  std::vector<Block> blocks_;
  Rows input_, dinput_;        // [D, pixels of a patch]
  Rows position_, dposition_;  // [P, D]
  Rows output_, doutput_;      // [10, D]
  Rows h_, x_, dx_, dh_;       // [T, D]
  Rows mean_, p_;              // [images, D], [images, 10]
  Eigen::VectorXf scale_;      // [T]
};

}  // namespace example
