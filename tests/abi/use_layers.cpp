// What the check of symbols of contract C7 compiles besides use_layer.cpp: layers of every other kind,
// forward and backward, in one. What they compute is tested elsewhere.
#include "moe/depth/chain.hpp"
#include "moe/depth/depth_layer.hpp"
#include "moe/depth/layer_block.hpp"
#include "moe/depth/parallel.hpp"
#include "moe/expert/bank/glu.hpp"
#include "moe/expert/bank/whole_results.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/layer/probe/probing_layer.hpp"
#include "moe/layer/soft/merging_layer.hpp"
#include "moe/layer/soft/soft_layer.hpp"
#include "moe/router/kind/response.hpp"
#include "moe/router/named/top_k.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/soft/segment_mixer.hpp"
#include "moe/router/soft/soft_moe.hpp"

using Router = moe::SoftmaxTopK<float>;
using Bank = moe::Glu<moe::Silu>;
using Layer = moe::MoeLayer<Router, Bank>;
using Soft = moe::SoftLayer<moe::SoftMoeRouter<float>, Bank>;
using Probing = moe::ProbingLayer<moe::ResponseRouter<Router>, moe::WholeResults<Bank, moe::LengthResponse>>;
using Merging = moe::MergingLayer<moe::SegmentMixer<moe::LinearScorer<float>>, Bank>;
using Depth = moe::DepthLayer<Router, moe::LayerBlock<Layer>>;
using All = moe::Chain<Soft, Probing, Merging, Depth, moe::Parallel<Layer>>;

void MOE_ABI_ENTRY(All& layer, const moe::LayerInput<float>& in, moe::LayerOutput<float>& out,
                   All::Tape& tape, const All::LayerGradients& gradients, moe::Workspace& workspace);

void MOE_ABI_ENTRY(All& layer, const moe::LayerInput<float>& in, moe::LayerOutput<float>& out,
                   All::Tape& tape, const All::LayerGradients& gradients, moe::Workspace& workspace) {
  layer.forward(in, out, workspace);
  layer.forward_train(in, out, tape, workspace);
  layer.backward(tape, gradients, workspace);
  layer.on_step_end(*out.stats);
}
