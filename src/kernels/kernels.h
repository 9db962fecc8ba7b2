/* kernels.h - arithmetic: matrix products, attention, norms, activations, rotation.
 *
 * Two levels. Inside: `struct qvl_kernels`, one table of function pointers for each CPU level, scalar C first, faster
 * levels overwrite entries. Outside: the team operations at the end, which the vision encoder and the decoder call from
 * inside a qvl_pool_run; they split the work over the team and have the same result for any team size.
 *
 * Arithmetic modes (`enum qvl_arith`): F32 keeps activations in float32 (weights of any stored type are widened
 * exactly); BF16 rounds activations to bf16 (nearest even) in front of each product and attention, products are exact
 * in f32, sums are f32. All matrices are row-major. */
#ifndef QVL_KERNELS_KERNELS_H
#define QVL_KERNELS_KERNELS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/dtype.h"
#include "cpu/cpu.h"
#include "cpu/pool.h"

enum qvl_arith { QVL_ARITH_F32 = 0, QVL_ARITH_BF16 = 1 };

/* How keys and values are kept (enum qvl_kv_type) also decides how attention over them is computed, whatever the arithmetic
 * around it: F32 and BF16 as in the arithmetic of that name, INT8 with whole numbers (see pack.h) and equal bits at every
 * level. AUTO does not come down here. */
static inline enum qvl_kv_type qvl_kv_type_of(enum qvl_arith a) { return a == QVL_ARITH_BF16 ? QVL_KV_BF16 : QVL_KV_F32; }

/* A weight matrix in memory, usually mapped: any alignment. */
struct qvl_mat {
    const void *data;    /* [n_out][n_in] of type; or [n_in][n_out] when `transposed` (MoE experts as published) */
    enum qvl_dtype type; /* F32, F16 or BF16; Q4 or Q8 for a packed matrix (quant.h), which has no stride */
    int transposed;
    int64_t n_out, n_in;
    int64_t stride; /* elements from one stored row to the next */
    const void *aux; /* foreign types: the description (model/foreign.h); kernels do not look at it */
};

/* KV cache of one head (key/value head in the decoder, head in the vision encoder): opaque packed layout, see pack.h.
 * Positions are stored one by one; panels hold 16 positions. */
struct qvl_kv {
    void *k, *v;      /* each qvl_kv_bytes(type, head_dim, n_max) long, 64-byte aligned, zeroed by the owner */
    int head_dim;     /* any multiple of 4 up to 256 (72 happens) */
    int64_t n_max;    /* capacity in positions */
};

struct qvl_kernels {
    const char *name;
    enum qvl_cpu_level level;
    /* n contiguous values of a stored type to f32, exactly. */
    void (*to_f32)(float *dst, const void *src, enum qvl_dtype type, int64_t n);
    /* f32 to bf16, nearest even. */
    void (*to_bf16)(uint16_t *dst, const float *src, int64_t n);
    /* y = w * (x / sqrt(mean(x^2) + eps)); y may be x. */
    void (*rmsnorm)(float *y, const float *x, const float *w, int64_t n, float eps);
    /* y = (x - mean) / sqrt(var + eps) * w + b, biased variance; y may be x. */
    void (*layernorm)(float *y, const float *x, const float *w, const float *b, int64_t n, float eps);
    /* x[d], x[d+n/2] rotated by the angle whose cosine and sine are cs[d], sn[d], d < n/2 (half-split). In place. */
    void (*rope)(float *x, const float *cs, const float *sn, int64_t n);
    /* y[i] = silu(g[i]) * u[i]; y may be g or u. */
    void (*silu_mul)(float *y, const float *g, const float *u, int64_t n);
    void (*gelu_tanh)(float *x, int64_t n); /* 0.5x(1+tanh(sqrt(2/pi)(x+0.044715x^3))), in place */
    void (*gelu_erf)(float *x, int64_t n);  /* x*Phi(x), exact form, in place */
    void (*add)(float *y, const float *x, int64_t n); /* y += x */
    /* Everything below is the business of matmul.c and attention.c and is declared in pack.h. */
    const struct qvl_matmul_kernels *matmul;
    const struct qvl_attn_kernels *attn;
    const struct qvl_quant_kernels *quant; /* integer weights, see quant.h */
    const struct qvl_row8_kernels *row8;   /* 8-bit weights with row scales, see row8.h */
    const struct qvl_probe_kernels *probe; /* see probe.h */
};

/* The table of a level; never NULL. */
const struct qvl_kernels *qvl_kernels_get(enum qvl_cpu_level level);

/* ------------------------------------------------------------------ team operations
 * Contract for all: every member of the team calls with equal arguments. Inputs must be visible to all members (the
 * caller has passed a barrier since they were written). Results are complete for everybody only after the caller's
 * next qvl_team_barrier. Barriers inside the operation are its own business; an operation that uses scratch begins
 * with one, so operations may follow each other on the same scratch without a barrier between them. */

/* Work memory shared by the team: allocated once, from qvl_scratch_bytes of the largest operation. */
struct qvl_scratch {
    void *mem; /* 64-byte aligned */
    size_t bytes;
    atomic_int *cancel; /* may be NULL; once it is set the operations of many tokens skip what is left: results are then undefined */
};
static inline int qvl_scratch_cancelled(const struct qvl_scratch *s)
{
    return s->cancel && atomic_load_explicit(s->cancel, memory_order_relaxed);
}

/* Activations in the very form in which a product with weights of one type reads them (pack.h), so that one product can write
 * them for the next and nothing is converted in between. */
struct qvl_rows {
    void *mem;     /* qvl_rows_bytes, 64-byte aligned; borrowed */
    int64_t m, n;  /* tokens, values of each */
    /* the business of matmul.c */
    int mr;        /* 0: plain rows, [m][n] f32 */
    int64_t kb, tiles;
    size_t elem;
    int round;
};
/* Enough for every m up to this one. */
size_t qvl_rows_bytes(const struct qvl_kernels *k, enum qvl_arith a, enum qvl_dtype weights, int64_t m, int64_t n);
struct qvl_rows qvl_rows_view(const struct qvl_kernels *k, enum qvl_arith a, enum qvl_dtype weights, int64_t m, int64_t n, void *mem);
/* Writes one row, x[n]; every row has to be written, by any member. */
void qvl_rows_put(const struct qvl_rows *r, const struct qvl_kernels *k, int64_t row, const float *x);

/* What happens to the elements of a product before they are stored. */
enum qvl_then { QVL_THEN_NOTHING = 0, QVL_THEN_GELU_TANH, QVL_THEN_GELU_ERF };

/* y[m][n_out] (=, or += when add) then(x[m][n_in] * W^T + bias). */
struct qvl_matmul {
    float *y;         /* [m][n_out] f32 */
    const float *x;   /* [m][n_in] f32 */
    const struct qvl_mat *w;
    const float *bias; /* [n_out] or NULL */
    int64_t m, y_stride, x_stride; /* strides in elements */
    int add;
    int uniform;                   /* in f32 arithmetic: a row's result does not depend on m, which takes longer for many. With packed
                                      weights it never does */
    enum qvl_then then;            /* not with add, and not with q4 and q8 */
    const struct qvl_rows *x_rows; /* instead of x */
    const struct qvl_rows *y_rows; /* instead of y, not with add. Weights of integers go with rows for weights of integers */
};
size_t qvl_matmul_scratch(const struct qvl_kernels *k, enum qvl_arith a, int64_t m, int64_t n_out, int64_t n_in, int n_threads);
void qvl_matmul(const struct qvl_team *t, const struct qvl_kernels *k, enum qvl_arith a, const struct qvl_matmul *op,
                const struct qvl_scratch *s);

/* n products of the same rows (equal x, x_stride, m, n_in; results that do not overlap), cheaper than one after the other:
 * packed matrices of one kind round the rows once and share the team once. Same results. */
void qvl_matmul_set(const struct qvl_team *t, const struct qvl_kernels *k, enum qvl_arith a, const struct qvl_matmul *op, int n,
                    const struct qvl_scratch *s);
/* op[0].y = silu(x W0^T) * (x W1^T) for two matrices of one shape: the gated half of an MLP. op[1].y is work memory. Neither has
 * `add`. */
void qvl_matmul_gated(const struct qvl_team *t, const struct qvl_kernels *k, enum qvl_arith a, const struct qvl_matmul op[2],
                      const struct qvl_scratch *s);

size_t qvl_kv_bytes(enum qvl_kv_type type, int head_dim, int64_t n_max); /* of k, and of v; SIZE_MAX on overflow */
/* Stores k[head_dim] and v[head_dim] at position pos (single-threaded; different heads may be stored in parallel). */
void qvl_kv_store(enum qvl_kv_type type, const struct qvl_kv *kv, int64_t pos, const float *k, const float *v);
/* The same for n consecutive positions from pos on, a multiple of 16; rows of k and v are `stride` elements apart. */
void qvl_kv_store_rows(const struct qvl_kernels *kernels, enum qvl_kv_type type, const struct qvl_kv *kv, int64_t pos, int64_t n,
                       const float *k, const float *v, int64_t stride);

/* Softmax attention of n_tok query rows against cached positions, grouped heads: query head j uses kv[j / (n_head/n_kv)].
 * causal: row i sees positions 0 .. first+i; otherwise all rows see positions 0 .. n_key-1.
 * out[i][j*head_dim + d] = sum_p softmax_p(scale * q.k_p) v_p[d], softmax in f32. */
struct qvl_attention {
    float *out;      /* [n_tok][n_head*head_dim] f32 */
    const float *q;  /* [n_tok][n_head*head_dim] f32, rotated */
    const struct qvl_kv *kv; /* [n_kv] */
    int64_t n_tok, out_stride, q_stride; /* strides in elements */
    int n_head, n_kv, head_dim;
    int causal;
    int64_t first, n_key; /* first: causal; n_key: not causal */
    float scale;
};
size_t qvl_attention_scratch(const struct qvl_kernels *k, enum qvl_kv_type type, int64_t n_tok, int n_head, int n_kv,
                             int head_dim, int64_t n_key, int n_threads);
void qvl_attention(const struct qvl_team *t, const struct qvl_kernels *k, enum qvl_kv_type type,
                   const struct qvl_attention *op, const struct qvl_scratch *s);

#endif
