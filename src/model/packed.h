/* packed.h - models with the text decoder's matrices in integer kinds: made once, kept in a file, mapped ever after.
 *
 * A packed file is a safetensors file. Each packed matrix is a U8 tensor [panels][units][bytes of a unit] (kernels/quant.h)
 * under its canonical name with ".q4", ".q4m" or ".q8" behind it; experts are stored one by one. Its metadata says which layout that
 * is. The embedding table keeps its type, since single rows of it are looked up; the head is packed even when it is tied to it.
 *
 * Two files are made of this: one with the packed matrices alone, for the cache beside a checkpoint, and a whole one, which
 * also holds what is not packed, for a folder that needs no checkpoint any more. What is kept stays in its type; blocks of
 * other programs' files become bf16, vectors f32. */
#ifndef QVL_MODEL_PACKED_H
#define QVL_MODEL_PACKED_H

#include "base/pages.h"
#include "base/watch.h"
#include "cpu/pool.h"
#include "kernels/quant.h"
#include "model/weights.h"

#define QVL_PACK_VERSION "1"

struct qvl_pack_options {
    enum qvl_dtype text; /* QVL_DT_Q4 or QVL_DT_Q8 */
    enum qvl_dtype head; /* the same, or QVL_DT_UNKNOWN: the head is not packed */
    int decoded_table;   /* read from a file: the embedding's numbers were blocks, which no logits are computed from (refine.h) */
    int keep;            /* text Q4: quantised matrices whose codes have more than 4 bits become q8 instead of losing them. Those
                            with codes of up to 4 bits become q4 or q4m in any case */
};

/* One packing: what it works on, what with, and how it is watched from outside. */
struct qvl_packing {
    struct qvl_weights *w; /* bound, as stored */
    const struct qvl_config *c;
    struct qvl_pack_options o;
    int whole;             /* qvl_pack_write: with everything that is not packed */
    const struct qvl_kernels *kernels;
    struct qvl_pool *pool;
    struct qvl_watch *watch; /* counts bytes of the result */
    /* [n_in] mean squares of a matrix's inputs in a calibration run, by the matrix's canonical name; NULL: equal ones.
     * The function itself may be NULL. */
    const float *(*importance)(void *ud, const char *name);
    /* Called with parts of the source that are done with, so that their memory can be given back; may be NULL. */
    void (*release)(void *ud, const void *p, size_t n);
    void *ud;
    /* out */
    uint64_t packed_bytes; /* of the packed matrices */
    double rms_error;      /* relative root mean square error of their weights, by importance where there is one */
};

/* Bytes of all packed matrices and, when whole, of everything else. w = NULL: as if nothing were quantised before; otherwise
 * the scales of quantised matrices are read. */
int qvl_pack_bytes(const struct qvl_weights *w, const struct qvl_config *c, const struct qvl_pack_options *o, int whole,
                   uint64_t *bytes, qvl_err *err);
/* The part of w->mapped_bytes that packing makes superfluous. */
uint64_t qvl_pack_replaced_bytes(struct qvl_weights *w, const struct qvl_config *c, const struct qvl_pack_options *o);

/* Packs into a new file at path (by way of a temporary name), with `meta` behind the metadata that describe the format. Work
 * memory is some megabytes for each thread; what packing does not depend on the number of threads. */
int qvl_pack_write(const char *path, const struct qvl_tensor_meta *meta, size_t n_meta, struct qvl_packing *p, qvl_err *err);

/* The same into memory: *pages is filled and must outlive w, whose matrices point into it afterwards. */
int qvl_pack_memory(struct qvl_pages *pages, struct qvl_packing *p, qvl_err *err);

/* Points the text matrices of w at those of a packed file. Fails, and leaves w alone, when one is missing or has another
 * shape. *packed_bytes: what they take. */
int qvl_pack_bind(struct qvl_weights *w, const struct qvl_config *c, const struct qvl_pack_options *o, const struct qvl_tensors *t,
                  uint64_t *packed_bytes, qvl_err *err);

/* A whole packed file as tensors in canonical names for qvl_weights_bind; *o says what is packed, *packed_bytes how much that is.
 * *views borrows from `file`. Files that are not packed leave *views NULL. */
int qvl_pack_views(struct qvl_tensors **views, struct qvl_pack_options *o, uint64_t *packed_bytes, const struct qvl_tensors *file,
                   const struct qvl_config *c, qvl_err *err);

/* "q4", "q8"; "bf16" for what is not packed. */
const char *qvl_pack_kind(enum qvl_dtype t);

#endif
