#include "moe/storage/parameter.hpp"

#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/errors.hpp"

namespace {

using moe::Index;
using moe::ParameterView;

template <class V>
concept Assignable = requires(const V& v, const moe::ConstMatrixView<float>& m) {
  v.assign(m);
};

}  // namespace

TEST_CASE("a dense row-major matrix and a vector as parameters", "[parameter]") {
  std::vector<double> m{1, 2, 3, 4, 5, 6};
  // [2, 3]: one output per group, groups a row apart, inputs side by side.
  const ParameterView<double> matrix{m.data(), 2, 3, 1, 3, 1};
  CHECK(matrix.size() == 6);
  CHECK(matrix(0, 2) == 3);
  CHECK(matrix(1, 0) == 4);
  std::vector<double> v{7, 8, 9};
  const ParameterView<double> vector{v.data(), 3, 1, 3, 3, 1};
  for (Index o = 0; o < 3; ++o) CHECK(vector(o, 0) == v[static_cast<std::size_t>(o)]);
  CHECK(static_cast<bool>(vector));
  CHECK(!ParameterView<double>{});
}

TEST_CASE("panels of columns as a parameter", "[parameter]") {
  // Groups of two outputs; element (o, i) of [3, 4] at (o / 2) * 8 + o % 2 + 2 i.
  std::vector<float> panels(16, -1);
  const ParameterView<float> view{panels.data(), 3, 4, 2, 8, 2};
  for (Index o = 0; o < 3; ++o) {
    for (Index i = 0; i < 4; ++i) view(o, i) = static_cast<float>(10 * o + i);
  }
  CHECK(panels == std::vector<float>{0, 10, 1, 11, 2, 12, 3, 13, 20, -1, 21, -1, 22, -1, 23, -1});
}

TEST_CASE("copies to and from published layouts, with any row stride", "[parameter]") {
  std::vector<float> panels(16, -1), dense(15, 99);
  const ParameterView<float> view{panels.data(), 3, 4, 2, 8, 2};
  const std::vector<float> published{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
  view.assign(moe::ConstMatrixView<float>(published.data(), 3, 4));
  CHECK(panels == std::vector<float>{1, 5, 2, 6, 3, 7, 4, 8, 9, -1, 10, -1, 11, -1, 12, -1});
  view.copy_to(moe::MatrixView<float>(dense.data(), 3, 4, 5));
  CHECK(dense == std::vector<float>{1, 2, 3, 4, 99, 5, 6, 7, 8, 99, 9, 10, 11, 12, 99});
  const ParameterView<const float> read_only{panels.data(), 3, 4, 2, 8, 2};
  read_only.copy_to(moe::MatrixView<float>(dense.data(), 3, 4, 4));
  CHECK(std::vector<float>(dense.begin(), dense.begin() + 12) == published);
  STATIC_REQUIRE(Assignable<ParameterView<float>>);
  STATIC_REQUIRE(!Assignable<ParameterView<const float>>);
}

TEST_CASE("copies of another shape are refused, and nothing is written", "[parameter]") {
  std::vector<double> values{1, 2, 3, 4}, other(6, 0);
  const ParameterView<double> view{values.data(), 2, 2, 1, 2, 1};
  CHECK_THROWS_AS(view.assign(moe::ConstMatrixView<double>(other.data(), 2, 3)), moe::shape_error);
  CHECK_THROWS_AS(view.copy_to(moe::MatrixView<double>(other.data(), 3, 2)), moe::shape_error);
  CHECK(values == std::vector<double>{1, 2, 3, 4});
  CHECK(other == std::vector<double>(6, 0));
}

TEST_CASE("names are joined from texts and numbers", "[parameter]") {
  CHECK(std::string(moe::ParameterName("experts.", Index{12}, ".up_proj", ".weight").c_str()) ==
        "experts.12.up_proj.weight");
  CHECK(std::string(moe::ParameterName("gate").c_str()) == "gate");
}

TEST_CASE("a buffer is shown with its gradients, which have its size", "[parameter][smoke]") {
  struct Gradients {
    moe::Buffer<float> weight;
  };
  moe::Buffer<float> values(3), none;
  Gradients right{moe::Buffer<float>(3)}, wrong{moe::Buffer<float>(4)}, empty;
  int shown = 0;
  const auto show = [&](moe::Buffer<float>& of, Gradients* gradients) {
    auto check = [&](const char* name, float* v, float* g, Index n) {
      ++shown;
      CHECK(std::string(name) == "w");
      CHECK(
          (v == of.data() && n == of.size() && g == (gradients == nullptr ? nullptr : right.weight.data())));
    };
    moe::visit_buffer(check, "w", of, gradients, &Gradients::weight);
  };
  show(values, nullptr);
  show(values, &right);
  CHECK(shown == 2);
  CHECK(test::message_of<moe::shape_error>([&] { show(values, &wrong); }) ==
        "moe: gradients of w: expected 3 entries (ask make_gradients()), got 4");
  show(none, nullptr);
  show(none, &empty);
  CHECK(test::message_of<moe::shape_error>([&] { show(none, &right); }) ==
        "moe: gradients of w: expected 0 entries (ask make_gradients()), got 3");
  CHECK(shown == 2);
}

TEST_CASE("a parameter as a flat range", "[parameter]") {
  std::vector<float> m(24);
  const auto range = [&](Index rows, Index cols, Index group, Index group_stride, Index in_stride) {
    return ParameterView<float>{m.data(), rows, cols, group, group_stride, in_stride}.range("w");
  };
  CHECK(range(4, 6, 1, 6, 1) == m.data());   // row-major
  CHECK(range(4, 6, 4, 4, 4) == m.data());   // column-major
  CHECK(range(4, 6, 2, 12, 2) == m.data());  // panels that are full
  CHECK(range(5, 1, 1, 1, 1) == m.data());
  CHECK(range(0, 3, 1, 3, 1) == m.data());
  CHECK_THROWS_AS(range(2, 6, 1, 8, 1), moe::shape_error);                    // a gap behind each row
  CHECK(test::message_of<moe::shape_error>([&] { range(3, 2, 2, 4, 2); }) ==  // padding of the last panel
        "moe: w: expected 6 elements side by side, got 7 places; give the part a visit_storage()");
}

TEST_CASE("parameter_of shows a matrix and its gradient", "[parameter]") {
  float values[] = {1, 2, 9, 3, 4, 9}, gradients[] = {5, 6, 9, 7, 8, 9};
  moe::MatrixView<float> value(values, 2, 2, 3), gradient(gradients, 2, 2, 3);
  const auto both = moe::parameter_of<float>("w", value, &gradient);
  CHECK((both.value(1, 0) == 3 && both.value(0, 1) == 2 && both.gradient(1, 1) == 8));
  CHECK(std::string(both.name) == "w");
  moe::MatrixView<float>* const none = nullptr;
  CHECK(!moe::parameter_of<float>("w", value, none).gradient);
}
