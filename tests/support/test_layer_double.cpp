// Instantiates the layers of test_layer.hpp in double.
#include "support/test_layer_types.hpp"

namespace test {
template std::unique_ptr<TestLayer<double>> make_layer<double>(const LayerSpec& spec);
}
