/* gguf_export.h - a bound model → the tensors and the model's own keys of GGUF files, as llama.cpp's converter writes them: the
 * decoder in one file, the vision tower ("mmproj") in another. Tokenizer and template are the caller's to add. */
#ifndef QVL_MODEL_GGUF_EXPORT_H
#define QVL_MODEL_GGUF_EXPORT_H

#include "base/watch.h"
#include "cpu/pool.h"
#include "formats/gguf_write.h"
#include "kernels/quant.h"
#include "model/weights.h"

/* Where a tensor's rows come from: n_mat matrices one under the other, or a vector. */
struct qvl_gguf_source {
    const struct qvl_mat *mat;
    int64_t n_mat;
    const float *vec; /* instead of mat */
    int frame;        /* patch weight: which of the two frames; -1 for all other tensors */
};

/* One file. */
struct qvl_gguf_export {
    struct qvl_gguf_writer w;
    struct qvl_gguf_source *source; /* [w.n] */
    size_t cap;
    const struct qvl_config *c;
    struct qvl_quant_error loss;    /* of what was written, against the model's own values */
};

/* A type by its name ("f16", "q4_0", in any case) that this program can write; QVL_DT_UNKNOWN for "auto" and NULL: every matrix in
 * the type it has; when GGUF has no such type, in Q4_0 if that holds its codes, else in F16. `what` names the option in the message. */
int qvl_gguf_export_type(enum qvl_dtype *out, const char *name, int vision, const char *what, qvl_err *err);
/* What the type is called in file names ("Q4_0"); for QVL_DT_UNKNOWN that of most weights in x. */
const char *qvl_gguf_export_label(const struct qvl_gguf_export *x, enum qvl_dtype type);

/* 1 for 4-bit codes of another format that Q4_0 holds as they are, with scales in f16. Reads all scales. */
int qvl_gguf_export_keeps(const struct qvl_mat *m);

/* Describes the file of one half. c and w are borrowed until the free, which is due in any case; w is not
 * changed. Names and sizes only: no weight is read yet. */
int qvl_gguf_export_plan(struct qvl_gguf_export *x, const struct qvl_config *c, struct qvl_weights *w, int vision,
                         enum qvl_dtype type, const char *name, qvl_err *err);
void qvl_gguf_export_free(struct qvl_gguf_export *x);
/* Writes it; ticks the watch by bytes of the file. */
int qvl_gguf_export_write(struct qvl_gguf_export *x, struct qvl_out *out, struct qvl_pool *pool, struct qvl_watch *watch, qvl_err *err);

#endif
