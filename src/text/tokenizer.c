/* tokenizer.c - text -> token ids.
 *
 *   bytes -> code points, each tagged with the trust of its stretch
 *         -> pieces between added tokens -> NFC -> pieces between added tokens that match normalised text
 *         -> words -> bytes -> merged pairs -> ids
 */
#include "text/tokenizer.h"

#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "text/pretokenize.h"
#include "text/unicode.h"
#include "text/utf8.h"
#include "text/vocab.h"

int qvl_ids_add(struct qvl_ids *ids, int32_t id, qvl_err *err)
{
    if (ids->n == ids->cap) {
        size_t cap = ids->cap < 64 ? 64 : ids->cap * 2;
        int32_t *p = qvl_realloc(ids->id, ids->n * sizeof *p, cap, sizeof *p);
        if (!p)
            return qvl_fail_nomem(err, cap * sizeof *p, "token ids");
        ids->id = p;
        ids->cap = cap;
    }
    ids->id[ids->n++] = id;
    return 0;
}

void qvl_ids_free(struct qvl_ids *ids)
{
    qvl_mem_free(ids->id);
    *ids = (struct qvl_ids){0};
}

/* What one call of qvl_tokenizer_encode carries about. */
struct encoding {
    const struct qvl_tokenizer *t;
    struct qvl_cps text, normal; /* as given; one piece of it, normalised */
    struct qvl_bpe_work bpe;
    struct qvl_buf word;
    struct qvl_ids *out;
};

/* Bytes to tagged code points; a code point across a seam gets the smaller trust. */
static int decode_text(struct encoding *e, const unsigned char *s, size_t len, const struct qvl_stretch *st, size_t n_st,
                       qvl_err *err)
{
    QVL_TRY(qvl_cps_reserve(&e->text, len, err));
    size_t k = 0, end = n_st ? st[0].len : len; /* current stretch and where it ends */
    for (size_t i = 0; i < len;) {
        uint32_t cp;
        size_t n = qvl_utf8_next(s + i, len - i, &cp);
        while (k + 1 < n_st && end <= i)
            end += st[++k].len;
        unsigned trust = n_st ? st[k].trust : QVL_TRUST_NONE;
        for (i += n; end < i && k + 1 < n_st;) {
            end += st[++k].len;
            if (st[k].len && st[k].trust < trust)
                trust = st[k].trust;
        }
        e->text.cp[e->text.n++] = QVL_TAGGED(cp, trust);
    }
    return 0;
}

static int encode_words(struct encoding *e, const uint32_t *cp, size_t n, qvl_err *err)
{
    for (size_t i = 0; i < n;) {
        size_t end = qvl_pretokenize_next(cp, n, i);
        e->word.len = 0;
        for (; i < end; i++) {
            char utf8[4];
            qvl_buf_add(&e->word, utf8, qvl_utf8_put(utf8, QVL_CP(cp[i])));
        }
        if (e->word.failed)
            return qvl_fail_nomem(err, e->word.len, "word");
        QVL_TRY(qvl_bpe_encode(&e->t->bpe, &e->bpe, e->word.data, e->word.len, e->out, err));
    }
    return 0;
}

/* The longest added token at the start of cp[0..n) that its trust allows; NULL if there is none. The set is sorted, so the
 * tokens that share the first d code points are neighbours: a range that shrinks with d. */
static const struct qvl_added *match(const struct qvl_added_set *set, const uint32_t *cp, size_t n)
{
    const struct qvl_added *best = NULL;
    size_t lo = 0, hi = set->n;
    unsigned trust = QVL_TRUST_ALL;
    for (size_t d = 0; d < n && lo < hi; d++) {
        uint32_t c = QVL_CP(cp[d]);
        if (QVL_TAG(cp[d]) < trust)
            trust = QVL_TAG(cp[d]);
        if (trust == QVL_TRUST_NONE)
            break;
        size_t a = lo, b = hi;
        while (a < b) { /* first with cp[d] >= c; shorter ones were stepped over below */
            size_t mid = (a + b) / 2;
            if (set->v[mid].cp[d] < c)
                a = mid + 1;
            else
                b = mid;
        }
        lo = a;
        b = hi;
        while (a < b) { /* first with cp[d] > c */
            size_t mid = (a + b) / 2;
            if (set->v[mid].cp[d] <= c)
                a = mid + 1;
            else
                b = mid;
        }
        hi = a;
        for (; lo < hi && set->v[lo].n == d + 1; lo++) /* the shortest sorts first */
            if (trust >= (set->v[lo].special ? QVL_TRUST_ALL : QVL_TRUST_PLAIN_ADDED))
                best = &set->v[lo];
    }
    return best;
}

static int begins_one(const struct qvl_added_set *set, uint32_t x)
{
    uint32_t c = QVL_CP(x);
    return QVL_TAG(x) != QVL_TRUST_NONE && (c < 128 ? set->first[c] : set->first_other);
}

static int is_space(uint32_t x)
{
    return (qvl_uc_lookup(QVL_CP(x)) & QVL_UC_SPACE) != 0;
}

/* Cuts cp[0..n) at the added tokens of the set and hands the pieces between them to `piece`. */
static int split_added(struct encoding *e, const struct qvl_added_set *set, const uint32_t *cp, size_t n,
                       int (*piece)(struct encoding *, const uint32_t *, size_t, qvl_err *), qvl_err *err)
{
    size_t done = 0;
    for (size_t i = 0; set->n && i < n;) {
        const struct qvl_added *m = begins_one(set, cp[i]) ? match(set, cp + i, n - i) : NULL;
        if (!m) {
            i++;
            continue;
        }
        size_t start = i, end = i + m->n;
        while (m->lstrip && start > done && is_space(cp[start - 1]))
            start--;
        while (m->rstrip && end < n && is_space(cp[end]))
            end++;
        if (start > done)
            QVL_TRY(piece(e, cp + done, start - done, err));
        QVL_TRY(qvl_ids_add(e->out, m->id, err));
        done = i = end;
    }
    return done < n ? piece(e, cp + done, n - done, err) : 0;
}

static int encode_normal(struct encoding *e, const uint32_t *cp, size_t n, qvl_err *err)
{
    if (e->t->nfc && !qvl_nfc_is_plain(cp, n)) {
        e->normal.n = 0;
        QVL_TRY(qvl_nfc(&e->normal, cp, n, err));
        cp = e->normal.cp;
        n = e->normal.n;
    }
    return split_added(e, &e->t->normal, cp, n, encode_words, err);
}

int qvl_tokenizer_encode(const struct qvl_tokenizer *t, const char *text, size_t len, const struct qvl_stretch *stretches,
                         size_t n_stretches, struct qvl_ids *out, qvl_err *err)
{
    size_t sum = 0, before = out->n;
    for (size_t i = 0; i < n_stretches; i++)
        if (qvl_add_size(&sum, sum, stretches[i].len))
            break;
    if (n_stretches && sum != len)
        return qvl_fail(err, QVL_E_ARG, "stretches: %zu bytes, the text has %zu", sum, len);
    struct encoding e = {.t = t, .out = out};
    qvl_buf_init(&e.word, SIZE_MAX / 4);
    int rc = decode_text(&e, (const unsigned char *)text, len, stretches, n_stretches, err);
    if (rc == 0)
        rc = split_added(&e, &t->raw, e.text.cp, e.text.n, encode_normal, err);
    if (rc < 0)
        out->n = before;
    qvl_cps_free(&e.text);
    qvl_cps_free(&e.normal);
    qvl_bpe_work_free(&e.bpe);
    qvl_buf_free(&e.word);
    return rc;
}

static const struct qvl_token *token_at(const struct qvl_tokenizer *t, int32_t id)
{
    return id >= 0 && (size_t)id < t->n_ids && (t->token[id].flags & QVL_TOKEN_TEXT) ? &t->token[id] : NULL;
}

const char *qvl_tokenizer_bytes(const struct qvl_tokenizer *t, int32_t id, size_t *len)
{
    const struct qvl_token *k = token_at(t, id);
    if (len)
        *len = k ? k->len : 0;
    return k ? t->pool.data + k->at : NULL;
}

int qvl_tokenizer_is_special(const struct qvl_tokenizer *t, int32_t id)
{
    const struct qvl_token *k = token_at(t, id);
    return k && (k->flags & QVL_TOKEN_SPECIAL);
}

int qvl_tokenizer_has_text(const struct qvl_tokenizer *t, int32_t id)
{
    return token_at(t, id) != NULL;
}

int32_t qvl_tokenizer_size(const struct qvl_tokenizer *t)
{
    return (int32_t)t->n_ids;
}

int32_t qvl_tokenizer_find(const struct qvl_tokenizer *t, const char *token)
{
    size_t len = strlen(token);
    for (size_t i = 0; i < t->n_ids; i++) {
        const struct qvl_token *k = &t->token[i];
        if ((k->flags & QVL_TOKEN_ADDED) && k->len == len && memcmp(t->pool.data + k->at, token, len) == 0)
            return (int32_t)i;
    }
    return -1;
}
