/* qcheck.h - what the checks of the integer kinds share: random data, guarded buffers, an independent reading of the packed
 * layout, and the expected product. */
#ifndef QVL_TESTS_QCHECK_H
#define QVL_TESTS_QCHECK_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/quant.h"

struct qcheck {
    const struct qvl_kernels *k;
    const struct qvl_quant_kernels *q; /* k->quant */
    struct qvl_pool *pool[3];    /* teams of 1, 2 and 3 */
    long checks, failures;
    uint64_t seed;
};

void expect(struct qcheck *c, int ok, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
uint64_t next_u64(struct qcheck *c);
int64_t next_int(struct qcheck *c, int64_t lo, int64_t hi); /* inclusive */
float next_normal(struct qcheck *c);

/* Memory with guard bytes on both sides, at `shift` bytes past a 64-byte boundary; exits when there is none. */
struct guarded {
    unsigned char *mem;
    void *p;
    size_t bytes, shift;
};
struct guarded guard_open(size_t bytes, size_t shift);
void guard_close(struct qcheck *c, struct guarded *g, const char *what);

/* The layout of quant.h, written down a second time. kind: 0 q4, 1 q8, 2 q4m. */
int stored_code(const void *packed, int kind, int64_t n_in, int64_t row, int64_t col);
uint16_t stored_scale(const void *packed, int kind, int64_t n_in, int64_t row, int64_t col);
void set_code(void *packed, int kind, int64_t n_in, int64_t row, int64_t col, int u);
void set_scale(void *packed, int kind, int64_t n_in, int64_t row, int64_t col, uint16_t half);
uint16_t stored_min(const void *packed, int64_t n_in, int64_t row, int64_t col); /* q4m */
void set_min(void *packed, int64_t n_in, int64_t row, int64_t col, uint16_t half);
int code_offset(int kind);
double half_value(uint16_t h);
/* Bytes of a packed matrix by the same description. */
size_t stored_bytes(int kind, int64_t n_out, int64_t n_in);

/* Activations of one row as the header describes them. */
void expected_row(int8_t *q, float *scale, const float *x, int64_t n_in);
/* One element of the product, in the order of the header. */
float expected_sum(const void *packed, int kind, int64_t n_in, int64_t row, const int8_t *q, const float *scale);
/* What the minima of q4m add to it. */
float expected_minima(const void *packed, int64_t n_in, int64_t row, const int8_t *q, const float *scale);
/* Equal bits, or both NaN. */
int same_float(float a, float b);

void check_pack(struct qcheck *c);
void check_products(struct qcheck *c);
void check_row8(struct qcheck *c);
void bench(struct qcheck *c, unsigned threads, const char *only);

#endif
