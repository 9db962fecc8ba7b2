/* verify.c - runs the request stored in a golden and compares every tensor with the golden's (docs/traces.md).
 *
 * Comparisons count a value that is not finite as a difference, whatever the limit. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/half.h"
#include "base/mem.h"
#include "engine/internal.h"

#define PIXELS_BIT_EQUAL 0.9999

struct golden {
    struct qvl_tensors *file;
    const char *path;
    char *dir;
    const char *messages;
    struct qvl_session_params session;
    struct qvl_gen_params gen;
};

struct stats {
    double max_abs, rel_l2, min_cos, equal; /* equal: share of bit-equal values */
    int64_t bad;                            /* values where one side is not finite and the sides differ */
};

/* ---- the request ---- */

static int meta_number(const struct golden *g, const char *key, unsigned long long *out, qvl_err *err)
{
    const char *s = qvl_tensors_meta(g->file, key);
    char *end;
    if (!s)
        return 0;
    errno = 0;
    *out = strtoull(s, &end, 10);
    if (errno || end == s || *end || *s == '-')
        return qvl_fail(err, QVL_E_FORMAT, "%s: metadata %s: found \"%.40s\", expected a number", g->path, key, s);
    return 1;
}

static int is_false(const char *s) { return s && (strcmp(s, "false") == 0 || strcmp(s, "False") == 0 || strcmp(s, "0") == 0); }

static int read_request(struct golden *g, const struct qvl_session_params *p, qvl_err *err)
{
    unsigned long long n;
    int rc;
    const char *version = qvl_tensors_meta(g->file, "qvl.trace"), *alpha = qvl_tensors_meta(g->file, "alpha");
    if (!version || strcmp(version, "1") != 0)
        return qvl_fail(err, QVL_E_FORMAT, "%s: metadata qvl.trace: found %.40s, expected 1: this is not a trace", g->path,
                        version ? version : "nothing");
    g->messages = qvl_tensors_meta(g->file, "messages");
    if (!g->messages)
        return qvl_fail(err, QVL_E_FORMAT, "%s: metadata messages is missing", g->path);
    qvl_session_params_default(&g->session);
    if (p)
        memcpy(&g->session, p, p->struct_size < sizeof g->session ? p->struct_size : sizeof g->session);
    qvl_gen_params_default(&g->gen, NULL);
    g->gen.max_tokens = 1;
    QVL_TRY(rc = meta_number(g, "max_new_tokens", &n, err));
    if (rc)
        g->gen.max_tokens = n > UINT32_MAX ? UINT32_MAX : n ? (uint32_t)n : 1;
    QVL_TRY(rc = meta_number(g, "min_pixels", &n, err));
    if (rc)
        g->session.min_pixels = n;
    QVL_TRY(rc = meta_number(g, "max_pixels", &n, err));
    if (rc)
        g->session.max_pixels = n;
    g->session.alpha = alpha && strcmp(alpha, "drop") == 0 ? QVL_ALPHA_DROP : QVL_ALPHA_WHITE;
    g->gen.no_generation_prompt = is_false(qvl_tensors_meta(g->file, "add_generation_prompt"));
    return 0;
}

static int open_golden(struct golden *g, const char *path, const struct qvl_session_params *p, qvl_err *err)
{
    *g = (struct golden){.path = path};
    QVL_TRY(qvl_safetensors_open(&g->file, path, err));
    const char *slash = strrchr(path, '/');
    g->dir = slash ? qvl_strndup(path, (size_t)(slash - path) + 1) : qvl_strdup("");
    if (!g->dir)
        return qvl_fail_nomem(err, strlen(path), "path");
    return read_request(g, p, err);
}

static void close_golden(struct golden *g)
{
    qvl_tensors_close(&g->file);
    qvl_mem_free(g->dir);
}

static int run_request(const struct golden *g, qvl_model *m, struct qvl_trace *trace, qvl_err *err)
{
    qvl_session *s = NULL;
    struct qvl_gen_extra extra = {.trace = trace, .no_ban = 1,
                                  .generated_logits = qvl_tensors_find(g->file, "generated_logits") != NULL};
    int rc = qvl_session_open(&s, m, &g->session, err);
    if (rc == 0)
        rc = qvl_session_add_json(s, g->messages, strlen(g->messages), g->dir, err);
    if (rc == 0)
        rc = qvl_generate(s, &g->gen, &extra, NULL, err);
    if (rc == 0 && trace->failed)
        rc = qvl_fail_nomem(err, 0, "the trace");
    qvl_session_close(&s);
    return rc < 0 ? qvl_fail_prefix(err, rc, "%s: ", g->path) : 0;
}

/* ---- comparing ---- */

static double value_at(const void *data, enum qvl_dtype type, int64_t i)
{
    const char *p = data;
    uint16_t h;
    float f;
    double d;
    switch (type) {
    case QVL_DT_F64: memcpy(&d, p + i * 8, 8); return d;
    case QVL_DT_BF16: memcpy(&h, p + i * 2, 2); return (double)qvl_bf16_to_f32(h);
    case QVL_DT_F16: memcpy(&h, p + i * 2, 2); return (double)qvl_f16_to_f32(h);
    default: memcpy(&f, p + i * 4, 4); return (double)f;
    }
}

/* ours: [rows][cols] f32; theirs: the same shape in its own type. */
static struct stats compare(const float *ours, const void *theirs, enum qvl_dtype type, int64_t rows, int64_t cols)
{
    struct stats s = {.min_cos = 1};
    double diff2 = 0, norm2 = 0, equal = 0;
    for (int64_t r = 0; r < rows; r++) {
        double dot = 0, aa = 0, bb = 0;
        for (int64_t c = 0; c < cols; c++) {
            double a = (double)ours[r * cols + c], b = value_at(theirs, type, r * cols + c), d = fabs(a - b);
            equal += a == b;
            if (!isfinite(a) || !isfinite(b)) {
                s.bad += !(a == b);
                continue;
            }
            s.max_abs = d > s.max_abs ? d : s.max_abs;
            diff2 += d * d;
            norm2 += b * b;
            dot += a * b;
            aa += a * a;
            bb += b * b;
        }
        double cosine = aa > 0 && bb > 0 ? dot / sqrt(aa * bb) : aa == bb ? 1 : 0;
        s.min_cos = cosine < s.min_cos ? cosine : s.min_cos;
    }
    s.rel_l2 = norm2 > 0 ? sqrt(diff2 / norm2) : diff2 > 0 ? INFINITY : 0;
    s.equal = rows > 0 && cols > 0 ? equal / (double)(rows * cols) : 1;
    return s;
}

struct report {
    qvl_verify_fn fn;
    void *ud;
    int failed;
    enum qvl_kv_type kv;
};

static void row(struct report *rep, const char *name, const char *shape, struct stats s, double limit, int pass, const char *note)
{
    qvl_verify_row r = {.name = name, .shape = shape, .max_abs = s.max_abs, .rel_l2 = s.rel_l2, .min_cos = s.min_cos,
                        .limit = limit, .pass = pass, .note = note};
    rep->failed |= pass == 0;
    if (rep->fn)
        rep->fn(rep->ud, &r);
}

static int starts_with(const char *s, const char *prefix) { return strncmp(s, prefix, strlen(prefix)) == 0; }

/* Nothing is rounded below float32. */
static int is_exact(const struct qvl_model *m, enum qvl_kv_type kv)
{
    return m->arith_vision == QVL_ARITH_F32 && m->arith_text == QVL_ARITH_F32 && kv == QVL_KV_F32;
}

/* Limit of the relative L2 error; NaN = reported only. */
static double limit_of(const char *name, const struct qvl_model *m, enum qvl_kv_type kv)
{
    enum qvl_arith vision = m->arith_vision;
    if (strcmp(name, "pixel_values") == 0)
        return 1e-6;
    if (m->vision_q8 && strcmp(name, "vision.output") != 0 && !starts_with(name, "vision.deepstack."))
        return NAN; /* what the fast mode promises is about the features: a cosine of 0.998 */
    if (m->vision_q8 && starts_with(name, "vision."))
        return 6e-2;
    if (starts_with(name, "vision."))
        return vision == QVL_ARITH_F32 ? 2e-5 : 1.5e-2;
    int exact = is_exact(m, kv);
    if (m->kind == QVL_PRECISION_Q4)
        return NAN; /* graded by KL divergence */
    if (strcmp(name, "logits") == 0 || strcmp(name, "generated_logits") == 0)
        return m->kind == QVL_PRECISION_Q8 || kv == QVL_KV_INT8 ? 6e-2 /* both keep 8 bits: 0.5 to 0.8 % */
               : exact                                          ? 1e-4
               : m->config.text.n_expert                        ? NAN /* rounding can choose another expert: no bound */
                                                                : 3e-2;
    if (starts_with(name, "text."))
        return exact ? 1e-4 : NAN;
    return NAN;
}

/* Divergence of our next-token distributions from the golden's, over the rows of logits. */
struct divergence {
    double mean, p99, top1; /* KL(golden || ours) in nats; share of rows with the same most likely token */
};

static int by_value(const void *a, const void *b)
{
    double x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

static double log_sum_exp(const void *row, enum qvl_dtype type, int64_t at, int64_t n, int64_t *best)
{
    double top = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++) {
        double v = value_at(row, type, at + i);
        if (v > top) {
            top = v;
            *best = i;
        }
    }
    for (int64_t i = 0; i < n; i++)
        sum += exp(value_at(row, type, at + i) - top);
    return top + log(sum);
}

static int diverge(struct divergence *d, const float *ours, const void *theirs, enum qvl_dtype type, int64_t rows, int64_t cols)
{
    double *kl = qvl_alloc((size_t)rows, sizeof *kl);
    *d = (struct divergence){0};
    if (!kl || !rows) {
        qvl_mem_free(kl);
        return -1;
    }
    for (int64_t r = 0; r < rows; r++) {
        int64_t a = 0, b = 0;
        double za = log_sum_exp(ours, QVL_DT_F32, r * cols, cols, &a), zb = log_sum_exp(theirs, type, r * cols, cols, &b);
        kl[r] = 0;
        for (int64_t c = 0; c < cols; c++) {
            double q = value_at(theirs, type, r * cols + c) - zb, p = (double)ours[r * cols + c] - za;
            if (q > -700)
                kl[r] += exp(q) * (q - p);
        }
        d->mean += kl[r] / (double)rows;
        d->top1 += (a == b) / (double)rows;
    }
    qsort(kl, (size_t)rows, sizeof *kl, by_value);
    d->p99 = kl[(rows * 99 + 99) / 100 - 1];
    qvl_mem_free(kl);
    return 0;
}

static void compare_floats(struct report *rep, const struct qvl_model *m, const struct qvl_tensor *theirs,
                           const struct qvl_trace_entry *ours, int64_t rows, const char *why)
{
    char shape[96], note[128] = "";
    qvl_tensor_describe(theirs, shape, sizeof shape);
    int64_t cols = theirs->shape[1];
    /* logits of the last position only, or of the tokens before the paths part: compare what both have */
    const float *a = (const float *)ours->data + (strcmp(theirs->name, "logits") == 0 ? (ours->rows - rows) * cols : 0);
    struct stats s = compare(a, theirs->data, theirs->type, rows, cols);
    double limit = limit_of(theirs->name, m, rep->kv);
    int pass = isnan(limit) ? 2 : s.rel_l2 <= limit, is_logits = strstr(theirs->name, "logits") != NULL;
    struct divergence d;
    if (s.bad) {
        snprintf(note, sizeof note, "%lld values are not finite", (long long)s.bad);
        pass = 0;
    } else if (strcmp(theirs->name, "pixel_values") == 0) {
        snprintf(note, sizeof note, "%.4f %% bit-equal", 100 * s.equal);
        pass = pass && s.equal >= PIXELS_BIT_EQUAL;
    } else if (is_logits && !is_exact(m, rep->kv) &&
               diverge(&d, a, theirs->data, theirs->type, rows, cols) == 0) {
        snprintf(note, sizeof note, "KL mean %.2e p99 %.2e, top-1 %.1f %%%s%s", d.mean, d.p99, 100 * d.top1, why ? ", " : "",
                 why ? why : "");
    } else if (why) {
        snprintf(note, sizeof note, "%s", why);
    }
    row(rep, theirs->name, shape, s, limit, pass, note);
}

static int64_t int_at(const struct qvl_tensor *t, int64_t i)
{
    int32_t a;
    int64_t b;
    if (t->type == QVL_DT_I64) {
        memcpy(&b, (const char *)t->data + i * 8, 8);
        return b;
    }
    memcpy(&a, (const char *)t->data + i * 4, 4);
    return a;
}

static int64_t count_of(const struct qvl_tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++)
        n *= t->shape[i];
    return n;
}

static void compare_ints(struct report *rep, const struct qvl_tensor *theirs, const struct qvl_trace_entry *ours)
{
    char shape[96], note[128] = "";
    int64_t n = count_of(theirs), mine = ours->rows * (ours->cols ? ours->cols : 1), differ = 0, first = -1;
    struct stats s = {.rel_l2 = NAN, .min_cos = NAN};
    qvl_tensor_describe(theirs, shape, sizeof shape);
    for (int64_t i = 0; i < n && i < mine; i++) {
        int64_t d = int_at(theirs, i) - ((const int32_t *)ours->data)[i];
        if (d) {
            differ++;
            first = first < 0 ? i : first;
            s.max_abs = fmax(s.max_abs, fabs((double)d));
        }
    }
    if (n != mine)
        snprintf(note, sizeof note, "%lld values, here %lld", (long long)n, (long long)mine);
    else if (differ)
        snprintf(note, sizeof note, "%lld differ, the first at %lld", (long long)differ, (long long)first);
    row(rep, theirs->name, shape, s, 0, n == mine && !differ, note);
}

/* ---- tokens ---- */

/* Row of logits that the golden's token `at` was chosen from, or NULL. */
static const struct qvl_tensor *choice_logits(const struct golden *g, int64_t at, int64_t *row_index)
{
    const struct qvl_tensor *t = qvl_tensors_find(g->file, "generated_logits");
    if (t && t->rank == 2 && at < t->shape[0]) {
        *row_index = at;
        return t;
    }
    t = qvl_tensors_find(g->file, "logits");
    if (at == 0 && t && t->rank == 2 && t->shape[0] > 0) {
        *row_index = t->shape[0] - 1;
        return t;
    }
    return NULL;
}

/* A near tie: the golden's own top two logits are closer to each other than the largest error of our row. */
static int near_tie(const struct golden *g, const struct qvl_trace *trace, int64_t at, double *gap)
{
    int64_t r;
    const struct qvl_tensor *t = choice_logits(g, at, &r);
    const struct qvl_trace_entry *mine = qvl_trace_find(trace, at && t ? "generated_logits" : "logits");
    if (!t || !mine || mine->cols != t->shape[1] || (at && at >= mine->rows))
        return 0;
    int64_t V = t->shape[1];
    const float *a = (const float *)mine->data + (at ? at : mine->rows - 1) * V;
    double top = -INFINITY, second = -INFINITY, error = 0;
    for (int64_t i = 0; i < V; i++) {
        double b = value_at(t->data, t->type, r * V + i);
        if (b > top) {
            second = top;
            top = b;
        } else if (b > second) {
            second = b;
        }
        error = fmax(error, fabs(b - (double)a[i]));
    }
    *gap = top - second;
    return *gap <= error;
}

/* Compares the generated ids; *same = number of equal ids at the beginning. */
static void compare_tokens(struct report *rep, const struct golden *g, const struct qvl_model *m, const struct qvl_trace *trace,
                           int64_t *same)
{
    const struct qvl_tensor *t = qvl_tensors_find(g->file, "generated_ids");
    const struct qvl_trace_entry *ours = qvl_trace_find(trace, "generated_ids");
    char shape[96], note[128];
    double gap = 0;
    *same = 0;
    if (!t || t->rank != 1 || !ours)
        return;
    int64_t n = t->shape[0], mine = ours->rows;
    while (*same < n && *same < mine && int_at(t, *same) == ((const int32_t *)ours->data)[*same])
        (*same)++;
    int equal = *same == n && *same == mine, exact = is_exact(m, rep->kv);
    int pass = equal ? 1 : exact ? 0 : 2;
    if (equal)
        snprintf(note, sizeof note, "%lld of %lld tokens equal", (long long)n, (long long)n);
    else if (*same < n && *same < mine && near_tie(g, trace, *same, &gap)) {
        snprintf(note, sizeof note, "first difference at token %lld of %lld is a near tie (gap %.2g)", (long long)*same,
                 (long long)n, gap);
        pass = 2;
    } else
        snprintf(note, sizeof note, "first difference at token %lld of %lld (%lld here)", (long long)*same, (long long)n,
                 (long long)mine);
    qvl_tensor_describe(t, shape, sizeof shape);
    row(rep, "generated_ids", shape, (struct stats){.max_abs = NAN, .rel_l2 = NAN, .min_cos = NAN}, exact ? 0 : NAN, pass, note);
}

static void compare_one(struct report *rep, const struct golden *g, const struct qvl_model *m, const struct qvl_trace *trace,
                        const struct qvl_tensor *theirs, int64_t same)
{
    char shape[96], note[128];
    const struct qvl_trace_entry *ours = qvl_trace_find(trace, theirs->name);
    struct stats none = {.max_abs = NAN, .rel_l2 = NAN, .min_cos = NAN};
    (void)g;
    qvl_tensor_describe(theirs, shape, sizeof shape);
    int is_int = theirs->type == QVL_DT_I32 || theirs->type == QVL_DT_I64;
    int is_float = theirs->type == QVL_DT_F32 || theirs->type == QVL_DT_F64 || theirs->type == QVL_DT_BF16 || theirs->type == QVL_DT_F16;
    if (!ours) {
        row(rep, theirs->name, shape, none, NAN, 0, "not computed here");
        return;
    }
    if (is_int && ours->type == QVL_DT_I32) {
        compare_ints(rep, theirs, ours);
        return;
    }
    int some_rows = strcmp(theirs->name, "generated_logits") == 0, last_row = strcmp(theirs->name, "logits") == 0;
    if (!is_float || ours->type != QVL_DT_F32 || theirs->rank != 2 || ours->cols != theirs->shape[1] ||
        (last_row ? ours->rows < theirs->shape[0] : !some_rows && ours->rows != theirs->shape[0])) {
        snprintf(note, sizeof note, "here [%lld,%lld] %s", (long long)ours->rows, (long long)ours->cols, qvl_dtype_name(ours->type));
        row(rep, theirs->name, shape, none, NAN, 0, note);
        return;
    }
    int64_t rows = theirs->shape[0];
    const char *why = NULL;
    if (some_rows) { /* after the paths part the contexts differ: the row of the first difference still compares */
        int64_t common = same + 1;
        rows = rows < common ? rows : common;
        rows = rows < ours->rows ? rows : ours->rows;
        why = rows < theirs->shape[0] ? "up to the first different token" : NULL;
    }
    compare_floats(rep, m, theirs, ours, rows, why);
}

int qvl_verify(qvl_model *m, const qvl_session_params *p, const char *path, qvl_verify_fn on_row, void *ud, int *passed, qvl_err *err)
{
    struct golden g;
    struct qvl_trace trace = {0};
    struct report rep = {.fn = on_row, .ud = ud};
    int64_t same;
    if (!m || !path || !passed)
        return qvl_fail(err, QVL_E_ARG, "qvl_verify: an argument is NULL");
    *passed = 0;
    int rc = open_golden(&g, path, p, err);
    rep.kv = qvl_kv_choose(g.session.kv, m->arith_text, m->kind);
    if (rc == 0)
        rc = run_request(&g, m, &trace, err);
    if (rc == 0) {
        struct report silent = {.kv = rep.kv};
        compare_tokens(&silent, &g, m, &trace, &same);
        for (size_t i = 0; i < qvl_tensors_count(g.file); i++) {
            const struct qvl_tensor *t = qvl_tensors_at(g.file, i);
            if (strcmp(t->name, "generated_ids") != 0)
                compare_one(&rep, &g, m, &trace, t, same);
        }
        compare_tokens(&rep, &g, m, &trace, &same);
        *passed = !rep.failed;
    }
    qvl_trace_free(&trace);
    close_golden(&g);
    return rc;
}
