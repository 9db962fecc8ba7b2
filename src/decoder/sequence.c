/* sequence.c - building the prompt that the decoder reads; section 7 of docs/model.md. */
#include "decoder/sequence.h"

#include <string.h>

#include "base/err.h"
#include "base/mem.h"

int qvl_sequence_reserve(struct qvl_sequence *s, int64_t cap, qvl_err *err)
{
    if (cap <= s->cap)
        return 0;
    int32_t *id = qvl_alloc((size_t)cap, sizeof *id);
    int32_t *pos = qvl_alloc((size_t)cap, 3 * sizeof *pos);
    if (!id || !pos) {
        qvl_mem_free(id);
        qvl_mem_free(pos);
        return qvl_fail_nomem(err, (size_t)cap * 16, "token sequence");
    }
    if (s->n) {
        memcpy(id, s->id, (size_t)s->n * sizeof *id);
        for (int axis = 0; axis < 3; axis++)
            memcpy(pos + axis * cap, s->pos + axis * s->cap, (size_t)s->n * sizeof *pos);
    }
    qvl_mem_free(s->id);
    qvl_mem_free(s->pos);
    s->id = id;
    s->pos = pos;
    s->cap = cap;
    return 0;
}

void qvl_sequence_free(struct qvl_sequence *s)
{
    qvl_mem_free(s->id);
    qvl_mem_free(s->pos);
    qvl_mem_free(s->span);
    *s = (struct qvl_sequence){0};
}

void qvl_sequence_clear(struct qvl_sequence *s)
{
    s->n = 0;
    s->n_span = 0;
    s->next = 0;
}

static void put(struct qvl_sequence *s, int32_t id, int64_t t, int64_t h, int64_t w)
{
    s->id[s->n] = id;
    s->pos[s->n] = (int32_t)t;
    s->pos[s->cap + s->n] = (int32_t)h;
    s->pos[2 * s->cap + s->n] = (int32_t)w;
    s->n++;
}

void qvl_sequence_add_text(struct qvl_sequence *s, int32_t id)
{
    assert(s->n < s->cap);
    put(s, id, s->next, s->next, s->next);
    s->next++;
}

void qvl_sequence_drop_text(struct qvl_sequence *s, int64_t n)
{
    assert(n <= s->n && (!s->n_span || s->span[s->n_span - 1].first + s->span[s->n_span - 1].n <= s->n - n));
    s->n -= n;
    s->next -= n;
}

int qvl_sequence_add_media(struct qvl_sequence *s, int32_t pad, int rows, int cols, int media, const uint64_t key[2], qvl_err *err)
{
    assert(s->n + (int64_t)rows * cols <= s->cap);
    if (s->n_span == s->cap_span) {
        int64_t cap = s->cap_span ? s->cap_span * 2 : 8;
        void *p = qvl_realloc(s->span, (size_t)s->n_span * sizeof *s->span, (size_t)cap, sizeof *s->span);
        if (!p)
            return qvl_fail_nomem(err, (size_t)cap * sizeof *s->span, "picture spans");
        s->span = p;
        s->cap_span = cap;
    }
    s->span[s->n_span++] = (struct qvl_span){.first = s->n, .n = (int64_t)rows * cols, .rows = rows, .cols = cols,
                                             .media = media, .key = {key[0], key[1]}};
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < cols; c++)
            put(s, pad, s->next, s->next + r, s->next + c);
    s->next += rows > cols ? rows : cols;
    return 0;
}

int64_t qvl_sequence_common(const struct qvl_sequence *a, const struct qvl_sequence *b)
{
    int64_t n = a->n < b->n ? a->n : b->n, i = 0;
    while (i < n && a->id[i] == b->id[i])
        i++;
    /* Pads look alike: compare the pictures behind them. */
    int64_t m = a->n_span < b->n_span ? a->n_span : b->n_span;
    for (int64_t k = 0; k < m && a->span[k].first < i && b->span[k].first < i; k++) {
        const struct qvl_span *x = &a->span[k], *y = &b->span[k];
        if (x->first != y->first || x->rows != y->rows || x->cols != y->cols || memcmp(x->key, y->key, sizeof x->key) != 0) {
            int64_t at = x->first < y->first ? x->first : y->first;
            return at < i ? at : i;
        }
    }
    return i;
}
