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

/* A possible merge as one number, so that the heap compares once: rank << 32 | position of the left symbol. */
#define CANDIDATE(rank, pos) ((uint64_t)(uint32_t)(rank) << 32 | (uint32_t)(pos))
#define NO_CANDIDATE         UINT64_MAX

enum { MAX_WORD = 1 << 30 };

int qvl_bpe_init(struct qvl_bpe *b, size_t n, qvl_err *err)
{
    size_t slots = 16;
    while (slots / 5 * 3 < n)
        slots *= 2;
    b->slot = qvl_alloc(slots, sizeof *b->slot);
    b->id_of_rank = qvl_calloc(n, sizeof *b->id_of_rank);
    if (!b->slot || !b->id_of_rank) {
        qvl_bpe_free(b);
        return qvl_fail_nomem(err, slots * sizeof *b->slot, "merge table");
    }
    memset(b->slot, 0xff, slots * sizeof *b->slot);
    b->mask = slots - 1;
    return 0;
}

void qvl_bpe_free(struct qvl_bpe *b)
{
    qvl_mem_free(b->slot);
    qvl_mem_free(b->id_of_rank);
    b->slot = NULL;
    b->id_of_rank = NULL;
}

static struct qvl_merge *find_pair(const struct qvl_bpe *b, int32_t left, int32_t right)
{
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9e3779b97f4a7c15u;
    size_t i = (size_t)(h >> 32) & b->mask;
    while (b->slot[i].rank >= 0 && (b->slot[i].a != left || b->slot[i].b != right))
        i = (i + 1) & b->mask;
    return &b->slot[i];
}

void qvl_bpe_add(struct qvl_bpe *b, int32_t left, int32_t right, size_t rank, int32_t id)
{
    *find_pair(b, left, right) = (struct qvl_merge){left, right, (int32_t)rank, id};
    b->id_of_rank[rank] = id;
}

void qvl_bpe_work_free(struct qvl_bpe_work *w)
{
    qvl_mem_free(w->sym);
    qvl_mem_free(w->heap);
    *w = (struct qvl_bpe_work){0};
}

/* Heap of four children a node, smallest on top. */
static void sift_down(uint64_t *h, size_t n, size_t i)
{
    uint64_t x = h[i];
    for (size_t c; (c = 4 * i + 1) < n; i = c) {
        size_t end = c + 4 < n ? c + 4 : n;
        for (size_t k = c + 1; k < end; k++)
            c = h[k] < h[c] ? k : c;
        if (h[c] >= x)
            break;
        h[i] = h[c];
    }
    h[i] = x;
}

static void push(uint64_t *h, size_t *n, uint64_t x)
{
    size_t i = (*n)++;
    for (size_t p; i > 0 && x < h[p = (i - 1) / 4]; i = p)
        h[i] = h[p];
    h[i] = x;
}

/* The merge of the symbol at pos with its successor. */
static uint64_t candidate_at(const struct qvl_bpe *b, const struct symbol *s, int32_t pos)
{
    if (pos < 0 || s[pos].next < 0)
        return NO_CANDIDATE;
    int32_t rank = find_pair(b, s[pos].id, s[s[pos].next].id)->rank;
    return rank < 0 ? NO_CANDIDATE : CANDIDATE(rank, pos);
}

/* Every merge takes one candidate and adds at most two, and there are fewer than n merges: 2n entries suffice. */
static int reserve(struct qvl_bpe_work *w, size_t n, qvl_err *err)
{
    if (n <= w->cap)
        return 0;
    qvl_bpe_work_free(w);
    size_t cap = n < 256 ? 256 : n + n / 2;
    w->sym = qvl_alloc(cap, sizeof *w->sym);
    w->heap = qvl_alloc(cap, 2 * sizeof *w->heap);
    if (!w->sym || !w->heap) {
        qvl_bpe_work_free(w);
        return qvl_fail_nomem(err, cap * (sizeof *w->sym + 2 * sizeof *w->heap), "merging a word");
    }
    w->cap = cap;
    return 0;
}

static void merge_all(const struct qvl_bpe *b, struct symbol *s, uint64_t *heap, size_t n)
{
    size_t n_heap = 0;
    for (size_t i = 0; i + 1 < n; i++) {
        uint64_t c = candidate_at(b, s, (int32_t)i);
        if (c != NO_CANDIDATE)
            heap[n_heap++] = c;
    }
    for (size_t i = (n_heap + 2) / 4; i-- > 0;)
        sift_down(heap, n_heap, i);
    while (n_heap) {
        int32_t pos = (int32_t)(uint32_t)heap[0], id = b->id_of_rank[heap[0] >> 32];
        heap[0] = heap[--n_heap];
        if (n_heap)
            sift_down(heap, n_heap, 0);
        struct symbol *left = &s[pos];
        if (left->id < 0 || left->next < 0)
            continue;
        struct symbol *right = &s[left->next];
        const struct qvl_merge *now = find_pair(b, left->id, right->id);
        if (now->rank < 0 || now->id != id)
            continue;
        left->id = id;
        left->next = right->next;
        right->id = -1;
        if (left->next >= 0)
            s[left->next].prev = pos;
        uint64_t c = candidate_at(b, s, left->prev);
        if (c != NO_CANDIDATE)
            push(heap, &n_heap, c);
        c = candidate_at(b, s, pos);
        if (c != NO_CANDIDATE)
            push(heap, &n_heap, c);
    }
}

int qvl_bpe_encode(const struct qvl_bpe *b, struct qvl_bpe_work *w, const char *word, size_t n, struct qvl_ids *out,
                   qvl_err *err)
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
