/* expected_int8.c - attention over an INT8 cache, bit for bit: a second description of the arithmetic in src/kernels/pack.h,
 * position by position and without a cache. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "kcheck.h"

enum { BLOCK = 512, PART = 128, TOP16 = 127 * 256 };

/* x[i] = sum over j of (-1)^(bits that i and j share) x[j], in pieces of the largest power of two that divides n; the sums in
 * the order of the fast transform. Returns that power. */
static int hadamard(float *x, int n)
{
    int size = 1;
    while (n % (2 * size) == 0)
        size *= 2;
    for (int bit = 1; bit < size; bit *= 2)
        for (int i = 0; i < n; i++)
            if (!(i & bit)) {
                float sum = x[i] + x[i + bit], difference = x[i] - x[i + bit];
                x[i] = sum;
                x[i + bit] = difference;
            }
    return size;
}

static float quantised(int32_t *q, const float *x, int n, float top)
{
    float largest = 0;
    int finite = 1;
    for (int i = 0; i < n; i++) {
        finite &= isfinite(x[i]) != 0;
        largest = fabsf(x[i]) > largest ? fabsf(x[i]) : largest;
    }
    for (int i = 0; i < n; i++)
        q[i] = finite && largest >= 0x1p-100f ? (int32_t)nearbyintf(x[i] * (top / largest)) : 0;
    return !finite ? NAN : largest >= 0x1p-100f ? largest / top : 0;
}

static float power_of_two(float t)
{
    static const float c[] = {0.0013264587614685297f, 0.009671619161963463f, 0.0555073507130146f,
                              0.24022240936756134f,   0.6931470036506653f,  1};
    if (t < -126)
        return 0;
    if (isnan(t))
        return t;
    float n = nearbyintf(t), f = t - n, p = c[0];
    for (int i = 1; i < 6; i++)
        p = fmaf(p, f, c[i]);
    return p * ldexpf(1, (int)n);
}

struct sums {
    float m, l, o[256];
};

/* Positions p0 <= p < p0+n, in the layout of the arguments below. */
static void block(struct sums *r, const int32_t *u, float f, const float *k, const float *v, int64_t n, int hd)
{
    static float s[BLOCK], e[BLOCK], w[BLOCK];
    int32_t *vq = qvl_alloc((size_t)(n * hd), sizeof *vq), kq[256];
    float lane[16] = {0};
    *r = (struct sums){.m = -INFINITY};
    for (int64_t p = 0; p < n; p++) {
        float x[256];
        int64_t sum = 0;
        memcpy(x, k + p * hd, (size_t)hd * 4);
        hadamard(x, hd);
        float scale = quantised(kq, x, hd, 127);
        for (int d = 0; d < hd; d++)
            sum += (int64_t)u[d] * kq[d];
        s[p] = (float)sum * (scale * f);
        r->m = s[p] > r->m ? s[p] : r->m;
    }
    for (int64_t p = 0; p < n; p++) {
        e[p] = power_of_two(s[p] - r->m);
        lane[p % 16] += e[p];
        w[p] = e[p] * quantised(vq + p * hd, v + p * hd, hd, 127);
    }
    for (int half = 8; half; half /= 2)
        for (int l = 0; l < half; l++)
            lane[l] += lane[l + half];
    r->l = lane[0];
    for (int64_t p0 = 0; p0 < n; p0 += PART) {
        int32_t wq[PART];
        int count = n - p0 < PART ? (int)(n - p0) : PART;
        float scale = quantised(wq, w + p0, count, TOP16);
        for (int d = 0; d < hd; d++) {
            int64_t sum = 0;
            for (int p = 0; p < count; p++)
                sum += (int64_t)wq[p] * vq[(p0 + p) * hd + d];
            r->o[d] = fmaf((float)sum, scale, r->o[d]);
        }
    }
    qvl_mem_free(vq);
}

void expected_int8_row(float *out, const float *q, const float *k, const float *v, int64_t n, int hd, float scale)
{
    struct sums all = {.m = -INFINITY}, one;
    int32_t u[256];
    float x[256];
    memcpy(x, q, (size_t)hd * 4);
    int gain = hadamard(x, hd);
    float f = quantised(u, x, hd, TOP16) * (scale * 1.4426950408889634f / (float)gain);
    for (int64_t p0 = 0; p0 < n; p0 += BLOCK) {
        block(&one, u, f, k + p0 * hd, v + p0 * hd, n - p0 < BLOCK ? n - p0 : BLOCK, hd);
        if (p0 == 0) {
            all = one;
            continue;
        }
        float a = 1, b = 1, ln2 = 0.6931471805599453f;
        if (one.m > all.m) {
            a = expf((all.m - one.m) * ln2);
            all.m = one.m;
        } else {
            b = expf((one.m - all.m) * ln2);
        }
        for (int d = 0; d < hd; d++)
            all.o[d] = fmaf(all.o[d], a, one.o[d] * b);
        all.l = all.l * a + one.l * b;
    }
    for (int d = 0; d < hd; d++)
        out[d] = all.o[d] * (1 / all.l);
}
