/* ggml_encode.c - f32 -> the simple GGUF block types.
 *
 * The integer is formed with the f32 scale (by its reciprocal), although the f16 one is stored: that is how the usual tools
 * define these types, and it fixes every bit. */
#include "formats/ggml_encode.h"

#include <math.h>
#include <string.h>

#include "base/half.h"

enum { QK = 32 };

static unsigned char *put16(unsigned char *p, uint16_t v)
{
    p[0] = (unsigned char)v;
    p[1] = (unsigned char)(v >> 8);
    return p + 2;
}

static unsigned char *put_f16(unsigned char *p, float f) { return put16(p, qvl_f32_to_f16(f)); }

/* trunc(v) inside 0..top; NaN gives 0. */
static unsigned code(float v, int top) { return !(v > 0) ? 0 : v >= (float)top ? (unsigned)top : (unsigned)v; }

static float reciprocal(float d) { return d > 0 || d < 0 ? 1 / d : 0; }

void qvl_ggml_encode_f32(void *dst, const float *src, int64_t n) { memcpy(dst, src, (size_t)n * 4); }

void qvl_ggml_encode_f16(void *dst, const float *src, int64_t n)
{
    unsigned char *p = dst;
    for (int64_t i = 0; i < n; i++)
        p = put_f16(p, src[i]);
}

void qvl_ggml_encode_bf16(void *dst, const float *src, int64_t n)
{
    unsigned char *p = dst;
    for (int64_t i = 0; i < n; i++)
        p = put16(p, qvl_f32_to_bf16(src[i]));
}

/* d = max|x| / 127, q = round half away from zero of x/d */
void qvl_ggml_encode_q8_0(void *dst, const float *src, int64_t n)
{
    unsigned char *p = dst;
    for (; n >= QK; n -= QK, src += QK) {
        float top = 0;
        for (int i = 0; i < QK; i++)
            top = fmaxf(top, fabsf(src[i]));
        float d = top / 127, id = reciprocal(d);
        p = put_f16(p, d);
        for (int i = 0; i < QK; i++) {
            float v = roundf(src[i] * id);
            *p++ = (unsigned char)(int8_t)(v >= 127 ? 127 : v <= -127 ? -127 : v > -127 ? (int)v : 0);
        }
    }
}

/* The signed value of the largest magnitude, the first one of several. */
static float extreme(const float *x)
{
    float best = x[0];
    for (int i = 1; i < QK; i++)
        if (fabsf(x[i]) > fabsf(best))
            best = x[i];
    return best;
}

static void range(const float *x, float *low, float *high)
{
    *low = *high = x[0];
    for (int i = 1; i < QK; i++) {
        *low = fminf(*low, x[i]);
        *high = fmaxf(*high, x[i]);
    }
}

/* 16 bytes of low nibbles of codes 0..15 and of codes 16..31; with `five`, 4 bytes of fifth bits in front. */
static unsigned char *put_codes(unsigned char *p, const unsigned *q, int five)
{
    for (int i = 0; five && i < 4; i++, p++) {
        *p = 0;
        for (int j = 0; j < 8; j++)
            *p |= (unsigned char)((q[8 * i + j] >> 4 & 1) << j);
    }
    for (int i = 0; i < 16; i++)
        *p++ = (unsigned char)((q[i] & 15) | (q[i + 16] & 15) << 4);
    return p;
}

/* d = extreme / -half, q = trunc(x/d + half + 0.5): the extreme itself has code 0 exactly */
static void encode_signed(unsigned char *p, const float *src, int64_t n, int half)
{
    unsigned q[QK];
    for (; n >= QK; n -= QK, src += QK) {
        float d = extreme(src) / (float)-half, id = reciprocal(d);
        for (int i = 0; i < QK; i++)
            q[i] = code(src[i] * id + ((float)half + 0.5f), 2 * half - 1);
        p = put_codes(put_f16(p, d), q, half == 16);
    }
}

/* d = (max - min)/top, m = min, q = trunc((x - m)/d + 0.5) */
static void encode_range(unsigned char *p, const float *src, int64_t n, int top)
{
    unsigned q[QK];
    for (; n >= QK; n -= QK, src += QK) {
        float low, high;
        range(src, &low, &high);
        float d = (high - low) / (float)top, id = reciprocal(d);
        for (int i = 0; i < QK; i++)
            q[i] = code((src[i] - low) * id + 0.5f, top);
        p = put_codes(put_f16(put_f16(p, d), low), q, top == 31);
    }
}

void qvl_ggml_encode_q4_0(void *dst, const float *src, int64_t n) { encode_signed(dst, src, n, 8); }
void qvl_ggml_encode_q5_0(void *dst, const float *src, int64_t n) { encode_signed(dst, src, n, 16); }
void qvl_ggml_encode_q4_1(void *dst, const float *src, int64_t n) { encode_range(dst, src, n, 15); }
void qvl_ggml_encode_q5_1(void *dst, const float *src, int64_t n) { encode_range(dst, src, n, 31); }
