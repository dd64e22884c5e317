#include "support/products.hpp"

#include "support/catch.hpp"

TEST_CASE("sums of products admit what rounding can do and nothing else, with either sign", "[support]") {
  for (const float sign : {1.0f, -1.0f}) {
    test::ProductSum sum;
    for (int i = 0; i < 10; ++i) sum.add(sign * 0.1f, 1.0f);
    float chain = 0;
    for (int i = 0; i < 10; ++i) chain += sign * 0.1f;
    CHECK(sum.admits(chain));
    CHECK_FALSE(sum.admits(chain * 1.00001f));
    CHECK_FALSE(sum.admits(chain / 1.00001f));
    CHECK_FALSE(sum.admits(-chain));
    CHECK_FALSE(sum.admits(std::numeric_limits<float>::quiet_NaN()));
    CHECK_FALSE(sum.admits(std::numeric_limits<float>::infinity()));
  }
}

TEST_CASE("an empty sum admits zero only", "[support]") {
  CHECK(test::ProductSum().admits(0.0));
  CHECK_FALSE(test::ProductSum().admits(1e-30));
}

TEST_CASE("canaries notice writes on both sides", "[support]") {
  test::AlignedBlock<float> front(5), back(5), inside(5);
  CHECK(front.intact());
  front.data()[-1] = 0;
  CHECK_FALSE(front.intact());
  back.data()[5] = 0;
  CHECK_FALSE(back.intact());
  inside.bury(3);
  CHECK(inside.intact_from(3));
  inside[3] = 1;
  CHECK(inside.intact());
  CHECK_FALSE(inside.intact_from(3));
}
