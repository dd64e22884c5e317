// Banks of the storages that a random layer chooses from: random weights for those that round them, and what
// they hold.
#pragma once

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "moe/expert/bank/composite.hpp"
#include "moe/expert/bank/glu.hpp"
#include "moe/expert/bank/mlp.hpp"
#include "moe/expert/bank/zero_computation.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/storage/storage.hpp"

namespace test {

template <class Storage>
using Ungated = moe::Mlp<moe::AnyActivation, Storage>;
template <class Storage>
using Gated = moe::Glu<moe::AnyActivation, Storage>;
template <class Storage>
using GatedAndCheap =
    moe::Composite<Gated<Storage>, moe::ZeroComputation<typename moe::StorageTraits<Storage>::Real>>;

/// Row-major.
struct Floats {
  moe::Index rows, cols;
  std::vector<float> values;

  Floats(moe::Index o, moe::Index i) : rows(o), cols(i), values(static_cast<std::size_t>(o * i)) {}
  moe::ConstMatrixView<float> view() const { return {values.data(), rows, cols}; }
  moe::MatrixView<float> view() { return {values.data(), rows, cols}; }

  /// N(0, 1 / cols).
  const Floats& draw(std::mt19937_64& random) {
    std::normal_distribution<float> normal(0, 1 / std::sqrt(static_cast<float>(cols)));
    for (float& v : values) v = normal(random);
    return *this;
  }
};

/// `bank` with weights from N(0, 1 / inputs) if it rounds them; others are drawn through visit_parameters.
template <class Bank>
Bank rounded_random(Bank bank, std::uint64_t) {
  return bank;
}
template <moe::BlockStorage Storage>
Gated<Storage> rounded_random(Gated<Storage> bank, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  Floats gate(bank.hidden(), bank.width()), up = gate, down(bank.width(), bank.hidden());
  for (moe::Index e = 0; e < bank.experts(); ++e) {
    bank.load(e, gate.draw(random).view(), up.draw(random).view(), down.draw(random).view());
  }
  return bank;
}
template <moe::BlockStorage Storage>
Ungated<Storage> rounded_random(Ungated<Storage> bank, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  Floats fc1(bank.hidden(), bank.width()), fc2(bank.width(), bank.hidden());
  for (moe::Index e = 0; e < bank.experts(); ++e) {
    bank.load(e, fc1.draw(random).view(), fc2.draw(random).view());
  }
  return bank;
}

/// visit(name, matrix) for the matrices that visit_parameters does not show.
template <class Bank, class Visit>
void visit_matrices(const Bank&, const Visit&) {}
template <moe::BlockStorage Storage, class Visit>
void visit_matrices(const Gated<Storage>& bank, const Visit& visit) {
  Floats gate(bank.hidden(), bank.width()), up = gate, down(bank.width(), bank.hidden());
  for (moe::Index e = 0; e < bank.experts(); ++e) {
    const std::string name = "experts." + std::to_string(e) + ".";
    bank.unpack(e, gate.view(), up.view(), down.view());
    visit(name + "gate_proj.weight", gate.view());
    visit(name + "up_proj.weight", up.view());
    visit(name + "down_proj.weight", down.view());
  }
}
template <moe::BlockStorage Storage, class Visit>
void visit_matrices(const Ungated<Storage>& bank, const Visit& visit) {
  Floats fc1(bank.hidden(), bank.width()), fc2(bank.width(), bank.hidden());
  for (moe::Index e = 0; e < bank.experts(); ++e) {
    const std::string name = "experts." + std::to_string(e) + ".";
    bank.unpack(e, fc1.view(), fc2.view());
    visit(name + "fc1.weight", fc1.view());
    visit(name + "fc2.weight", fc2.view());
  }
}
template <moe::BlockStorage Storage, class Visit>
void visit_matrices(const GatedAndCheap<Storage>& bank, const Visit& visit) {
  visit_matrices(bank.template bank<0>(), visit);
}

}  // namespace test
