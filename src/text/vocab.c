/* vocab.c - tokenizer files -> struct qvl_tokenizer.
 *
 * tokenizer.json describes a pipeline of normaliser, pre-tokeniser, model and decoder. Only the one pipeline of the Qwen
 * family is implemented, so every section is compared with it and anything else is refused by name. */
#include "text/vocab.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "text/pretokenize.h"
#include "text/unicode.h"
#include "text/utf8.h"

enum {
    MAX_FILE = 256 << 20,
    MAX_IDS = 1 << 22,
    MAX_MERGES = 1 << 22,
    MAX_TOKEN = 1 << 16, /* bytes of one token */
    MAX_ADDED_TOKEN = 1024,
    ALPHABET = 0x144     /* code points of the byte alphabet are below */
};

struct loader {
    struct qvl_tokenizer *t;
    const char *what; /* names the source in messages */
    qvl_err *err;
    int16_t byte_of[ALPHABET]; /* code point of the alphabet -> byte, -1 */
    int32_t *slot;    /* open addressing: bytes of an ordinary token -> id; -1 = empty */
    size_t mask;
    struct qvl_buf a, b; /* the two sides of a merge as bytes */
};

/* The byte alphabet: printable Latin-1 bytes stand for themselves, the other 68, in order, for U+0100 and up. */
static void init_alphabet(int16_t *byte_of)
{
    int next = 0x100;
    for (int i = 0; i < ALPHABET; i++)
        byte_of[i] = -1;
    for (int i = 0; i < 256; i++) {
        int self = (i >= 33 && i <= 126) || (i >= 161 && i <= 172) || i >= 174;
        byte_of[self ? i : next++] = (int16_t)i;
    }
}

/* Appends the bytes that a text in the byte alphabet stands for; returns 0 (and appends nothing) if it is not in it. */
static int alphabet_bytes(const struct loader *l, struct qvl_buf *out, const char *s, size_t len)
{
    size_t before = out->len;
    for (size_t i = 0; i < len;) {
        uint32_t cp;
        i += qvl_utf8_next((const unsigned char *)s + i, len - i, &cp);
        if (cp >= ALPHABET || l->byte_of[cp] < 0) {
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
static size_t find_slot(const struct loader *l, const char *a, size_t na, const char *b, size_t nb)
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

static int init_slots(struct loader *l, size_t n)
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
static int grow_ids(struct loader *l, size_t n)
{
    struct qvl_tokenizer *t = l->t;
    if (n <= t->n_ids)
        return 0;
    struct qvl_token *p = qvl_realloc(t->token, t->n_ids * sizeof *p, n, sizeof *p);
    if (!p)
        return qvl_fail_nomem(l->err, n * sizeof *p, l->what);
    memset(p + t->n_ids, 0, (n - t->n_ids) * sizeof *p);
    t->token = p;
    t->n_ids = n;
    return 0;
}

static int check_id(struct loader *l, const char *field, const char *token, const json_t *id)
{
    if (!json_is_integer(id))
        return qvl_fail(l->err, QVL_E_FORMAT, "%s: %s: id of \"%.64s\" is not an integer", l->what, field, token);
    json_int_t v = json_integer_value(id);
    if (v < 0 || v >= MAX_IDS)
        return qvl_fail(l->err, QVL_E_LIMIT, "%s: %s: id %" JSON_INTEGER_FORMAT " of \"%.64s\" is outside 0..%d", l->what, field, v,
                        token, MAX_IDS - 1);
    return 0;
}

/* Gives an id its bytes: from the pool's end, where the caller has put them. */
static void set_token(struct loader *l, int32_t id, size_t at, unsigned flags)
{
    l->t->token[id] = (struct qvl_token){(uint32_t)at, (uint32_t)(l->t->pool.len - at), (uint8_t)flags};
}

static int load_vocab(struct loader *l, json_t *vocab, const char *field)
{
    struct qvl_tokenizer *t = l->t;
    const char *key;
    json_t *v;
    json_int_t top = -1;
    if (!json_is_object(vocab))
        return qvl_fail(l->err, QVL_E_FORMAT, "%s: %s: is not an object", l->what, field);
    json_object_foreach(vocab, key, v) {
        QVL_TRY(check_id(l, field, key, v));
        if (json_integer_value(v) > top)
            top = json_integer_value(v);
    }
    QVL_TRY(grow_ids(l, (size_t)(top + 1)));
    QVL_TRY(init_slots(l, json_object_size(vocab)));
    json_object_foreach(vocab, key, v) {
        int32_t id = (int32_t)json_integer_value(v);
        size_t len = strlen(key), at = t->pool.len;
        if (len > MAX_TOKEN)
            return qvl_fail(l->err, QVL_E_LIMIT, "%s: %s: token of %zu bytes, the limit is %d", l->what, field, len, MAX_TOKEN);
        if (t->token[id].flags)
            return qvl_fail(l->err, QVL_E_FORMAT, "%s: %s: id %d belongs to two tokens", l->what, field, (int)id);
        int ordinary = alphabet_bytes(l, &t->pool, key, len);
        if (!ordinary)
            qvl_buf_add(&t->pool, key, len);
        if (t->pool.failed)
            return qvl_fail_nomem(l->err, t->pool.len + len, l->what);
        set_token(l, id, at, QVL_TOKEN_TEXT);
        if (ordinary && len) {
            size_t i = find_slot(l, t->pool.data + at, t->pool.len - at, NULL, 0);
            l->slot[i] = id;
        }
    }
    for (int i = 0; i < 256; i++) {
        char byte = (char)i;
        t->bpe.byte_id[i] = l->slot[find_slot(l, &byte, 1, NULL, 0)];
        if (t->bpe.byte_id[i] < 0)
            return qvl_fail(l->err, QVL_E_FORMAT, "%s: %s: no token for byte 0x%02x", l->what, field, i);
    }
    return 0;
}

/* ---------------------------------------------------------------- merges */

/* Number `rank` in the list: left and right in the byte alphabet. */
static int add_merge(struct loader *l, size_t rank, const char *a, size_t na, const char *b, size_t nb)
{
    l->a.len = l->b.len = 0;
    int ok = alphabet_bytes(l, &l->a, a, na) && alphabet_bytes(l, &l->b, b, nb) && na && nb;
    if (l->a.failed || l->b.failed)
        return qvl_fail_nomem(l->err, na + nb, l->what);
    int32_t left = -1, right = -1, both = -1;
    if (ok) {
        left = l->slot[find_slot(l, l->a.data, l->a.len, NULL, 0)];
        right = l->slot[find_slot(l, l->b.data, l->b.len, NULL, 0)];
        both = l->slot[find_slot(l, l->a.data, l->a.len, l->b.data, l->b.len)];
    }
    if (left < 0 || right < 0 || both < 0)
        return qvl_fail(l->err, QVL_E_FORMAT, "%s: merge %zu: \"%.*s\" + \"%.*s\" has no token", l->what, rank,
                        (int)(na < 64 ? na : 64), a, (int)(nb < 64 ? nb : 64), b);
    qvl_bpe_add(&l->t->bpe, left, right, rank, both);
    return 0;
}

/* "left right" */
static int add_merge_line(struct loader *l, size_t rank, const char *s, size_t len)
{
    const char *space = memchr(s, ' ', len);
    size_t na = space ? (size_t)(space - s) : 0;
    if (!space || memchr(space + 1, ' ', len - na - 1))
        return qvl_fail(l->err, QVL_E_FORMAT, "%s: merge %zu: \"%.*s\" is not two tokens", l->what, rank,
                        (int)(len < 64 ? len : 64), s);
    return add_merge(l, rank, s, na, space + 1, len - na - 1);
}

static int check_merge_count(struct loader *l, size_t n)
{
    if (n > MAX_MERGES)
        return qvl_fail(l->err, QVL_E_LIMIT, "%s: %zu merges, the limit is %d", l->what, n, MAX_MERGES);
    return qvl_bpe_init(&l->t->bpe, n, l->err);
}

static int load_merges(struct loader *l, const json_t *merges)
{
    if (!json_is_array(merges))
        return qvl_fail(l->err, QVL_E_FORMAT, "%s: model.merges: is not an array", l->what);
    size_t n = json_array_size(merges);
    QVL_TRY(check_merge_count(l, n));
    for (size_t i = 0; i < n; i++) {
        const json_t *m = json_array_get(merges, i), *a = json_array_get(m, 0), *b = json_array_get(m, 1);
        if (json_is_string(m))
            QVL_TRY(add_merge_line(l, i, json_string_value(m), json_string_length(m)));
        else if (json_array_size(m) == 2 && json_is_string(a) && json_is_string(b))
            QVL_TRY(add_merge(l, i, json_string_value(a), json_string_length(a), json_string_value(b), json_string_length(b)));
        else
            return qvl_fail(l->err, QVL_E_FORMAT, "%s: model.merges[%zu]: neither \"a b\" nor [\"a\", \"b\"]", l->what, i);
    }
    return 0;
}

/* merges.txt: one pair a line, the first line may be a "#version" note. */
static int load_merges_text(struct loader *l, const char *s, size_t len)
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
static int get_flag(struct loader *l, const json_t *token, const char *text, const char *name, int absent, int *value)
{
    const json_t *v = json_object_get(token, name);
    if (v && !json_is_boolean(v))
        return qvl_fail(l->err, QVL_E_FORMAT, "%s: added token \"%.64s\": %s is not true or false", l->what, text, name);
    *value = v ? json_is_true(v) : absent;
    return 0;
}

static int set_append(struct loader *l, struct qvl_added_set *set, const struct qvl_added *a)
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
static int claim_id(struct loader *l, int32_t id, const char *text, size_t len, int special)
{
    struct qvl_tokenizer *t = l->t;
    QVL_TRY(grow_ids(l, (size_t)id + 1));
    struct qvl_token *k = &t->token[id];
    if (k->flags && (k->len != len || memcmp(t->pool.data + k->at, text, len) != 0))
        return qvl_fail(l->err, QVL_E_FORMAT, "%s: added token \"%.64s\": id %d belongs to another token", l->what, text, (int)id);
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
static int add_added(struct loader *l, json_int_t id, const json_t *token)
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
    if (len == 0 || len > MAX_ADDED_TOKEN)
        return qvl_fail(l->err, QVL_E_LIMIT, "%s: added token %" JSON_INTEGER_FORMAT ": %zu bytes, allowed are 1 to %d", l->what, id,
                        len, MAX_ADDED_TOKEN);
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
    struct qvl_added a = {.cp = cps.cp, .n = cps.n, .id = (int32_t)id, .special = (uint8_t)special, .lstrip = (uint8_t)lstrip,
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

static int sort_set(struct loader *l, struct qvl_added_set *set)
{
    if (set->n)
        qsort(set->v, set->n, sizeof *set->v, by_text);
    for (size_t i = 1; i < set->n; i++)
        if (by_text(&set->v[i - 1], &set->v[i]) == 0)
            return qvl_fail(l->err, QVL_E_FORMAT, "%s: added tokens %d and %d have the same text", l->what,
                            (int)set->v[i - 1].id, (int)set->v[i].id);
    return 0;
}

static int load_added(struct loader *l, const json_t *list)
{
    if (list && !json_is_null(list) && !json_is_array(list))
        return qvl_fail(l->err, QVL_E_FORMAT, "%s: added_tokens: is not an array", l->what);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *token = json_array_get(list, i), *id = json_object_get(token, "id");
        const char *text = json_string_value(json_object_get(token, "content"));
        QVL_TRY(check_id(l, "added_tokens", text ? text : "", id));
        QVL_TRY(add_added(l, json_integer_value(id), token));
    }
    return 0;
}

/* added_tokens_decoder of tokenizer_config.json: {"151643": {"content": ...}, ...} */
static int load_added_decoder(struct loader *l, json_t *map)
{
    const char *key;
    json_t *token;
    json_object_foreach(map, key, token) {
        char *end;
        long id = strtol(key, &end, 10);
        if (end == key || *end || id < 0 || id >= MAX_IDS)
            return qvl_fail(l->err, QVL_E_FORMAT, "%s: added_tokens_decoder: \"%.64s\" is not an id", l->what, key);
        QVL_TRY(add_added(l, id, token));
    }
    return 0;
}

/* ---------------------------------------------------------------- the pipeline */

static int refuse(struct loader *l, const char *section, const json_t *found)
{
    const char *type = json_string_value(json_object_get(found, "type"));
    return qvl_fail(l->err, QVL_E_UNSUPPORTED, "%s: %s: \"%.64s\" is not what Qwen models use", l->what, section,
                    type ? type : json_is_null(found) || !found ? "null" : "?");
}

static int is_type(const json_t *v, const char *type)
{
    const char *t = json_string_value(json_object_get(v, "type"));
    return t && strcmp(t, type) == 0;
}

static int is_false(const json_t *object, const char *name)
{
    const json_t *v = json_object_get(object, name);
    return v && json_is_false(v);
}

/* A section that is one step, or a Sequence of exactly one. */
static const json_t *single(const json_t *v, const char *list)
{
    const json_t *steps = json_object_get(v, list);
    return is_type(v, "Sequence") && json_array_size(steps) == 1 ? json_array_get(steps, 0) : v;
}

static int check_pipeline(struct loader *l, const json_t *root)
{
    const json_t *norm = single(json_object_get(root, "normalizer"), "normalizers");
    l->t->nfc = is_type(norm, "NFC");
    if (!l->t->nfc && norm && !json_is_null(norm))
        return refuse(l, "normalizer", norm);

    const json_t *pre = json_object_get(root, "pre_tokenizer"), *steps = json_object_get(pre, "pretokenizers");
    const json_t *split = json_array_get(steps, 0), *bytes = json_array_get(steps, 1);
    if (!is_type(pre, "Sequence") || json_array_size(steps) != 2)
        return refuse(l, "pre_tokenizer", pre);
    if (!is_type(split, "Split"))
        return refuse(l, "pre_tokenizer.pretokenizers[0]", split);
    const char *regex = json_string_value(json_object_get(json_object_get(split, "pattern"), "Regex"));
    const char *behavior = json_string_value(json_object_get(split, "behavior"));
    if (!regex || strcmp(regex, QVL_PRETOKENIZE_REGEX) != 0)
        return qvl_fail(l->err, QVL_E_UNSUPPORTED, "%s: pre_tokenizer: the expression %.300s is not supported", l->what,
                        regex ? regex : "(none)");
    if (!behavior || strcmp(behavior, "Isolated") != 0 || !is_false(split, "invert"))
        return qvl_fail(l->err, QVL_E_UNSUPPORTED, "%s: pre_tokenizer: Split must be Isolated and not inverted", l->what);
    if (!is_type(bytes, "ByteLevel"))
        return refuse(l, "pre_tokenizer.pretokenizers[1]", bytes);
    if (!is_false(bytes, "add_prefix_space") || !is_false(bytes, "use_regex"))
        return qvl_fail(l->err, QVL_E_UNSUPPORTED, "%s: pre_tokenizer: ByteLevel must have add_prefix_space and use_regex false",
                        l->what);

    const json_t *post = json_object_get(root, "post_processor");
    if (post && !json_is_null(post) && !is_type(single(post, "processors"), "ByteLevel"))
        return refuse(l, "post_processor", post);
    const json_t *dec = json_object_get(root, "decoder");
    return is_type(single(dec, "decoders"), "ByteLevel") ? 0 : refuse(l, "decoder", dec);
}

/* Options of the model section that would change the result must be off. Those about unknown characters cannot matter:
 * every byte has a token. */
static int check_model(struct loader *l, const json_t *model)
{
    static const char *const text[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    const json_t *type = json_object_get(model, "type"), *dropout = json_object_get(model, "dropout");
    if (!json_is_object(model))
        return qvl_fail(l->err, QVL_E_FORMAT, "%s: model: is not an object", l->what);
    if (type && !is_type(model, "BPE"))
        return refuse(l, "model", model);
    if (json_is_number(dropout) && json_number_value(dropout) != 0)
        return qvl_fail(l->err, QVL_E_UNSUPPORTED, "%s: model.dropout: %g is not supported", l->what, json_number_value(dropout));
    for (size_t i = 0; i < QVL_COUNT(text); i++) {
        const char *s = json_string_value(json_object_get(model, text[i]));
        if (s && *s)
            return qvl_fail(l->err, QVL_E_UNSUPPORTED, "%s: model.%s: \"%.64s\" is not supported", l->what, text[i], s);
    }
    if (json_is_true(json_object_get(model, "ignore_merges")))
        return qvl_fail(l->err, QVL_E_UNSUPPORTED, "%s: model.ignore_merges is not supported", l->what);
    return 0;
}

static int load_root(struct loader *l, const json_t *root)
{
    const json_t *model = json_object_get(root, "model");
    if (!json_is_object(root))
        return qvl_fail(l->err, QVL_E_FORMAT, "%s: is not an object", l->what);
    QVL_TRY(check_pipeline(l, root));
    QVL_TRY(check_model(l, model));
    QVL_TRY(load_vocab(l, json_object_get(model, "vocab"), "model.vocab"));
    QVL_TRY(load_merges(l, json_object_get(model, "merges")));
    return load_added(l, json_object_get(root, "added_tokens"));
}

/* ---------------------------------------------------------------- opening */

static int begin(struct loader *l, struct qvl_tokenizer **out, const char *what, qvl_err *err)
{
    *out = NULL;
    *l = (struct loader){.what = what, .err = err};
    l->t = qvl_calloc(1, sizeof *l->t);
    if (!l->t)
        return qvl_fail_nomem(err, sizeof *l->t, what);
    qvl_buf_init(&l->t->pool, INT32_MAX);
    qvl_buf_init(&l->a, MAX_TOKEN);
    qvl_buf_init(&l->b, MAX_TOKEN);
    init_alphabet(l->byte_of);
    return 0;
}

static int finish(struct loader *l, struct qvl_tokenizer **out, int rc)
{
    if (rc == 0)
        rc = sort_set(l, &l->t->raw);
    if (rc == 0)
        rc = sort_set(l, &l->t->normal);
    if (rc < 0)
        qvl_tokenizer_close(&l->t);
    qvl_mem_free(l->slot);
    qvl_buf_free(&l->a);
    qvl_buf_free(&l->b);
    *out = l->t;
    return rc;
}

int qvl_tokenizer_parse(struct qvl_tokenizer **out, const char *json, size_t len, const char *what, qvl_err *err)
{
    struct loader l;
    json_t *root = NULL;
    QVL_TRY(begin(&l, out, what, err));
    int rc = qvl_json_parse(&root, json, len, what, err);
    if (rc == 0)
        rc = load_root(&l, root);
    json_decref(root);
    return finish(&l, out, rc);
}

/* vocab.json, merges.txt and, for the added tokens, tokenizer_config.json: the older form of the same tokenizer. */
static int load_parts(struct loader *l, const char *vocab_path, const char *merges_path, const char *config_path)
{
    json_t *vocab = NULL, *config = NULL;
    char *merges = NULL;
    size_t len = 0;
    int rc;
    l->t->nfc = 1;
    l->what = vocab_path;
    QVL_TRY_DONE(qvl_json_read(&vocab, vocab_path, MAX_FILE, l->err));
    QVL_TRY_DONE(load_vocab(l, vocab, "vocabulary"));
    l->what = merges_path;
    QVL_TRY_DONE(qvl_file_read(&merges, &len, merges_path, MAX_FILE, l->err));
    QVL_TRY_DONE(load_merges_text(l, merges, len));
    l->what = config_path;
    QVL_TRY_DONE(qvl_json_read(&config, config_path, MAX_FILE, l->err));
    QVL_TRY_DONE(load_added_decoder(l, json_object_get(config, "added_tokens_decoder")));
done:
    json_decref(vocab);
    json_decref(config);
    qvl_mem_free(merges);
    return rc;
}

int qvl_tokenizer_open(struct qvl_tokenizer **out, const char *dir, qvl_err *err)
{
    static const char *const name[4] = {"tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json"};
    char *path[4] = {NULL}, *text = NULL;
    size_t len = 0;
    int rc = 0;
    *out = NULL;
    for (int i = 0; i < 4; i++) {
        path[i] = qvl_path_join(dir, name[i]);
        if (!path[i]) {
            rc = qvl_fail_nomem(err, strlen(dir), dir);
            goto done;
        }
    }
    if (!qvl_file_exists(path[0]) && qvl_file_exists(path[1])) {
        struct loader l;
        QVL_TRY_DONE(begin(&l, out, dir, err));
        rc = load_parts(&l, path[1], path[2], path[3]);
        rc = finish(&l, out, rc);
    } else {
        QVL_TRY_DONE(qvl_file_read(&text, &len, path[0], MAX_FILE, err));
        rc = qvl_tokenizer_parse(out, text, len, path[0], err);
    }
done:
    for (int i = 0; i < 4; i++)
        qvl_mem_free(path[i]);
    qvl_mem_free(text);
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
