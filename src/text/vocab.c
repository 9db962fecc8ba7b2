/* vocab.c - the steps of loading a tokenizer: tokens and their bytes, merges, added tokens. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "text/json_scan.h"
#include "text/unicode.h"
#include "text/utf8.h"
#include "text/vocab_load.h"

/* The byte alphabet: printable Latin-1 bytes stand for themselves, the other 68, in order, for U+0100 and up. */
static void init_alphabet(int16_t *byte_of)
{
    int next = 0x100;
    for (int i = 0; i < QVL_VOCAB_ALPHABET; i++)
        byte_of[i] = -1;
    for (int i = 0; i < 256; i++) {
        int self = (i >= 33 && i <= 126) || (i >= 161 && i <= 172) || i >= 174;
        byte_of[self ? i : next++] = (int16_t)i;
    }
}

/* Appends the bytes that a text in the byte alphabet stands for; returns 0 (and appends nothing) if it is not in it. */
static int alphabet_bytes(const struct qvl_vocab_loader *l, struct qvl_buf *out, const char *s, size_t len)
{
    size_t before = out->len;
    for (size_t i = 0; i < len;) {
        uint32_t cp;
        i += qvl_utf8_next((const unsigned char *)s + i, len - i, &cp);
        if (cp >= QVL_VOCAB_ALPHABET || l->byte_of[cp] < 0) {
            out->len = before;
            return 0;
        }
        qvl_buf_putc(out, l->byte_of[cp]);
    }
    return 1;
}

/* ---------------------------------------------------------------- bytes -> id */

static uint64_t hash_bytes(uint64_t h, const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++)
        h = (h ^ (unsigned char)s[i]) * 0x100000001b3u;
    return h;
}

/* Slot of the token made of the two parts. */
static size_t find_slot(const struct qvl_vocab_loader *l, const char *a, size_t na, const char *b, size_t nb)
{
    uint64_t h = hash_bytes(hash_bytes(0xcbf29ce484222325u, a, na), b, nb);
    size_t i = (size_t)(h ^ h >> 32) & l->mask;
    for (; l->slot[i] >= 0; i = (i + 1) & l->mask) {
        const struct qvl_token *k = &l->t->token[l->slot[i]];
        const char *s = l->t->pool.data + k->at;
        if (k->len == na + nb && (!na || memcmp(s, a, na) == 0) && (!nb || memcmp(s + na, b, nb) == 0))
            break;
    }
    return i;
}

static int init_slots(struct qvl_vocab_loader *l, size_t n)
{
    size_t slots = 1024;
    while (slots / 2 < n)
        slots *= 2;
    l->slot = qvl_alloc(slots, sizeof *l->slot);
    if (!l->slot)
        return qvl_fail_nomem(l->err, slots * sizeof *l->slot, l->what);
    memset(l->slot, 0xff, slots * sizeof *l->slot);
    l->mask = slots - 1;
    return 0;
}

/* ---------------------------------------------------------------- tokens */

/* Makes room for ids below n. */
static int grow_ids(struct qvl_vocab_loader *l, size_t n)
{
    struct qvl_tokenizer *t = l->t;
    if (n > l->cap_ids) {
        size_t cap = l->cap_ids * 2 > n ? l->cap_ids * 2 : n + 1024;
        struct qvl_token *p = qvl_realloc(t->token, t->n_ids * sizeof *p, cap, sizeof *p);
        if (!p)
            return qvl_fail_nomem(l->err, cap * sizeof *p, l->what);
        memset(p + t->n_ids, 0, (cap - t->n_ids) * sizeof *p);
        t->token = p;
        l->cap_ids = cap;
    }
    if (n > t->n_ids)
        t->n_ids = n;
    return 0;
}

static int check_id(struct qvl_vocab_loader *l, const char *field, const char *token, long long id)
{
    if (id < 0 || id >= QVL_VOCAB_MAX_IDS)
        return qvl_fail(l->err, QVL_E_LIMIT, "%s: %s: id %lld of \"%.64s\" is outside 0..%d", l->what, field, id, token,
                        QVL_VOCAB_MAX_IDS - 1);
    return 0;
}

/* Gives an id its bytes: from the pool's end, where the caller has put them. */
static void set_token(struct qvl_vocab_loader *l, int32_t id, size_t at, unsigned flags)
{
    l->t->token[id] = (struct qvl_token){(uint32_t)at, (uint32_t)(l->t->pool.len - at), (uint8_t)flags};
}

static int is_utf8(const char *s, size_t len)
{
    uint32_t cp;
    for (size_t i = 0; i < len;) {
        size_t n = qvl_utf8_next((const unsigned char *)s + i, len - i, &cp);
        if (cp == QVL_UTF8_BAD && (n != 3 || memcmp(s + i, "\xef\xbf\xbd", 3) != 0))
            return 0;
        i += n;
    }
    return 1;
}

static int add_token(struct qvl_vocab_loader *l, const char *field, const char *key, size_t len, long id)
{
    struct qvl_tokenizer *t = l->t;
    size_t at = t->pool.len;
    QVL_TRY(check_id(l, field, key, id));
    QVL_TRY(grow_ids(l, (size_t)id + 1));
    if (t->token[id].flags)
        return qvl_fail(l->err, QVL_E_FORMAT, "%s: %s: id %ld belongs to two tokens", l->what, field, id);
    int ordinary = alphabet_bytes(l, &t->pool, key, len);
    if (!ordinary && !is_utf8(key, len))
        return qvl_fail(l->err, QVL_E_FORMAT, "%s: %s: token %ld is not UTF-8", l->what, field, id);
    if (!ordinary)
        qvl_buf_add(&t->pool, key, len);
    if (t->pool.failed)
        return qvl_fail_nomem(l->err, t->pool.len + len, l->what);
    set_token(l, (int32_t)id, at, QVL_TOKEN_TEXT);
    if (!ordinary || !len)
        return 0;
    size_t i = find_slot(l, t->pool.data + at, t->pool.len - at, NULL, 0);
    if (l->slot[i] >= 0)
        return qvl_fail(l->err, QVL_E_FORMAT, "%s: %s: \"%.64s\" stands there twice", l->what, field, key);
    l->slot[i] = (int32_t)id;
    return 0;
}

int qvl_vocab_load_tokens(struct qvl_vocab_loader *l, const struct qvl_vocab_list *list, const char *field)
{
    struct qvl_scan c = {list->json, list->len, 0};
    size_t n_left = list->n_commas + 1; /* there are slots for so many */
    long id;
    if (!qvl_scan_take(&c, '{'))
        return qvl_fail(l->err, QVL_E_FORMAT, "%s: %s: is missing or not an object", l->what, field);
    if (n_left > QVL_VOCAB_MAX_IDS)
        return qvl_fail(l->err, QVL_E_LIMIT, "%s: %s: %zu tokens, the limit is %d", l->what, field, n_left,
                        QVL_VOCAB_MAX_IDS);
    QVL_TRY(init_slots(l, n_left));
    int more = !qvl_scan_take(&c, '}');
    while (more) {
        l->a.len = 0;
        if (qvl_scan_string(&c, &l->a) != 0 || !qvl_scan_take(&c, ':'))
            return qvl_fail(l->err, QVL_E_FORMAT, "%s: %s: byte %zu: expected \"token\":", l->what, field, c.at);
        if (l->a.failed)
            return qvl_fail_nomem(l->err, l->a.len, l->what);
        if (l->a.len > QVL_VOCAB_MAX_TOKEN)
            return qvl_fail(l->err, QVL_E_LIMIT, "%s: %s: token of %zu bytes, the limit is %d", l->what, field, l->a.len,
                            QVL_VOCAB_MAX_TOKEN);
        if (qvl_scan_int(&c, &id) != 0)
            return qvl_fail(l->err, QVL_E_FORMAT, "%s: %s: id of \"%.64s\" is not an integer of up to 9 digits", l->what,
                            field, l->a.len ? l->a.data : "");
        QVL_TRY(add_token(l, field, l->a.len ? l->a.data : "", l->a.len, id));
        more = qvl_scan_take(&c, ',') && --n_left;
        if (!more && !qvl_scan_take(&c, '}'))
            return qvl_fail(l->err, QVL_E_FORMAT, "%s: %s: byte %zu: expected , or }", l->what, field, c.at);
    }
    if (!qvl_scan_end(&c))
        return qvl_fail(l->err, QVL_E_FORMAT, "%s: %s: byte %zu: text after the object", l->what, field, c.at);
    for (int i = 0; i < 256; i++) {
        char byte = (char)i;
        l->t->bpe.byte_id[i] = l->slot[find_slot(l, &byte, 1, NULL, 0)];
        if (l->t->bpe.byte_id[i] < 0)
            return qvl_fail(l->err, QVL_E_FORMAT, "%s: %s: no token for byte 0x%02x", l->what, field, i);
    }
    return 0;
}

/* ---------------------------------------------------------------- merges */

/* Number `rank` in the list: left and right in the byte alphabet. */
static int add_merge(struct qvl_vocab_loader *l, size_t rank, const char *a, size_t na, const char *b, size_t nb)
{
    l->left.len = l->right.len = 0;
    int ok = alphabet_bytes(l, &l->left, a, na) && alphabet_bytes(l, &l->right, b, nb) && na && nb;
    if (l->left.failed || l->right.failed)
        return qvl_fail_nomem(l->err, na + nb, l->what);
    int32_t left = -1, right = -1, both = -1;
    if (ok) {
        left = l->slot[find_slot(l, l->left.data, l->left.len, NULL, 0)];
        right = l->slot[find_slot(l, l->right.data, l->right.len, NULL, 0)];
        both = l->slot[find_slot(l, l->left.data, l->left.len, l->right.data, l->right.len)];
    }
    if (left < 0 || right < 0 || both < 0)
        return qvl_fail(l->err, QVL_E_FORMAT, "%s: merge %zu: \"%.*s\" + \"%.*s\" has no token", l->what, rank,
                        (int)(na < 64 ? na : 64), a, (int)(nb < 64 ? nb : 64), b);
    qvl_bpe_add(&l->t->bpe, left, right, rank, both);
    return 0;
}

/* "left right" */
static int add_merge_line(struct qvl_vocab_loader *l, size_t rank, const char *s, size_t len)
{
    const char *space = memchr(s, ' ', len);
    size_t na = space ? (size_t)(space - s) : 0;
    if (!space || memchr(space + 1, ' ', len - na - 1))
        return qvl_fail(l->err, QVL_E_FORMAT, "%s: merge %zu: \"%.*s\" is not two tokens", l->what, rank,
                        (int)(len < 64 ? len : 64), s);
    return add_merge(l, rank, s, na, space + 1, len - na - 1);
}

static int check_merge_count(struct qvl_vocab_loader *l, size_t n)
{
    if (n > QVL_VOCAB_MAX_MERGES)
        return qvl_fail(l->err, QVL_E_LIMIT, "%s: %zu merges, the limit is %d", l->what, n, QVL_VOCAB_MAX_MERGES);
    return qvl_bpe_init(&l->t->bpe, n, l->err);
}

/* One element of the list. */
static int read_merge(struct qvl_vocab_loader *l, struct qvl_scan *c, size_t rank)
{
    int pair = qvl_scan_take(c, '[');
    l->a.len = l->b.len = 0;
    if (qvl_scan_string(c, &l->a) != 0 ||
        (pair && (!qvl_scan_take(c, ',') || qvl_scan_string(c, &l->b) != 0 || !qvl_scan_take(c, ']'))))
        return qvl_fail(l->err, QVL_E_FORMAT, "%s: model.merges[%zu]: neither \"a b\" nor [\"a\", \"b\"]", l->what, rank);
    if (l->a.failed || l->b.failed)
        return qvl_fail_nomem(l->err, l->a.len + l->b.len, l->what);
    if (!l->a.len || (pair && !l->b.len))
        return qvl_fail(l->err, QVL_E_FORMAT, "%s: merge %zu: a side is empty", l->what, rank);
    return pair ? add_merge(l, rank, l->a.data, l->a.len, l->b.data, l->b.len)
                : add_merge_line(l, rank, l->a.data, l->a.len);
}

int qvl_vocab_load_merges(struct qvl_vocab_loader *l, const struct qvl_vocab_list *list)
{
    struct qvl_scan c = {list->json, list->len, 0};
    size_t rank = 0;
    if (!qvl_scan_take(&c, '['))
        return qvl_fail(l->err, QVL_E_FORMAT, "%s: model.merges: is missing or not an array", l->what);
    QVL_TRY(check_merge_count(l, list->n_commas + 1));
    int more = !qvl_scan_take(&c, ']');
    while (more) {
        QVL_TRY(read_merge(l, &c, rank++));
        more = qvl_scan_take(&c, ',') && rank <= list->n_commas;
        if (!more && !qvl_scan_take(&c, ']'))
            return qvl_fail(l->err, QVL_E_FORMAT, "%s: model.merges: byte %zu: expected , or ]", l->what, c.at);
    }
    return 0;
}

int qvl_vocab_load_merge_lines(struct qvl_vocab_loader *l, const char *s, size_t len)
{
    size_t n = 0, rank = 0;
    for (size_t i = 0; i < len; i++)
        n += s[i] == '\n';
    QVL_TRY(check_merge_count(l, n + 1));
    for (size_t i = 0; i < len;) {
        const char *nl = memchr(s + i, '\n', len - i);
        size_t end = nl ? (size_t)(nl - s) : len, stop = end > i && s[end - 1] == '\r' ? end - 1 : end;
        if (stop > i && !(stop - i >= 8 && memcmp(s + i, "#version", 8) == 0))
            QVL_TRY(add_merge_line(l, rank++, s + i, stop - i));
        i = end + 1;
    }
    return 0;
}

/* ---------------------------------------------------------------- added tokens */

/* A flag of an added token; absent = given default. */
static int get_flag(struct qvl_vocab_loader *l, const json_t *token, const char *text, const char *name, int absent,
                    int *value)
{
    const json_t *v = json_object_get(token, name);
    if (v && !json_is_boolean(v))
        return qvl_fail(l->err, QVL_E_FORMAT, "%s: added token \"%.64s\": %s is not true or false", l->what, text, name);
    *value = v ? json_is_true(v) : absent;
    return 0;
}

static int set_append(struct qvl_vocab_loader *l, struct qvl_added_set *set, const struct qvl_added *a)
{
    if (set->n == set->cap) {
        size_t cap = set->cap ? set->cap * 2 : 32;
        struct qvl_added *p = qvl_realloc(set->v, set->n * sizeof *p, cap, sizeof *p);
        if (!p)
            return qvl_fail_nomem(l->err, cap * sizeof *p, l->what);
        set->v = p;
        set->cap = cap;
    }
    set->v[set->n++] = *a;
    if (a->cp[0] < 128)
        set->first[a->cp[0]] = 1;
    else
        set->first_other = 1;
    return 0;
}

/* Enters an added token among the ids. Files may list it in the vocabulary as well, then under the same id. */
static int claim_id(struct qvl_vocab_loader *l, int32_t id, const char *text, size_t len, int special)
{
    struct qvl_tokenizer *t = l->t;
    QVL_TRY(grow_ids(l, (size_t)id + 1));
    struct qvl_token *k = &t->token[id];
    if (k->flags && (k->len != len || memcmp(t->pool.data + k->at, text, len) != 0))
        return qvl_fail(l->err, QVL_E_FORMAT, "%s: added token \"%.64s\": id %d belongs to another token", l->what, text,
                        (int)id);
    if (!k->flags) {
        size_t at = t->pool.len;
        if (qvl_buf_add(&t->pool, text, len))
            return qvl_fail_nomem(l->err, at + len, l->what);
        set_token(l, id, at, QVL_TOKEN_TEXT);
    }
    k->flags |= (uint8_t)(QVL_TOKEN_ADDED | (special ? QVL_TOKEN_SPECIAL : 0));
    return 0;
}

/* One entry of added_tokens or added_tokens_decoder. */
static int add_added(struct qvl_vocab_loader *l, json_int_t id, const json_t *token)
{
    const json_t *content = json_object_get(token, "content");
    if (!json_is_string(content))
        return qvl_fail(l->err, QVL_E_FORMAT, "%s: added token %" JSON_INTEGER_FORMAT ": no content", l->what, id);
    const char *s = json_string_value(content);
    size_t len = json_string_length(content);
    int special = 0, lstrip = 0, rstrip = 0, single = 0, normalized = 0;
    QVL_TRY(get_flag(l, token, s, "special", 0, &special));
    QVL_TRY(get_flag(l, token, s, "lstrip", 0, &lstrip));
    QVL_TRY(get_flag(l, token, s, "rstrip", 0, &rstrip));
    QVL_TRY(get_flag(l, token, s, "single_word", 0, &single));
    QVL_TRY(get_flag(l, token, s, "normalized", !special, &normalized));
    if (len == 0 || len > QVL_VOCAB_MAX_ADDED)
        return qvl_fail(l->err, QVL_E_LIMIT, "%s: added token %" JSON_INTEGER_FORMAT ": %zu bytes, allowed are 1 to %d",
                        l->what, id, len, QVL_VOCAB_MAX_ADDED);
    if (single)
        return qvl_fail(l->err, QVL_E_UNSUPPORTED, "%s: added token \"%.64s\": single_word is not supported", l->what, s);
    QVL_TRY(claim_id(l, (int32_t)id, s, len, special));

    struct qvl_cps cps = {0}, nfc = {0};
    int rc = qvl_cps_reserve(&cps, len, l->err);
    for (size_t i = 0; rc == 0 && i < len;)
        i += qvl_utf8_next((const unsigned char *)s + i, len - i, &cps.cp[cps.n++]);
    if (rc == 0 && normalized && l->t->nfc) {
        rc = qvl_nfc(&nfc, cps.cp, cps.n, l->err);
        qvl_cps_free(&cps);
        cps = nfc;
    }
    struct qvl_added a = {.cp = cps.cp,
                          .n = cps.n,
                          .id = (int32_t)id,
                          .special = (uint8_t)special,
                          .lstrip = (uint8_t)lstrip,
                          .rstrip = (uint8_t)rstrip};
    if (rc == 0)
        rc = set_append(l, normalized ? &l->t->normal : &l->t->raw, &a);
    if (rc < 0)
        qvl_cps_free(&cps);
    return rc;
}

static int by_text(const void *pa, const void *pb)
{
    const struct qvl_added *a = pa, *b = pb;
    for (size_t i = 0; i < a->n && i < b->n; i++)
        if (a->cp[i] != b->cp[i])
            return a->cp[i] < b->cp[i] ? -1 : 1;
    return a->n < b->n ? -1 : a->n > b->n;
}

static int sort_set(struct qvl_vocab_loader *l, struct qvl_added_set *set)
{
    if (set->n)
        qsort(set->v, set->n, sizeof *set->v, by_text);
    for (size_t i = 1; i < set->n; i++)
        if (by_text(&set->v[i - 1], &set->v[i]) == 0)
            return qvl_fail(l->err, QVL_E_FORMAT, "%s: added tokens %d and %d have the same text", l->what,
                            (int)set->v[i - 1].id, (int)set->v[i].id);
    return 0;
}

int qvl_vocab_load_added(struct qvl_vocab_loader *l, const json_t *list)
{
    if (list && !json_is_null(list) && !json_is_array(list))
        return qvl_fail(l->err, QVL_E_FORMAT, "%s: added_tokens: is not an array", l->what);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *token = json_array_get(list, i), *id = json_object_get(token, "id");
        const char *text = json_string_value(json_object_get(token, "content"));
        if (!json_is_integer(id))
            return qvl_fail(l->err, QVL_E_FORMAT, "%s: added_tokens[%zu]: id is missing or not an integer", l->what, i);
        QVL_TRY(check_id(l, "added_tokens", text ? text : "", json_integer_value(id)));
        QVL_TRY(add_added(l, json_integer_value(id), token));
    }
    return 0;
}

int qvl_vocab_load_added_decoder(struct qvl_vocab_loader *l, json_t *map)
{
    const char *key;
    json_t *token;
    json_object_foreach(map, key, token)
    {
        char *end;
        long id = strtol(key, &end, 10);
        if (end == key || *end || id < 0 || id >= QVL_VOCAB_MAX_IDS)
            return qvl_fail(l->err, QVL_E_FORMAT, "%s: added_tokens_decoder: \"%.64s\" is not an id", l->what, key);
        QVL_TRY(add_added(l, id, token));
    }
    return 0;
}

/* ---------------------------------------------------------------- begin and end */

int qvl_vocab_begin(struct qvl_vocab_loader *l, const char *what, qvl_err *err)
{
    *l = (struct qvl_vocab_loader){.what = what, .err = err};
    l->t = qvl_calloc(1, sizeof *l->t);
    if (!l->t)
        return qvl_fail_nomem(err, sizeof *l->t, what);
    qvl_buf_init(&l->t->pool, INT32_MAX);
    struct qvl_buf *const scratch[] = {&l->a, &l->b, &l->left, &l->right};
    for (size_t i = 0; i < QVL_COUNT(scratch); i++)
        qvl_buf_init(scratch[i], SIZE_MAX / 4);
    init_alphabet(l->byte_of);
    return 0;
}

int qvl_vocab_finish(struct qvl_vocab_loader *l, struct qvl_tokenizer **out, int rc)
{
    if (rc == 0)
        rc = sort_set(l, &l->t->raw);
    if (rc == 0)
        rc = sort_set(l, &l->t->normal);
    if (rc < 0)
        qvl_tokenizer_close(&l->t);
    qvl_mem_free(l->slot);
    struct qvl_buf *const scratch[] = {&l->a, &l->b, &l->left, &l->right};
    for (size_t i = 0; i < QVL_COUNT(scratch); i++)
        qvl_buf_free(scratch[i]);
    *out = l->t;
    return rc;
}

static void free_set(struct qvl_added_set *set)
{
    for (size_t i = 0; i < set->n; i++)
        qvl_mem_free(set->v[i].cp);
    qvl_mem_free(set->v);
}

void qvl_tokenizer_close(struct qvl_tokenizer **t)
{
    if (!t || !*t)
        return;
    qvl_buf_free(&(*t)->pool);
    qvl_mem_free((*t)->token);
    qvl_bpe_free(&(*t)->bpe);
    free_set(&(*t)->raw);
    free_set(&(*t)->normal);
    qvl_mem_free(*t);
    *t = NULL;
}
