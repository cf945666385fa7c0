// All of evenkeel's core.
#pragma once

#include "evenkeel/batch_norm.h"
#include "evenkeel/error.h"
#include "evenkeel/float16.h"
#include "evenkeel/layer_norm.h"
#include "evenkeel/local_response_norm.h"
#include "evenkeel/moments.h"
#include "evenkeel/runtime.h"
#include "evenkeel/standardization.h"
#include "evenkeel/tensor.h"
