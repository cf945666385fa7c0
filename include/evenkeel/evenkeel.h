// All of evenkeel's core.
#pragma once

#include "evenkeel/activation.h"
#include "evenkeel/batch_norm.h"
#include "evenkeel/error.h"
#include "evenkeel/float16.h"
#include "evenkeel/group_norm.h"
#include "evenkeel/instance_norm.h"
#include "evenkeel/layer_norm.h"
#include "evenkeel/local_response_norm.h"
#include "evenkeel/moments.h"
#include "evenkeel/rms_norm.h"
#include "evenkeel/runtime.h"
#include "evenkeel/standardization.h"
#include "evenkeel/tensor.h"
