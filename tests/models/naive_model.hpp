// A LayerSpec computed again in plain loops, for given choices: what a released model's layer must give, with
// bounds of what float arithmetic may get wrong, and gradients.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "models/differentiated.hpp"
#include "moe/models/any/any_layer.hpp"
#include "moe/router/weighting/gather.hpp"

namespace test {

using moe::Index;

/// A parameter on the tape.
struct Matrix {
  Index rows = 0, cols = 0;
  std::vector<Vars> row;
};

class NaiveModel {
 public:
  /// Takes the layer's parameters and state.
  NaiveModel(moe::models::AnyLayer& layer) : spec_(layer.spec()) {
    layer.visit_parameters([&](const moe::Parameter<float>& p) {
      Matrix& m = parameter[p.name];
      m.rows = p.value.rows;
      m.cols = p.value.cols;
      for (Index o = 0; o < m.rows; ++o) {
        m.row.emplace_back();
        for (Index i = 0; i < m.cols; ++i) m.row.back().emplace_back(static_cast<double>(p.value(o, i)));
      }
    });
    layer.visit_state([&](const char* name, double* values, Index n) {
      for (Index i = 0; i < n; ++i) state[name].push_back(values[i]);
    });
  }

  struct Token {
    Vars weight;  // of the choices
    Vars y;
  };

  /// `ids`: the choices; `kept`: those that were not dropped; `carry`: logits of the layer below, or empty.
  Token operator()(const Vars& x, const Vars& router_x, const std::vector<int>& ids,
                   const std::vector<bool>& kept, const Vars& carry) const {
    Token t;
    t.weight = weights(router_x, ids, carry);
    Vars in = x;
    if (spec_.latent > 0) in = linear("latent_in", x);
    for (Var& v : in) {
      if (spec_.input_scale != 1) v = v * Var(spec_.input_scale);
    }
    std::vector<Vars> terms(in.size());
    for (std::size_t k = 0; k < ids.size(); ++k) {
      if (!kept[k]) continue;
      const bool on_input = spec_.router.place == moe::WeightPlace::input;
      Vars row = in;
      for (Var& v : row) {
        if (on_input) v = v * t.weight[k];
      }
      const Vars z = expert(ids[k], row);
      for (std::size_t j = 0; j < z.size(); ++j) terms[j].push_back(on_input ? z[j] : t.weight[k] * z[j]);
    }
    Vars y;
    for (const Vars& of_column : terms) y.push_back(of_column.empty() ? Var(0.0) : sum(of_column));
    if (spec_.latent_norm.enabled)
      y = normed(y, spec_.latent_norm.eps, 1, parameter.at("latent_norm.weight"));
    if (spec_.latent > 0) y = linear("latent_out", y);
    for (std::size_t j = 0; j < y.size() && spec_.output_bias; ++j) {
      y[j] = y[j] + parameter.at("output.bias").row[j][0];
    }
    if (spec_.shared_hidden > 0) {
      const Vars z = feed_forward("shared_experts.0.", x, spec_.shared_act ? *spec_.shared_act : spec_.gate);
      Var factor(spec_.shared_scale);
      if (spec_.shared_gate)
        factor = factor * sigmoid(dot(parameter.at("shared_expert_gate.weight").row[0], x));
      const bool plain = !spec_.shared_gate && spec_.shared_scale == 1;
      for (std::size_t j = 0; j < y.size(); ++j) y[j] = y[j] + (plain ? z[j] : factor * z[j]);
    }
    t.y = y;
    return t;
  }

  std::map<std::string, Matrix> parameter;
  std::map<std::string, std::vector<double>> state;

 private:
  using Options = moe::TokenChoiceOptions;

  Vars linear(const std::string& name, const Vars& x) const {
    const Matrix& w = parameter.at(name + ".weight");
    const auto bias = parameter.find(name + ".bias");
    Vars y;
    for (std::size_t o = 0; o < w.row.size(); ++o) {
      const Var product = dot(w.row[o], x);
      y.push_back(bias == parameter.end() ? product : product + bias->second.row[o][0]);
    }
    return y;
  }
  static Vars normed(const Vars& x, double eps, double factor, const Matrix& scale) {
    const Var rms = sqrt(dot(x, x) / Var(static_cast<double>(x.size())) + Var(eps));
    Vars y;
    for (std::size_t j = 0; j < x.size(); ++j) y.push_back(x[j] / rms * Var(factor) * scale.row[j][0]);
    return y;
  }

  Vars logits(const Vars& row, const Vars& carry) const {
    const Options& o = spec_.router;
    const Vars x = o.norm.enabled ? normed(row, o.norm.eps, o.norm.factor, parameter.at("norm.scale")) : row;
    Vars h;
    if (std::holds_alternative<moe::TwoLayerScorerOptions>(o.scorer)) {
      Vars inner = linear("gate.0", x);
      for (Var& v : inner) v = tanh(v);
      h = linear("gate.2", inner);
    } else if (std::holds_alternative<moe::CosineScorerOptions>(o.scorer)) {
      const Vars p = linear("cosine_projector", x);
      const Matrix& s = parameter.at("sim_matrix");
      const Var factor = exp(clamp(parameter.at("temperature").row[0][0], -100, std::log(100.0)));
      const Var length = sqrt(dot(p, p));
      for (Index e = 0; e < s.cols; ++e) {
        Vars column;
        for (const Vars& of_row : s.row) column.push_back(of_row[static_cast<std::size_t>(e)]);
        h.push_back(dot(p, column) / (length * sqrt(dot(column, column))) * factor);
      }
    } else {
      h = linear("gate", x);
    }
    if (!carry.empty()) {
      const Vars residual = linear("gate_map", carry);
      for (std::size_t e = 0; e < h.size(); ++e) h[e] = h[e] + residual[e];
    }
    if (const auto* const map = o.map.get_if<moe::SoftCap>()) {
      for (Var& v : h) v = Var(map->cap()) * tanh(v / Var(map->cap()));
    }
    if (const auto* const map = o.map.get_if<moe::LogitSpread>()) {
      const Var n(static_cast<double>(h.size())), mean = sum(h) / n;
      Vars centred;
      for (const Var& v : h) centred.push_back(v - mean);
      const Var deviation = sqrt(dot(centred, centred) / Var(static_cast<double>(h.size()) - 1));
      for (Var& v : h) v = v * Var(map->spread()) / deviation;
    }
    return h;
  }

  Vars weights(const Vars& x, const std::vector<int>& ids, const Vars& carry) const {
    const Options& o = spec_.router;
    const Vars h = logits(x, carry);
    Vars s = h;
    if (o.score.holds<moe::Softmax>()) s = softmax(h, std::vector<bool>(h.size(), true));
    for (Var& v : s) {
      if (o.score.holds<moe::SigmoidScore>()) v = sigmoid(v);
      if (o.score.holds<moe::SqrtSoftplusScore>()) v = sqrt(softplus(v));
    }
    Vars w;
    for (const int e : ids) w.push_back(s[static_cast<std::size_t>(e)]);
    double scale = 1;
    if (const auto* const softmaxed = o.weighting.get_if<moe::SoftmaxWeighting>()) {
      w = softmax(w, std::vector<bool>(w.size(), true));
      scale = softmaxed->options().scale;
    }
    if (const auto* const sigmoids = o.weighting.get_if<moe::SigmoidWeighting>()) {
      for (Var& v : w) v = sigmoid(v);
      const Var total = sum(w);
      for (Var& v : w) v = sigmoids->options().shares ? v / total : v;
      scale = sigmoids->options().scale;
    }
    for (Var& v : w) v = scale == 1 ? v : v * Var(scale);
    if (o.weighting.holds<moe::SparseMixerWeighting>()) w = sparse_mixer(h, ids);
    if (const auto* const leading = o.weighting.get_if<moe::LeadingWeighting>()) {
      const Index first = leading->options().leading;
      Vars open;
      for (std::size_t k = 0; k < w.size(); ++k) {
        if (ids[k] < first) open.push_back(w[k]);
      }
      const Var total = sum(open);
      for (std::size_t k = 0; k < w.size(); ++k) w[k] = ids[k] < first ? w[k] / total : Var(0.0);
    }
    if (const auto* const gather = o.weighting.get_if<moe::GatherWeighting>()) {
      const auto& g = gather->options();
      const bool normalise = g.normalise != moe::Normalise::none && !(g.only_if_many && ids.size() == 1);
      Var by(1.0);
      if (normalise) by = g.normalise == moe::Normalise::p_norm ? norm(w, g.p) : sum(w);
      if (g.normalise == moe::Normalise::sum_plus_eps) by = by + Var(g.eps);
      if (g.normalise == moe::Normalise::max_with_eps && by.value().v < g.eps) by = Var(g.eps);
      for (Var& v : w) {
        if (normalise) v = v / by;
        if (g.scale != 1 && (!normalise || g.scale_normalised)) v = v * Var(g.scale);
      }
    }
    for (std::size_t k = 0; k < w.size() && o.per_expert_scale; ++k) {
      w[k] = w[k] * parameter.at("per_expert_scale").row[static_cast<std::size_t>(ids[k])][0];
    }
    return w;
  }

  /// Of numbers above 0.
  static Var norm(const Vars& w, double p) {
    const auto power = [](Var x, double q) {
      return apply([q](double v) { return std::pow(v, q); }, [q](double v) { return q * std::pow(v, q - 1); },
                   x);
    };
    Vars powers;
    for (const Var& v : w) powers.push_back(power(v, p));
    return power(sum(powers), 1 / p);
  }

  Vars sparse_mixer(const Vars& h, const std::vector<int>& ids) const {
    Vars w;
    std::vector<bool> left(h.size(), true);
    for (const int id : ids) {
      const auto own = static_cast<std::size_t>(id);
      const double top = h[own].value().v;
      std::vector<bool> near = left;
      for (std::size_t e = 0; e < h.size(); ++e) {
        const double v = h[e].value().v, factor = std::max(std::abs(v), top);
        if ((top - v) / factor >
            2 * spec_.router.weighting.get_if<moe::SparseMixerWeighting>()->options().eps)
          near[e] = false;
      }
      w.push_back(softmax(h, near)[own]);
      left[own] = false;
    }
    return w;
  }

  Vars expert(int id, const Vars& x) const {
    const Index e = id;
    const std::string name = "experts." + std::to_string(id) + ".";
    if (e < spec_.experts) return feed_forward(name, x, spec_.gate);
    if (e < spec_.experts + spec_.constant_experts) {
      const Vars a = softmax(linear(name + "constant_gate", x), {true, true});
      Vars z;
      for (std::size_t j = 0; j < x.size(); ++j) {
        z.push_back(a[0] * x[j] + a[1] * parameter.at(name + "constant").row[j][0]);
      }
      return z;
    }
    return e < spec_.experts + spec_.constant_experts + spec_.copy_experts ? x : Vars(x.size(), Var(0.0));
  }

  Vars feed_forward(const std::string& name, const Vars& x, const moe::AnyGate& act) const {
    if (!spec_.gated) {
      Vars h = linear(name + "fc1", x);
      for (Var& v : h) v = activated(spec_.activation, v);
      return linear(name + "fc2", h);
    }
    const Vars gate = linear(name + "gate_proj", x), up = linear(name + "up_proj", x);
    Vars h;
    for (std::size_t f = 0; f < gate.size(); ++f) h.push_back(gated(act, gate[f], up[f]));
    return linear(name + "down_proj", h);
  }

  static Var gated(const moe::AnyGate& gate, Var g, Var u) {
    using Kind = moe::AnyGate::Kind;
    if (gate.kind == Kind::situ) {
      return Var(gate.beta) * tanh(g / Var(gate.beta)) * sigmoid(g) *
             (Var(gate.limit) * tanh(u / Var(gate.limit)));
    }
    if (gate.kind == Kind::clamped) {
      return activated(gate.act, clamp(g, -INFINITY, gate.limit)) *
             (clamp(u, -gate.limit, gate.limit) + Var(gate.offset));
    }
    if (gate.kind == Kind::bounded) {
      return clamp(activated(gate.act, g), -INFINITY, gate.limit) * clamp(u, -gate.limit, gate.limit);
    }
    return activated(gate.act, g) * u;
  }

  static Var activated(const moe::AnyActivation& act, Var x) {
    using Kind = moe::ActivationKind;
    switch (act.kind) {
      case Kind::silu:
        return x * sigmoid(x);
      case Kind::quick_gelu:
        return x * sigmoid(Var(1.702) * x);
      case Kind::gelu_erf:
        return apply([](double v) { return 0.5 * v * std::erfc(-v * M_SQRT1_2); },
                     [](double v) {
                       return 0.5 * std::erfc(-v * M_SQRT1_2) +
                              v * std::exp(-v * v / 2) / std::sqrt(2 * M_PI);
                     },
                     x);
      case Kind::gelu_tanh: {
        const Var inner = Var(std::sqrt(2 / M_PI)) * (x + Var(0.044715) * (x * (x * x)));
        return Var(0.5) * x * (Var(1.0) + tanh(inner));
      }
      case Kind::relu:
        return apply([](double v) { return std::max(v, 0.0); }, [](double v) { return v > 0 ? 1.0 : 0.0; },
                     x);
      case Kind::relu_squared: {
        const Var r =
            apply([](double v) { return std::max(v, 0.0); }, [](double v) { return v > 0 ? 1.0 : 0.0; }, x);
        return r * r;
      }
      default:
        throw 0;  // no preset has it
    }
  }

  moe::models::LayerSpec spec_;
};

}  // namespace test
