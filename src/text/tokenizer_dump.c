/* tokenizer_dump.c - struct qvl_tokenizer → texts, kinds and merges; see tokenizer_dump.h. */
#include "text/tokenizer_dump.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "text/utf8.h"
#include "text/vocab.h"

/* A byte in the byte alphabet: printable Latin-1 stands for itself, the others, in order, are U+0100 and up. */
static uint32_t alphabet(unsigned char byte)
{
    if ((byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174)
        return byte;
    if (byte <= 32)
        return 0x100u + byte;
    return byte <= 160 ? 0x100u + 33 + (byte - 127u) : 0x100u + 67;
}

static int is_control(const struct qvl_token *k, const char *s)
{
    return (k->flags & QVL_TOKEN_SPECIAL) ||
           (k->len > 4 && memcmp(s, "<|", 2) == 0 && memcmp(s + k->len - 2, "|>", 2) == 0);
}

enum qvl_token_kind qvl_tokenizer_entry(const struct qvl_tokenizer *t, int32_t id, struct qvl_buf *out)
{
    const struct qvl_token *k = (size_t)id < t->n_ids ? &t->token[id] : NULL;
    if (!k || !(k->flags & QVL_TOKEN_TEXT)) {
        qvl_buf_printf(out, "[PAD%d]", (int)id);
        return QVL_KIND_UNUSED;
    }
    const char *s = t->pool.data + k->at;
    if (k->flags & QVL_TOKEN_ADDED) {
        qvl_buf_add(out, s, k->len);
        return is_control(k, s) ? QVL_KIND_CONTROL : QVL_KIND_USER;
    }
    for (uint32_t i = 0; i < k->len; i++) {
        char utf8[4];
        qvl_buf_add(out, utf8, qvl_utf8_put(utf8, alphabet((unsigned char)s[i])));
    }
    return QVL_KIND_NORMAL;
}

static int by_rank(const void *a, const void *b)
{
    const struct qvl_merge_pair *x = a, *y = b;
    return (x->rank > y->rank) - (x->rank < y->rank);
}

int qvl_tokenizer_merges(const struct qvl_tokenizer *t, struct qvl_merge_pair **list, size_t *n, qvl_err *err)
{
    const struct qvl_bpe *b = &t->bpe;
    size_t count = 0;
    for (size_t i = 0; b->slot && i <= b->mask; i++)
        count += b->slot[i].rank >= 0;
    *n = 0;
    *list = qvl_alloc(count, sizeof **list);
    if (!*list)
        return qvl_fail_nomem(err, count * sizeof **list, "the list of merges");
    for (size_t i = 0; b->slot && i <= b->mask; i++)
        if (b->slot[i].rank >= 0)
            (*list)[(*n)++] = (struct qvl_merge_pair){b->slot[i].a, b->slot[i].b, b->slot[i].rank};
    qsort(*list, *n, sizeof **list, by_rank);
    return 0;
}
