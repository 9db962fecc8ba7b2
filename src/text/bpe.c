/* bpe.c - bytes of a word -> token ids: always the pair of the lowest rank, the leftmost of equals.
 *
 * Symbols form a linked list, possible merges a heap, so that a word of a million letters costs n log n. A heap entry goes
 * stale when a neighbour was merged first. Like the reference, an entry counts as valid when the pair that now stands at
 * its place gives the same token, even if another rank led there. */
#include "text/bpe.h"

#include <string.h>

#include "base/err.h"
#include "base/mem.h"

struct symbol {
    int32_t id;         /* -1: merged into the one before */
    int32_t prev, next; /* -1: none */
};

struct candidate {
    uint32_t rank;
    int32_t pos; /* of the left symbol */
    int32_t id;  /* the token it would become */
};

enum { MAX_WORD = 1 << 30 };

int qvl_bpe_init(struct qvl_bpe *b, size_t n, qvl_err *err)
{
    size_t slots = 16;
    while (slots / 5 * 3 < n)
        slots *= 2;
    b->slot = qvl_alloc(slots, sizeof *b->slot);
    if (!b->slot)
        return qvl_fail_nomem(err, slots * sizeof *b->slot, "merge table");
    memset(b->slot, 0xff, slots * sizeof *b->slot);
    b->mask = slots - 1;
    return 0;
}

void qvl_bpe_free(struct qvl_bpe *b)
{
    qvl_mem_free(b->slot);
    b->slot = NULL;
}

static size_t pair_slot(const struct qvl_bpe *b, int32_t left, int32_t right)
{
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9e3779b97f4a7c15u;
    size_t i = (size_t)(h >> 32) & b->mask;
    while (b->slot[i].id >= 0 && (b->slot[i].a != left || b->slot[i].b != right))
        i = (i + 1) & b->mask;
    return i;
}

void qvl_bpe_add(struct qvl_bpe *b, int32_t left, int32_t right, uint32_t rank, int32_t id)
{
    b->slot[pair_slot(b, left, right)] = (struct qvl_merge){left, right, rank, id};
}

void qvl_bpe_work_free(struct qvl_bpe_work *w)
{
    qvl_mem_free(w->sym);
    qvl_mem_free(w->heap);
    *w = (struct qvl_bpe_work){0};
}

static int before(struct candidate x, struct candidate y)
{
    return x.rank < y.rank || (x.rank == y.rank && x.pos < y.pos);
}

static void sift_down(struct candidate *h, size_t n, size_t i)
{
    struct candidate x = h[i];
    for (size_t c; (c = 2 * i + 1) < n; i = c) {
        if (c + 1 < n && before(h[c + 1], h[c]))
            c++;
        if (!before(h[c], x))
            break;
        h[i] = h[c];
    }
    h[i] = x;
}

static void push(struct candidate *h, size_t *n, struct candidate x)
{
    size_t i = (*n)++;
    for (size_t p; i > 0 && before(x, h[p = (i - 1) / 2]); i = p)
        h[i] = h[p];
    h[i] = x;
}

/* The merge of the symbol at pos with its successor; 0 if there is none. */
static int candidate_at(const struct qvl_bpe *b, const struct symbol *s, int32_t pos, struct candidate *c)
{
    if (pos < 0 || s[pos].next < 0)
        return 0;
    const struct qvl_merge *m = &b->slot[pair_slot(b, s[pos].id, s[s[pos].next].id)];
    *c = (struct candidate){m->rank, pos, m->id};
    return m->id >= 0;
}

/* Every merge adds at most two candidates to the n - 1 of the start, so 3n entries suffice. */
static int reserve(struct qvl_bpe_work *w, size_t n, qvl_err *err)
{
    if (n <= w->cap)
        return 0;
    qvl_bpe_work_free(w);
    size_t cap = n < 256 ? 256 : n + n / 2;
    w->sym = qvl_alloc(cap, sizeof *w->sym);
    w->heap = qvl_alloc(cap, 3 * sizeof *w->heap);
    if (!w->sym || !w->heap) {
        qvl_bpe_work_free(w);
        return qvl_fail_nomem(err, cap * (sizeof *w->sym + 3 * sizeof *w->heap), "merging a word");
    }
    w->cap = cap;
    return 0;
}

static void merge_all(const struct qvl_bpe *b, struct symbol *s, struct candidate *heap, size_t n)
{
    size_t n_heap = 0;
    struct candidate c, now;
    for (size_t i = 0; i + 1 < n; i++)
        if (candidate_at(b, s, (int32_t)i, &c))
            heap[n_heap++] = c;
    for (size_t i = n_heap / 2; i-- > 0;)
        sift_down(heap, n_heap, i);
    while (n_heap) {
        c = heap[0];
        heap[0] = heap[--n_heap];
        if (n_heap)
            sift_down(heap, n_heap, 0);
        if (s[c.pos].id < 0 || !candidate_at(b, s, c.pos, &now) || now.id != c.id)
            continue;
        struct symbol *left = &s[c.pos], *right = &s[left->next];
        left->id = c.id;
        left->next = right->next;
        right->id = -1;
        if (left->next >= 0)
            s[left->next].prev = c.pos;
        if (candidate_at(b, s, left->prev, &now))
            push(heap, &n_heap, now);
        if (candidate_at(b, s, c.pos, &now))
            push(heap, &n_heap, now);
    }
}

int qvl_bpe_encode(const struct qvl_bpe *b, struct qvl_bpe_work *w, const char *word, size_t n, struct qvl_ids *out, qvl_err *err)
{
    if (n == 0)
        return 0;
    if (n == 1)
        return qvl_ids_add(out, b->byte_id[(unsigned char)word[0]], err);
    if (n > MAX_WORD)
        return qvl_fail(err, QVL_E_LIMIT, "text: a word of %zu bytes, the limit is %d", n, MAX_WORD);
    QVL_TRY(reserve(w, n, err));
    for (size_t i = 0; i < n; i++)
        w->sym[i] = (struct symbol){b->byte_id[(unsigned char)word[i]], (int32_t)i - 1, i + 1 < n ? (int32_t)i + 1 : -1};
    merge_all(b, w->sym, w->heap, n);
    for (int32_t i = 0; i >= 0; i = w->sym[i].next)
        QVL_TRY(qvl_ids_add(out, w->sym[i].id, err));
    return 0;
}
