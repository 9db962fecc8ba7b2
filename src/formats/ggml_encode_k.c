/* ggml_encode_k.c - f32 -> Q4_K and Q6_K, blocks of 256 elements in groups with scales of their own.
 *
 * The format fixes what codes stand for (ggml_blocks.c), not how they are chosen. Here each group gets the scale (and minimum) of
 * least squares for the codes that some trial scales give; these are then rounded to the block's scales, and the codes are
 * chosen anew for what was stored. */
#include <math.h>
#include <string.h>

#include "base/half.h"
#include "formats/ggml_encode.h"

enum { QK_K = 256, TRIALS = 9 };
#define TINY 1e-30f /* smaller groups are zero: their reciprocals would not be finite */

static float put_f16(unsigned char *p, float f)
{
    uint16_t h = qvl_f32_to_f16(f);
    p[0] = (unsigned char)h;
    p[1] = (unsigned char)(h >> 8);
    return qvl_f16_to_f32(h);
}

/* The nearest integer inside lo..hi; NaN gives lo. */
static int nearest(float v, int lo, int hi) { return !(v > (float)lo) ? lo : v >= (float)hi ? hi : (int)lrintf(v); }

static float reciprocal(float d) { return fabsf(d) > TINY ? 1 / d : 0; }

/* ---------------------------------------------------------------- Q6_K */

/* The scale s for which s*q, q = -32..31, is closest to 16 values. */
static float symmetric_scale(const float *x)
{
    float extreme = 0, best = 0, most = 0;
    for (int i = 0; i < 16; i++)
        if (fabsf(x[i]) > fabsf(extreme))
            extreme = x[i];
    if (!(fabsf(extreme) > TINY) || !(fabsf(extreme) < INFINITY))
        return 0;
    for (int t = 0; t < TRIALS; t++) {
        float inverse = -(29.5f + 0.5f * (float)t) / extreme, xq = 0, qq = 0;
        for (int i = 0; i < 16; i++) {
            float q = (float)nearest(x[i] * inverse, -32, 31);
            xq += x[i] * q;
            qq += q * q;
        }
        if (qq > 0 && xq * xq > most * qq) { /* what the scale xq/qq takes away of the squares */
            most = xq * xq / qq;
            best = xq / qq;
        }
    }
    return best;
}

static void q6_k(unsigned char *p, const float *x)
{
    float scale[16], top = 0;
    for (int g = 0; g < 16; g++) {
        scale[g] = symmetric_scale(x + 16 * g);
        top = fmaxf(top, fabsf(scale[g]));
    }
    memset(p, 0, 210);
    float d = put_f16(p + 208, top / 127), inverse = reciprocal(d);
    for (int g = 0; g < 16; g++) {
        int s = nearest(scale[g] * inverse, -127, 127), half = g / 8, k = g % 8 / 2;
        unsigned char *low = p + 64 * half + 32 * (k % 2) + 16 * (g % 2), *high = p + 128 + 32 * half + 16 * (g % 2);
        float is = reciprocal(d * (float)s);
        p[192 + g] = (unsigned char)(int8_t)s;
        for (int i = 0; i < 16; i++) {
            unsigned q = (unsigned)(nearest(x[16 * g + i] * is, -32, 31) + 32);
            low[i] |= (unsigned char)((q & 15) << (k < 2 ? 0 : 4));
            high[i] |= (unsigned char)((q >> 4) << 2 * k);
        }
    }
}

void qvl_ggml_encode_q6_k(void *dst, const float *src, int64_t n)
{
    unsigned char *p = dst;
    for (; n >= QK_K; n -= QK_K, src += QK_K, p += 210)
        q6_k(p, src);
}

/* ---------------------------------------------------------------- Q4_K */

struct line {
    float scale, min; /* x = scale*q - min, both not negative */
};

/* Sums over the 32 values of a group and its codes. */
struct sums {
    float q, qq, xq;
};

/* The line of least squares through (q, x), kept to what the format can say. */
static struct line fit(const struct sums *s, float x)
{
    const float n = 32;
    float det = n * s->qq - s->q * s->q;
    struct line l = {0};
    if (det > 0) {
        l.scale = (n * s->xq - x * s->q) / det;
        l.min = -(x * s->qq - s->q * s->xq) / det;
    }
    if (!(l.min > 0)) {
        l.min = 0;
        l.scale = s->qq > 0 ? s->xq / s->qq : 0;
    }
    if (!(l.scale > 0))
        l.scale = 0;
    return l;
}

static struct line best_line(const float *x)
{
    float low = 0, high = x[0], sum = 0, least = INFINITY;
    struct line best = {0};
    for (int i = 0; i < 32; i++) {
        low = fminf(low, x[i]);
        high = fmaxf(high, x[i]);
        sum += x[i];
    }
    float width = high - low;
    if (!(width > TINY) || !(width < INFINITY))
        return (struct line){0, low > -INFINITY ? -low : 0};
    for (int t = 0; t < TRIALS; t++) {
        float inverse = (14 + 0.25f * (float)t) / width, error = 0;
        struct sums s = {0};
        float q[32];
        for (int i = 0; i < 32; i++) {
            q[i] = (float)nearest((x[i] - low) * inverse, 0, 15);
            s.q += q[i];
            s.qq += q[i] * q[i];
            s.xq += x[i] * q[i];
        }
        struct line l = fit(&s, sum);
        for (int i = 0; i < 32; i++) {
            float d = l.scale * q[i] - l.min - x[i];
            error += d * d;
        }
        if (error < least) {
            least = error;
            best = l;
        }
    }
    return best;
}

/* Six bits each of scale and minimum of group g, as scale_min of ggml_blocks.c reads them; c is zero before. */
static void put_scale_min(unsigned char *c, int g, unsigned scale, unsigned min)
{
    if (g < 4) {
        c[g] |= (unsigned char)scale;
        c[g + 4] |= (unsigned char)min;
    } else {
        c[g + 4] |= (unsigned char)((scale & 15) | (min & 15) << 4);
        c[g - 4] |= (unsigned char)(scale >> 4 << 6);
        c[g] |= (unsigned char)(min >> 4 << 6);
    }
}

static void q4_k(unsigned char *p, const float *x)
{
    struct line l[8];
    float top = 0, top_min = 0;
    for (int g = 0; g < 8; g++) {
        l[g] = best_line(x + 32 * g);
        top = fmaxf(top, l[g].scale);
        top_min = fmaxf(top_min, l[g].min);
    }
    memset(p, 0, 144);
    float d = put_f16(p, top / 63), dmin = put_f16(p + 2, top_min / 63), id = reciprocal(d), idmin = reciprocal(dmin);
    for (int g = 0; g < 8; g++) {
        int scale = nearest(l[g].scale * id, 0, 63), min = nearest(l[g].min * idmin, 0, 63);
        float s = reciprocal(d * (float)scale), m = dmin * (float)min;
        unsigned char *q = p + 16 + 32 * (g / 2);
        put_scale_min(p + 4, g, (unsigned)scale, (unsigned)min);
        for (int i = 0; i < 32; i++)
            q[i] |= (unsigned char)(nearest((x[32 * g + i] + m) * s, 0, 15) << g % 2 * 4);
    }
}

void qvl_ggml_encode_q4_k(void *dst, const float *src, int64_t n)
{
    unsigned char *p = dst;
    for (; n >= QK_K; n -= QK_K, src += QK_K, p += 144)
        q4_k(p, src);
}
