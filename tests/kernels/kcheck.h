/* kcheck.h - what the checks share: random data, guarded buffers, comparison, a team. */
#ifndef QVL_TESTS_KCHECK_H
#define QVL_TESTS_KCHECK_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"

struct check {
    const struct qvl_kernels *k;
    long checks, failures;
    uint64_t seed;
};

uint64_t next_u64(struct check *c);
double next_uniform(struct check *c); /* 0 <= u < 1 */
int64_t next_int(struct check *c, int64_t lo, int64_t hi); /* inclusive */
float next_normal(struct check *c);
/* n normal values times scale. */
void fill_normal(struct check *c, float *x, int64_t n, float scale);
/* Values of all magnitudes, signed zeros, denormals, and rarely huge ones below `largest`. */
void fill_wild(struct check *c, float *x, int64_t n, float largest);

/* n elements of `size` bytes at `shift` bytes past a 64-byte boundary, with guard bytes on both sides. */
struct guarded {
    unsigned char *mem;
    void *p;
    size_t bytes, shift;
};
struct guarded guard_open(size_t n, size_t size, size_t shift);
/* Counts a failure when a guard byte has changed, and frees. */
void guard_close(struct check *c, struct guarded *g, const char *what);

/* One counted check. */
void expect(struct check *c, int ok, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* |got - want| <= abs + rel*|want| for each element (equal non-finite values agree), and rel-L2 <= l2. */
void expect_close(struct check *c, const float *got, const double *want, int64_t n, double l2, double rel, double abs,
                  const char *what);

/* A stored matrix of a type, made from f32 values; returns the values as they read back. */
struct stored {
    struct guarded mem;
    struct qvl_mat mat;
    double *value; /* [n_out][n_in] */
};
struct stored make_matrix(struct check *c, int64_t n_out, int64_t n_in, enum qvl_dtype type, int transposed,
                          int64_t extra_stride, size_t shift, int wild);
void free_matrix(struct check *c, struct stored *s);
double to_double(const void *p, int64_t i, enum qvl_dtype type);
uint16_t bits_f16(float f);
double round_to_bf16(double x);

/* One query row over n positions k, v [n][hd] of an INT8 cache, bit for bit. */
void expected_int8_row(float *out, const float *q, const float *k, const float *v, int64_t n, int hd, float scale);

void check_elements(struct check *c);
void check_matmul(struct check *c);
void check_attention(struct check *c);
void check_int8(struct check *c); /* attention over an INT8 cache */
int bench(enum qvl_cpu_level level, unsigned threads, const char *only);

#endif
