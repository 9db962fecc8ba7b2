/* tokenizer_lists.c - lists of tokens and merges → struct qvl_tokenizer.
 *
 * The lists are written out as the tokenizer.json that they came from and read by its reader, so that one piece of code alone
 * decides what a vocabulary means. */
#include "text/tokenizer_lists.h"

#include <string.h>

#include "base/err.h"
#include "base/json.h"
#include "base/mem.h"
#include "text/pretokenize.h"

enum { MAX_JSON = 256 << 20 };

/* Which texts are ordinary tokens: open addressing over ids, -1 = empty. */
struct known {
    const struct qvl_token_lists *l;
    int32_t *slot;
    size_t mask;
};

static uint64_t hash(uint64_t h, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)s[i]) * 0x100000001b3u;
    return h;
}

/* Slot of the token that reads a + b. */
static int32_t *find(const struct known *k, const char *a, size_t na, const char *b, size_t nb)
{
    uint64_t h = hash(hash(0xcbf29ce484222325u, a, na), b, nb);
    size_t i = (size_t)(h ^ h >> 32) & k->mask;
    for (; k->slot[i] >= 0; i = (i + 1) & k->mask) {
        const struct qvl_token_text *t = &k->l->tokens[k->slot[i]];
        if (t->len == na + nb && memcmp(t->s, a, na) == 0 && memcmp(t->s + na, b, nb) == 0)
            break;
    }
    return &k->slot[i];
}

static int is_ordinary(int32_t kind) { return kind == QVL_KIND_NORMAL || kind == QVL_KIND_UNKNOWN || kind == QVL_KIND_BYTE; }

static int known_init(struct known *k, const struct qvl_token_lists *l, const char *what, qvl_err *err)
{
    size_t n = 1024;
    while (n / 2 < l->n_tokens)
        n *= 2;
    *k = (struct known){.l = l, .slot = qvl_alloc(n, sizeof *k->slot), .mask = n - 1};
    if (!k->slot)
        return qvl_fail_nomem(err, n * sizeof *k->slot, what);
    memset(k->slot, 0xff, n * sizeof *k->slot);
    for (size_t i = 0; i < l->n_tokens; i++)
        if (is_ordinary(l->kinds[i]) && l->tokens[i].len)
            *find(k, l->tokens[i].s, l->tokens[i].len, "", 0) = (int32_t)i;
    return 0;
}

/* Two tokens and one blank, whose joint text is a token. */
static int is_merge(const struct known *k, const struct qvl_token_text *m)
{
    const char *blank = memchr(m->s, ' ', m->len);
    if (!blank)
        return 0;
    size_t na = (size_t)(blank - m->s), nb = m->len - na - 1;
    const char *b = blank + 1;
    return na && nb && !memchr(b, ' ', nb) && *find(k, m->s, na, "", 0) >= 0 && *find(k, b, nb, "", 0) >= 0 &&
           *find(k, m->s, na, b, nb) >= 0;
}

/* {"id": N, "content": "...", ...}; normalised text is not searched: the published tokenizers have no such token. */
static void put_added(struct qvl_buf *b, size_t id, const struct qvl_token_text *t, int special)
{
    qvl_buf_printf(b, "{\"id\":%zu,\"special\":%s,\"normalized\":false,\"content\":", id, special ? "true" : "false");
    qvl_json_quote(b, t->s, t->len);
    qvl_buf_putc(b, '}');
}

static void put_vocab(struct qvl_buf *b, const struct qvl_token_lists *l)
{
    const char *sep = "";
    qvl_buf_puts(b, "\"vocab\":{");
    for (size_t i = 0; i < l->n_tokens; i++) {
        if (!is_ordinary(l->kinds[i]) || !l->tokens[i].len)
            continue;
        qvl_buf_puts(b, sep);
        qvl_json_quote(b, l->tokens[i].s, l->tokens[i].len);
        qvl_buf_printf(b, ":%zu", i);
        sep = ",";
    }
    qvl_buf_puts(b, "}");
}

static size_t put_merges(struct qvl_buf *b, const struct known *k)
{
    const char *sep = "";
    size_t skipped = 0;
    qvl_buf_puts(b, "\"merges\":[");
    for (size_t i = 0; i < k->l->n_merges; i++) {
        if (!is_merge(k, &k->l->merges[i])) {
            skipped++;
            continue;
        }
        qvl_buf_puts(b, sep);
        qvl_json_quote(b, k->l->merges[i].s, k->l->merges[i].len);
        sep = ",";
    }
    qvl_buf_puts(b, "]");
    return skipped;
}

int qvl_token_lists_json(struct qvl_buf *b, const struct qvl_token_lists *l, size_t *n_skipped, const char *what, qvl_err *err)
{
    struct known k;
    const char *sep = "";
    QVL_TRY(known_init(&k, l, what, err));
    qvl_buf_init(b, MAX_JSON);
    qvl_buf_puts(b, "{\"normalizer\":{\"type\":\"NFC\"},\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":["
                     "{\"type\":\"Split\",\"pattern\":{\"Regex\":");
    qvl_json_quote(b, QVL_PRETOKENIZE_REGEX, strlen(QVL_PRETOKENIZE_REGEX));
    qvl_buf_puts(b, "},\"behavior\":\"Isolated\",\"invert\":false},"
                     "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]},"
                     "\"decoder\":{\"type\":\"ByteLevel\"},\"added_tokens\":[");
    for (size_t i = 0; i < l->n_tokens; i++) {
        if (l->kinds[i] != QVL_KIND_CONTROL && l->kinds[i] != QVL_KIND_USER)
            continue;
        qvl_buf_puts(b, sep);
        put_added(b, i, &l->tokens[i], l->kinds[i] == QVL_KIND_CONTROL);
        sep = ",";
    }
    qvl_buf_puts(b, "],\"model\":{\"type\":\"BPE\",");
    put_vocab(b, l);
    qvl_buf_putc(b, ',');
    *n_skipped = put_merges(b, &k);
    qvl_buf_puts(b, "}}");
    qvl_mem_free(k.slot);
    return b->failed ? qvl_fail(err, b->len > MAX_JSON / 2 ? QVL_E_LIMIT : QVL_E_NOMEM, "%s: no room for the vocabulary", what) : 0;
}

int qvl_tokenizer_from_lists(struct qvl_tokenizer **out, const struct qvl_token_lists *l, size_t *n_skipped,
                             const char *what, qvl_err *err)
{
    struct qvl_buf b = {0};
    *out = NULL;
    int rc = qvl_token_lists_json(&b, l, n_skipped, what, err);
    if (rc == 0)
        rc = qvl_tokenizer_parse(out, b.data, b.len, what, err);
    qvl_buf_free(&b);
    return rc;
}
