/* packed_items.h - what the files behind packed.h share: the list of what a packed model consists of. */
#ifndef QVL_MODEL_PACKED_ITEMS_H
#define QVL_MODEL_PACKED_ITEMS_H

#include "formats/tensor_source.h"
#include "model/packed.h"

enum { QVL_PACK_NAME = 128, QVL_PACK_FILE_NAME = QVL_PACK_NAME + 16 }; /* bytes of a name, and of one with its suffix */

/* One tensor of the result. */
struct qvl_pack_item {
    char name[QVL_PACK_NAME]; /* canonical, without suffix */
    enum qvl_dtype type;      /* QVL_DT_Q4, QVL_DT_Q8; else what it is kept in: of numbers, or GGUF blocks */
    int64_t n_out, n_in;
    size_t bytes;
    struct qvl_mat *mat;      /* NULL for vectors, and in a dry walk */
    const float *vec;
    int rank;                 /* as stored: 3 for packed ones, 2 (bytes of rows) for blocks */
    int64_t shape[5];
};

struct qvl_pack_list {
    struct qvl_pack_item *item; /* from qvl_alloc */
    size_t n;
    uint64_t bytes;             /* of all */
    size_t n_packed;            /* these come first */
    uint64_t packed_bytes;
};

/* Bytes of rows as they are stored; of whole panels where the matrix is packed. */
size_t qvl_pack_rows_bytes(const struct qvl_pack_item *it, int64_t rows);

static inline int qvl_pack_is(enum qvl_dtype t) { return qvl_dtype_is_packed(t); }

/* The list in a fixed order. w may be NULL when only names and packed shapes matter (then whole = 0). Release `item` with
 * qvl_mem_free, also after a failure. */
int qvl_pack_collect(struct qvl_pack_list *l, struct qvl_weights *w, const struct qvl_config *c, const struct qvl_pack_options *o,
                     int whole, qvl_err *err);
/* For packing: the kind of each matrix by what it is made from (see qvl_pack_options.keep). Reads the scales of quantised ones. */
void qvl_pack_choose(struct qvl_pack_list *l, const struct qvl_pack_options *o);
/* For reading: the kind of each matrix as the file has it. */
void qvl_pack_as_stored(struct qvl_pack_list *l, const struct qvl_tensors *file);
/* Bytes and shape of a matrix from its type and size. */
void qvl_pack_shape(struct qvl_pack_item *it);
/* The tensor of a file; name[QVL_PACK_FILE_NAME] keeps its name. */
struct qvl_tensor qvl_pack_tensor(const struct qvl_pack_item *it, char *name);

/* Fails when a tensor of a file is not what is wanted, or lies where kernels cannot read it. */
int qvl_pack_check(const struct qvl_tensor *found, const struct qvl_tensor *want, const char *path, qvl_err *err);

/* Rows of one item after the other, by all threads. */
struct qvl_pack_job;
int qvl_pack_job_open(struct qvl_pack_job **out, const struct qvl_packing *p, const struct qvl_pack_item *it, qvl_err *err);
/* Rows that are worth doing at once; more is slower only in the caches. */
int64_t qvl_pack_job_rows(const struct qvl_pack_job *j);
/* Makes the bytes of rows [row0, row1), row0 a multiple of qvl_pack_job_rows, at dst and gives the source back. Returns their
 * number. */
size_t qvl_pack_job_run(struct qvl_pack_job *j, int64_t row0, int64_t row1, void *dst, struct qvl_quant_error *sum);
void qvl_pack_job_close(struct qvl_pack_job **j);

/* Counts bytes of the result; QVL_E_CANCELLED when the work should stop. */
int qvl_pack_tick(const struct qvl_packing *p, uint64_t bytes, qvl_err *err);
double qvl_pack_rms(const struct qvl_quant_error *e);

#endif
