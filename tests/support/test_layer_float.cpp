// Instantiates the layers of test_layer.hpp in float.
#include "support/test_layer_types.hpp"

namespace test {
template std::unique_ptr<TestLayer<float>> make_layer<float>(const LayerSpec& spec);
}
