// All of evenkeel's libtorch bridge.
#pragma once

#include "evenkeel/torch/batch_norm.h"
#include "evenkeel/torch/convert.h"
#include "evenkeel/torch/functional.h"
#include "evenkeel/torch/group_norm.h"
#include "evenkeel/torch/instance_norm.h"
#include "evenkeel/torch/layer_norm.h"
#include "evenkeel/torch/local_response_norm.h"
#include "evenkeel/torch/population.h"
#include "evenkeel/torch/replace.h"
#include "evenkeel/torch/rms_norm.h"
