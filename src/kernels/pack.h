/* pack.h - packed layouts, and the inner kernels that work on them. Private to src/kernels.
 *
 * MATRIX PRODUCT. Weights stay as they are in the checkpoint. For m <= QVL_GEMV_MAX tokens the rows are read directly
 * (gemv: bound by memory). For more tokens everything is cut into blocks of `kb` inner indices:
 *   x block  [tile][mr][kb] f32 or bf16   tile = mr tokens, missing tokens are zero; the last block keeps the distance kb
 *   w panel  [kb][nr] f32, [kb/2][nr][2] bf16: nr rows of the matrix, transposed; missing rows are zero
 *   c        [tile][mr][nr] f32        sums of the blocks so far, private to a thread
 * An x block is packed once for the team, a w panel by the thread that needs it, into memory that stays in its caches.
 * Each block is summed from zero and then added to c: the order of a sum depends on n_in alone, never on m, on the
 * number of threads or on how tokens were cut into chunks.
 *
 * KV CACHE of one head, positions in panels of QVL_KV_PANEL, dv = head_dim rounded up to a multiple of 16:
 *   F32   K [pos/16][head_dim][16] f32       V [pos][dv] f32
 *   BF16  K [pos/16][head_dim/2][16][2]      V [pos/2][dv][2]
 *   INT8  K [pos/16]{ [head_dim/4][16][4] u8, [16] f32 }      V [pos/16]{ [4][dv][4] i8, [16] f32 }
 * so one load of K gives 16 scores without horizontal sums, and one load of V 16 outputs. A position that a row does not
 * see has probability 0, but its V is still multiplied when another row of the block sees it or shares a pair with it: what
 * the cache holds must be finite, or rows of the same block of positions become NaN (as in a masked softmax elsewhere).
 * An INT8 cache has no such rule: a position that a row does not see cannot touch it.
 *
 * INT8: each key and each value has one scale, largest magnitude 127, nearest even; keys are stored as k + 128, four
 * dimensions in a word, values with four positions in a word. Before that, keys and queries are rotated by a Hadamard matrix
 * (of the largest power of two that divides head_dim): scores stay what they are, and a channel that is larger than all
 * others is spread over many, instead of taking the scale away from them. Something not finite makes the scale NaN and the
 * values 0; below 2^-100 everything is 0. Scores and outputs, with one order of operations at every level:
 *   u      query as int16, largest magnitude QVL_Q16, and its scale
 *   s[p]   = (float)(sum u k) * (k_scale[p] * (u_scale * scale)), in units of log2, so that m is, too
 *   e[p]   = 2^(s[p] - m), m the largest s; see attn_int8.h for the polynomial
 *   L      = sum e: 16 sums of every sixteenth position, then halves are added to halves
 *   w[p]   = e[p] * v_scale[p], in parts of QVL_ATTN_PART positions as integers, largest magnitude QVL_Q16, and a scale
 *   O      = fma((float)(sum w v), w_scale, O) over the parts, from 0
 * Both integer factors of 16 bits are split into bytes where the instructions want bytes; the sums are exact either way:
 * 256 dimensions * 128 * QVL_Q16 and QVL_ATTN_PART positions * 127 * QVL_Q16 fit in 31 bits.
 *
 * ATTENTION works in blocks of QVL_ATTN_BLOCK positions that start at multiples of it. A block is computed from zero for
 * up to QVL_ATTN_ROWS query rows (two register tiles, which share each piece of K and V in the first-level cache): scores
 * s, their maximum M, p = exp(scale*(s - M)), L = sum p, O = p V. Blocks are merged in ascending order. Which rows
 * share a tile, and which thread computes which block, cannot change a result. */
#ifndef QVL_KERNELS_PACK_H
#define QVL_KERNELS_PACK_H

#include "kernels/kernels.h"

#define QVL_GEMV_MAX   8
#define QVL_MR_MAX     8
#define QVL_KV_PANEL   16
#define QVL_ATTN_BLOCK 512
#define QVL_ATTN_PART  128 /* positions whose V stays in the first-level cache while all rows use it */
#define QVL_ATTN_ROWS  12
#define QVL_HEAD_MAX   256
#define QVL_Q16        32512 /* 127 * 256: the high of two signed bytes is at most 127 */

/* Rows n0 <= n < n1 of a product for m <= QVL_GEMV_MAX tokens. */
struct qvl_gemv {
    float *y;         /* [m][n_out] */
    const void *x;    /* [m][x_stride] f32 for gemv, bf16 for gemv_bf16 */
    const struct qvl_mat *w;
    const float *bias;
    int64_t y_stride, x_stride;
    int64_t n0, n1;
    int m, add;
};

/* Finished sums to their place: y = c + bias, or y + (c + bias). */
struct qvl_store {
    float *y;
    const float *c, *bias; /* bias may be NULL */
    int64_t y_stride, c_stride, rows, n;
    int add;
};

/* The activation of a product on `rows` rows of n finished elements. */
void qvl_apply_then(const struct qvl_kernels *k, enum qvl_then then, float *y, int64_t y_stride, int64_t rows, int64_t n);

struct qvl_matmul_kernels {
    void (*store)(const struct qvl_store *s);
    /* Any stored type, plain or transposed. */
    void (*gemv)(const struct qvl_gemv *g);
    /* bf16 weights, not transposed. NULL: this level widens to f32. */
    void (*gemv_bf16)(const struct qvl_gemv *g);
    int mr, nr, kb; /* tile shape of the products below; mr = 0: gemv does everything */
    int kb_bf16;    /* kb of the bf16 forms, which are NULL when this level has none */
    /* dst[kb][nr] <- rows n0.., inner indices k0..k0+kb of w; rows beyond n_out are zero. */
    void (*pack_w)(float *dst, const struct qvl_mat *w, int64_t n0, int64_t k0, int64_t kb);
    /* dst[(kb+1)/2][nr][2]; w is bf16. */
    void (*pack_w_bf16)(uint32_t *dst, const struct qvl_mat *w, int64_t n0, int64_t k0, int64_t kb);
    /* c[mr][nr] (+)= x[mr][kb of the level] * w[kb][nr]; `first` stores, otherwise adds. */
    void (*tile)(float *c, const float *x, const float *w, int64_t kb, int first);
    /* x[mr][kb_bf16/2] pairs, w[kp][nr] pairs. */
    void (*tile_bf16)(float *c, const uint32_t *x, const uint32_t *w, int64_t kp, int first);
};

/* A query row for an INT8 cache, rotated. */
struct qvl_query8 {
    float scale;
    int32_t start; /* -128 * sum of q: what the offset of the stored keys adds */
    int16_t q[QVL_HEAD_MAX];
};
void qvl_query8_make(struct qvl_query8 *to, const float *q, int head_dim);
/* Factor that the rotation of queries and keys puts on their products: a power of two. */
int qvl_rotation_gain(int head_dim);
/* Bytes of a panel of QVL_KV_PANEL keys or values, scales included; width is head_dim or dv. */
static inline int64_t qvl_panel8_bytes(int width) { return QVL_KV_PANEL * ((int64_t)width + 4); }

/* One block of attention for `rows` query rows. */
struct qvl_attn_block {
    const float *q;       /* [rows][QVL_HEAD_MAX], rounded to bf16 for a BF16 cache; NULL for INT8 */
    const struct qvl_query8 *q8; /* [rows], INT8 only */
    const void *k, *v;    /* packed cache at the first position of the block */
    const int64_t *limit; /* [rows] positions of the block that the row sees, 1 .. n */
    int64_t n;            /* positions in the block, 1 .. QVL_ATTN_BLOCK */
    int rows, head_dim, dv;
    float scale; /* INT8: of the products of rotated vectors, times log2(e) */
    float *o;    /* [rows][dv] */
    float *m, *l; /* [rows] */
    void *work;  /* QVL_ATTN_WORK bytes, 64-byte aligned */
};
/* Scores as f32, then probabilities in place or beside; query rows in another format. */
#define QVL_ATTN_WORK (QVL_ATTN_ROWS * (QVL_ATTN_BLOCK + QVL_HEAD_MAX) * 4 * 2)

struct qvl_attn_kernels {
    void (*block_f32)(const struct qvl_attn_block *b);
    void (*block_bf16)(const struct qvl_attn_block *b);
    void (*block_int8)(const struct qvl_attn_block *b);
    /* A panel of 16 positions to bf16: rows of k and v (head_dim f32 each, `stride` elements apart) to kd [head_dim/2][16][2] and
     * vd [8][dv][2]. NULL: position by position. */
    void (*store_bf16)(uint16_t *kd, uint16_t *vd, const float *k, const float *v, int64_t stride, int head_dim);
    /* acc = a*acc + b*o, n a multiple of 16: fma(acc, a, b*o). */
    void (*merge)(float *acc, const float *o, float a, float b, int64_t n);
};

struct qvl_probe_kernels {
    /* Reads n bytes (a multiple of 256) and returns something that depends on all of them. */
    uint64_t (*read)(const void *p, size_t n);
    /* Runs independent multiply-adds on registers for `iterations`; returns the operations done (2 per multiply-add). */
    double (*f32)(int64_t iterations);
    double (*bf16)(int64_t iterations); /* NULL: no dot-product instruction */
};

static inline int qvl_attn_dv(int head_dim) { return (head_dim + 15) / 16 * 16; }

/* The tables of the levels, assembled in kernels.c. */
extern const struct qvl_matmul_kernels qvl_matmul_kernels_ref;
extern const struct qvl_attn_kernels qvl_attn_kernels_ref;
extern const struct qvl_probe_kernels qvl_probe_kernels_ref;
extern const struct qvl_kernels qvl_kernels_ref;
#if defined(__x86_64__)
extern const struct qvl_matmul_kernels qvl_matmul_kernels_avx2, qvl_matmul_kernels_avx512, qvl_matmul_kernels_avx512_bf16;
extern const struct qvl_attn_kernels qvl_attn_kernels_avx2, qvl_attn_kernels_avx_vnni, qvl_attn_kernels_avx512,
    qvl_attn_kernels_avx512_vnni, qvl_attn_kernels_avx512_bf16;
void qvl_attn_int8_avx2(const struct qvl_attn_block *b);
void qvl_attn_int8_avx_vnni(const struct qvl_attn_block *b);
void qvl_attn_int8_avx512_vnni(const struct qvl_attn_block *b);
extern const struct qvl_probe_kernels qvl_probe_kernels_avx2, qvl_probe_kernels_avx512, qvl_probe_kernels_avx512_bf16;
extern const struct qvl_kernels qvl_kernels_avx2, qvl_kernels_avx_vnni, qvl_kernels_avx512, qvl_kernels_avx512_vnni,
    qvl_kernels_avx512_bf16;
#elif defined(__aarch64__)
extern const struct qvl_attn_kernels qvl_attn_kernels_neon_dotprod;
/* Plain C but for integer weights and an INT8 cache. */
extern const struct qvl_kernels qvl_kernels_neon_dotprod, qvl_kernels_neon_i8mm;
#endif

#endif
