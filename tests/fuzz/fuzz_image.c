/* fuzz_image.c - every picture decoder, with a small pixel limit so that each input takes little time. */
#include <stdlib.h>
#include <string.h>

#include "image/image_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct qvl_image im;
    qvl_err err = {0};
    struct qvl_image_job job = {.data = data,
                                .size = size,
                                .alpha = size & 1 ? QVL_ALPHA_DROP : QVL_ALPHA_WHITE,
                                .max_side = 2048,
                                .max_pixels = 1 << 16,
                                .what = "fuzz",
                                .err = &err};
    int rc = qvl_image_decode_job(&im, &job);
    if (rc == 0) {
        /* Every pixel is there and initialised: a sum that the compiler cannot drop. */
        volatile uint32_t sum = 0;
        for (size_t i = 0; i < (size_t)im.width * im.height * 3; i++)
            sum = sum + im.rgb[i];
        if (!im.width || !im.height || (uint64_t)im.width * im.height > job.max_pixels)
            abort();
    } else if (im.rgb || err.code != rc || !err.msg[0]) {
        abort();
    }
    qvl_image_free(&im);
    return 0;
}
