/* safetensors_header.c - header text → entries.
 *
 * A parser of its own because the format asks for more strictness than JSON libraries offer: the spelling of integers
 * counts, every duplicate is an error, and memory must stay proportional to the header. The grammar is fixed
 * (object of objects of three known fields), so nesting cannot grow and there is no recursion.
 *
 * Strings are decoded one after the other into one block. A decoded string with its NUL is never longer than its
 * spelling with the quotes, so a block of the header's size holds them all. */
#include "formats/safetensors_header.h"

#include <string.h>

#include "base/err.h"
#include "base/mem.h"

struct cursor {
    const unsigned char *p, *start, *end;
    const char *file;
    qvl_err *err;
    char *strings;
    size_t used;
};

static int bad(struct cursor *c, const char *expected)
{
    size_t at = (size_t)(c->p - c->start);
    if (c->p >= c->end)
        return qvl_fail(c->err, QVL_E_FORMAT, "%s: header ends early at byte %zu, expected %s", c->file, at, expected);
    unsigned char ch = *c->p;
    if (ch > 0x20 && ch < 0x7f)
        return qvl_fail(c->err, QVL_E_FORMAT, "%s: header byte %zu: found '%c', expected %s", c->file, at, ch, expected);
    return qvl_fail(c->err, QVL_E_FORMAT, "%s: header byte %zu: found byte 0x%02x, expected %s", c->file, at, ch, expected);
}

static void skip_space(struct cursor *c)
{
    while (c->p < c->end && (*c->p == ' ' || *c->p == '\t' || *c->p == '\n' || *c->p == '\r'))
        c->p++;
}

/* The next character that is not space, 0 at the end. */
static int peek(struct cursor *c)
{
    skip_space(c);
    return c->p < c->end ? *c->p : 0;
}

static int expect(struct cursor *c, int ch, const char *what)
{
    if (peek(c) != ch)
        return bad(c, what);
    c->p++;
    return 0;
}

/* Behind an element: a comma (then *more = 1) or the closing character. */
static int comma_or(struct cursor *c, int close, int *more, const char *what)
{
    int ch = peek(c);
    if (ch != ',' && ch != close)
        return bad(c, what);
    c->p++;
    *more = ch == ',';
    return 0;
}

/* Length of the well-formed UTF-8 sequence at p, 0 if it is none: no overlong forms, no surrogates, nothing beyond
 * U+10FFFF. */
static size_t utf8_length(const unsigned char *p, const unsigned char *end)
{
    size_t left = (size_t)(end - p), n;
    unsigned char lo = 0x80, hi = 0xbf;
    if (p[0] < 0x80)
        return 1;
    if (p[0] >= 0xc2 && p[0] <= 0xdf) {
        n = 2;
    } else if (p[0] >= 0xe0 && p[0] <= 0xef) {
        n = 3;
        lo = p[0] == 0xe0 ? 0xa0 : 0x80;
        hi = p[0] == 0xed ? 0x9f : 0xbf;
    } else if (p[0] >= 0xf0 && p[0] <= 0xf4) {
        n = 4;
        lo = p[0] == 0xf0 ? 0x90 : 0x80;
        hi = p[0] == 0xf4 ? 0x8f : 0xbf;
    } else {
        return 0;
    }
    if (left < n || p[1] < lo || p[1] > hi)
        return 0;
    for (size_t i = 2; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    return n;
}

static int hex4(struct cursor *c, unsigned *out)
{
    unsigned v = 0;
    for (int i = 0; i < 4; i++, c->p++) {
        unsigned ch = c->p < c->end ? *c->p : 0;
        if (ch >= '0' && ch <= '9')
            v = v * 16 + (ch - '0');
        else if ((ch | 0x20) >= 'a' && (ch | 0x20) <= 'f')
            v = v * 16 + ((ch | 0x20) - 'a' + 10);
        else
            return bad(c, "four hexadecimal digits");
    }
    *out = v;
    return 0;
}

static void put_utf8(struct cursor *c, unsigned u)
{
    char *s = c->strings + c->used;
    if (u < 0x80) {
        s[0] = (char)u;
        c->used += 1;
    } else if (u < 0x800) {
        s[0] = (char)(0xc0 | u >> 6);
        s[1] = (char)(0x80 | (u & 0x3f));
        c->used += 2;
    } else if (u < 0x10000) {
        s[0] = (char)(0xe0 | u >> 12);
        s[1] = (char)(0x80 | (u >> 6 & 0x3f));
        s[2] = (char)(0x80 | (u & 0x3f));
        c->used += 3;
    } else {
        s[0] = (char)(0xf0 | u >> 18);
        s[1] = (char)(0x80 | (u >> 12 & 0x3f));
        s[2] = (char)(0x80 | (u >> 6 & 0x3f));
        s[3] = (char)(0x80 | (u & 0x3f));
        c->used += 4;
    }
}

/* Behind the backslash. */
static int escape(struct cursor *c)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    int ch = c->p < c->end ? *c->p : 0;
    const char *at = ch ? strchr(from, ch) : NULL;
    unsigned u = 0, low = 0;
    if (at) {
        c->p++;
        c->strings[c->used++] = to[at - from];
        return 0;
    }
    if (ch != 'u')
        return bad(c, "an escape of JSON");
    c->p++;
    QVL_TRY(hex4(c, &u));
    if (u == 0)
        return bad(c, "a string without \\u0000 before this place");
    if (u >= 0xdc00 && u <= 0xdfff)
        return bad(c, "no lone surrogate before this place");
    if (u >= 0xd800 && u <= 0xdbff) {
        if (c->end - c->p < 2 || c->p[0] != '\\' || c->p[1] != 'u')
            return bad(c, "the second half of a surrogate pair");
        c->p += 2;
        QVL_TRY(hex4(c, &low));
        if (low < 0xdc00 || low > 0xdfff)
            return bad(c, "a low surrogate before this place");
        u = 0x10000 + ((u - 0xd800) << 10) + (low - 0xdc00);
    }
    put_utf8(c, u);
    return 0;
}

static int string(struct cursor *c, const char **out, size_t *len, const char *what)
{
    QVL_TRY(expect(c, '"', what));
    size_t first = c->used;
    for (;;) {
        if (c->p >= c->end)
            return bad(c, "the end of a string");
        if (*c->p == '"')
            break;
        if (*c->p == '\\') {
            c->p++;
            QVL_TRY(escape(c));
            continue;
        }
        if (*c->p < 0x20)
            return bad(c, "no control character in a string");
        size_t n = utf8_length(c->p, c->end);
        if (!n)
            return bad(c, "UTF-8");
        memcpy(c->strings + c->used, c->p, n);
        c->used += n;
        c->p += n;
    }
    c->p++;
    *out = c->strings + first;
    *len = c->used - first;
    c->strings[c->used++] = 0;
    return 0;
}

/* Plain decimal digits, at most 2^63-1: no sign, fraction, exponent or leading zero. */
static int integer(struct cursor *c, uint64_t *out)
{
    int ch = peek(c);
    if (ch < '0' || ch > '9')
        return bad(c, "a plain integer");
    const unsigned char *first = c->p;
    uint64_t v = 0;
    for (; c->p < c->end && *c->p >= '0' && *c->p <= '9'; c->p++) {
        unsigned d = *c->p - '0';
        if (v > ((uint64_t)INT64_MAX - d) / 10)
            return bad(c, "an integer below 2^63");
        v = v * 10 + d;
    }
    if (*first == '0' && c->p - first > 1) {
        c->p = first;
        return bad(c, "an integer without leading zeros");
    }
    *out = v;
    return 0;
}

static int shape(struct cursor *c, struct qvl_st_entry *e)
{
    int more = 1;
    QVL_TRY(expect(c, '[', "'[' of a shape"));
    e->rank = 0;
    if (peek(c) == ']') {
        c->p++;
        return 0;
    }
    while (more) {
        uint64_t v;
        QVL_TRY(integer(c, &v));
        if (e->rank == QVL_MAX_RANK)
            return qvl_fail(c->err, QVL_E_LIMIT, "%s: tensor %s: more than %d dimensions", c->file, e->name, QVL_MAX_RANK);
        e->shape[e->rank++] = (int64_t)v;
        QVL_TRY(comma_or(c, ']', &more, "',' or ']' in a shape"));
    }
    return 0;
}

static int offsets(struct cursor *c, struct qvl_st_entry *e)
{
    QVL_TRY(expect(c, '[', "'[' of data_offsets"));
    QVL_TRY(integer(c, &e->begin));
    QVL_TRY(expect(c, ',', "',' in data_offsets"));
    QVL_TRY(integer(c, &e->end));
    return expect(c, ']', "']' behind two data_offsets");
}

static int entry(struct cursor *c, struct qvl_st_entry *e)
{
    static const char *const fields[3] = {"dtype", "shape", "data_offsets"};
    unsigned seen = 0;
    int more = 1;
    QVL_TRY(expect(c, '{', "'{' of a tensor"));
    if (peek(c) == '}')
        more = 0, c->p++;
    while (more) {
        const char *key;
        size_t len, mark = c->used;
        unsigned f = 0;
        QVL_TRY(string(c, &key, &len, "the name of a field"));
        while (f < 3 && strcmp(key, fields[f]) != 0)
            f++;
        if (f == 3)
            return qvl_fail(c->err, QVL_E_FORMAT, "%s: tensor %s: unknown field '%s'", c->file, e->name, key);
        if (seen & 1u << f)
            return qvl_fail(c->err, QVL_E_FORMAT, "%s: tensor %s: field %s found twice", c->file, e->name, fields[f]);
        seen |= 1u << f;
        c->used = mark; /* the field's name is not needed any more */
        QVL_TRY(expect(c, ':', "':'"));
        if (f == 0)
            QVL_TRY(string(c, &e->dtype, &len, "the name of a type"));
        else if (f == 1)
            QVL_TRY(shape(c, e));
        else
            QVL_TRY(offsets(c, e));
        QVL_TRY(comma_or(c, '}', &more, "',' or '}' in a tensor"));
    }
    for (unsigned f = 0; f < 3; f++)
        if (!(seen & 1u << f))
            return qvl_fail(c->err, QVL_E_FORMAT, "%s: tensor %s: field %s is missing", c->file, e->name, fields[f]);
    return 0;
}

/* Grows an array to hold one more element. */
static int room(void **list, size_t n, size_t *cap, size_t max, size_t size, struct cursor *c, const char *what)
{
    if (n < *cap)
        return 0;
    if (n >= max)
        return qvl_fail(c->err, QVL_E_LIMIT, "%s: more than %zu %s", c->file, max, what);
    size_t want = *cap ? *cap * 2 : 16;
    void *q = qvl_realloc(*list, *cap * size, want, size);
    if (!q)
        return qvl_fail_nomem(c->err, want * size, what);
    *list = q;
    *cap = want;
    return 0;
}

static int metadata(struct cursor *c, struct qvl_st_header *h)
{
    int more = 1;
    QVL_TRY(expect(c, '{', "'{' of __metadata__"));
    if (peek(c) == '}') {
        c->p++;
        return 0;
    }
    while (more) {
        size_t len;
        void *list = h->meta;
        int rc = room(&list, h->n_meta, &h->cap_meta, QVL_ST_MAX_META, sizeof *h->meta, c, "entries in __metadata__");
        h->meta = list;
        QVL_TRY(rc);
        struct qvl_tensor_meta *m = &h->meta[h->n_meta];
        QVL_TRY(string(c, &m->key, &len, "a key of __metadata__"));
        QVL_TRY(expect(c, ':', "':'"));
        QVL_TRY(string(c, &m->value, &len, "a string in __metadata__"));
        h->n_meta++;
        QVL_TRY(comma_or(c, '}', &more, "',' or '}' in __metadata__"));
    }
    return 0;
}

static int tensors(struct cursor *c, struct qvl_st_header *h)
{
    int more = 1, have_meta = 0;
    QVL_TRY(expect(c, '{', "'{'"));
    if (peek(c) == '}')
        more = 0, c->p++;
    while (more) {
        const char *name;
        size_t len;
        QVL_TRY(string(c, &name, &len, "the name of a tensor"));
        QVL_TRY(expect(c, ':', "':'"));
        if (strcmp(name, "__metadata__") == 0) {
            if (have_meta++)
                return qvl_fail(c->err, QVL_E_FORMAT, "%s: __metadata__ found twice", c->file);
            QVL_TRY(metadata(c, h));
        } else {
            if (len > QVL_ST_MAX_NAME)
                return qvl_fail(c->err, QVL_E_LIMIT, "%s: a tensor name of %zu bytes, the limit is %u", c->file, len,
                                QVL_ST_MAX_NAME);
            void *list = h->list;
            int rc = room(&list, h->n, &h->cap, QVL_ST_MAX_TENSORS, sizeof *h->list, c, "tensors");
            h->list = list;
            QVL_TRY(rc);
            struct qvl_st_entry *e = &h->list[h->n];
            *e = (struct qvl_st_entry){.name = name};
            QVL_TRY(entry(c, e));
            h->n++;
        }
        QVL_TRY(comma_or(c, '}', &more, "',' or '}' behind a tensor"));
    }
    skip_space(c);
    return c->p == c->end ? 0 : bad(c, "only spaces behind the last brace");
}

int qvl_st_header_parse(struct qvl_st_header *h, const unsigned char *text, size_t len, const char *file, qvl_err *err)
{
    *h = (struct qvl_st_header){0};
    h->strings = qvl_alloc(len, 1);
    if (!h->strings)
        return qvl_fail_nomem(err, len, file);
    struct cursor c = {.p = text, .start = text, .end = text + len, .file = file, .err = err, .strings = h->strings};
    int rc = len && text[0] == '{' ? tensors(&c, h) : bad(&c, "'{'");
    if (rc)
        qvl_st_header_free(h);
    return rc;
}

void qvl_st_header_free(struct qvl_st_header *h)
{
    qvl_mem_free(h->list);
    qvl_mem_free(h->meta);
    qvl_mem_free(h->strings);
    *h = (struct qvl_st_header){0};
}
