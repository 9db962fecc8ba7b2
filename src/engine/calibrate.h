/* calibrate.h - moments of the decoder's inputs over the requests of a file. */
#ifndef QVL_ENGINE_CALIBRATE_H
#define QVL_ENGINE_CALIBRATE_H

#include "engine/internal.h"

struct qvl_calibrated {
    struct qvl_moments *moments; /* close it; NULL after a failure */
    uint64_t n_requests, n_tokens;
};

/* The file holds a request a line; pictures are relative to it. The watch counts bytes of the file. */
int qvl_calibrate(struct qvl_calibrated *out, qvl_model *m, const char *path, const qvl_session_params *p, struct qvl_watch *watch,
                  qvl_err *err);

#endif
