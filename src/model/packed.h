/* packed.h - the text decoder's matrices in integer kinds: made once from a checkpoint, kept in a file, mapped ever after.
 *
 * A packed file is a safetensors file: each matrix is a U8 tensor [panels][units][bytes of a unit] (kernels/quant.h) under
 * its canonical name with ".q4" or ".q8" behind it; experts are stored one by one. Its metadata says what it was made
 * from. The embedding table stays in the checkpoint's type, since single rows of it are looked up; the head is packed
 * even when it is tied to it. */
#ifndef QVL_MODEL_PACKED_H
#define QVL_MODEL_PACKED_H

#include "base/pages.h"
#include "base/watch.h"
#include "kernels/quant.h"
#include "model/weights.h"

#define QVL_PACK_VERSION "1"

struct qvl_pack_options {
    enum qvl_dtype text, head; /* QVL_DT_Q4 or QVL_DT_Q8 */
};

/* What packing lost: relative root mean square error of the weights. */
struct qvl_pack_report {
    uint64_t packed_bytes;
    double rms_error;
};

/* Bytes of all packed matrices. */
int qvl_pack_bytes(const struct qvl_config *c, const struct qvl_pack_options *o, uint64_t *bytes, qvl_err *err);

/* Packs the text matrices of w into a new file at path (by way of a temporary name). `key` is stored as metadata "qvl.key".
 * Work memory is one matrix. The watch counts packed bytes. */
int qvl_pack_write(const char *path, const char *key, const struct qvl_weights *w, const struct qvl_config *c,
                   const struct qvl_pack_options *o, const struct qvl_kernels *k, struct qvl_pool *pool, struct qvl_watch *watch,
                   struct qvl_pack_report *report, qvl_err *err);

/* The same into memory: *pages is filled and must outlive w, whose matrices point into it afterwards. */
int qvl_pack_memory(struct qvl_pages *pages, struct qvl_weights *w, const struct qvl_config *c, const struct qvl_pack_options *o,
                    const struct qvl_kernels *k, struct qvl_pool *pool, struct qvl_watch *watch, struct qvl_pack_report *report,
                    qvl_err *err);

/* Points the text matrices of w at those of a packed file. Fails when one is missing or has another shape. */
int qvl_pack_bind(struct qvl_weights *w, const struct qvl_config *c, const struct qvl_pack_options *o, const struct qvl_tensors *t,
                  qvl_err *err);

#endif
