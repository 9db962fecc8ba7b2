/* fuzz_encode.c - any bytes as text. Typed by a user, the ids must give back the text, invalid bytes replaced and
 * normalised; in stretches of any trust, every added token must lie where it is allowed. */
#include <stdint.h>

#include "text/unicode.h"
#include "text/utf8.h"
#include "unit/text_help.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct qvl_tokenizer *tokenizer(void)
{
    static struct qvl_tokenizer *t;
    if (!t && parse_small(
                  &t,
                  ",\"ab\":256,\"bc\":257,\"abc\":258,\"\xc4\xa0"
                  "a\":259,\"aa\":260,\"aaaa\":261,\"aaa\":262,\"\xc3\x83\xc2\xa9\":263",
                  "\"a b\",\"b c\",\"ab c\",\"\xc4\xa0 a\",\"a a\",\"aa aa\",\"a aa\",[\"\xc3\x83\",\"\xc2\xa9\"],\"a bc\"",
                  "{\"id\":300,\"content\":\"<|im_end|>\",\"special\":true},{\"id\":301,\"content\":\"<think>\","
                  "\"normalized\":false},"
                  "{\"id\":302,\"content\":\"<t\",\"normalized\":true,\"lstrip\":true},{\"id\":303,\"content\":\"e\\u0301\","
                  "\"normalized\":true},{\"id\":304,\"content\":\"<|im\",\"special\":true,\"rstrip\":true}",
                  NULL) != 0)
        abort();
    return t;
}

/* The text as it should come back. */
static size_t normalise(const uint8_t *s, size_t n, char *out)
{
    struct qvl_cps in = {0}, nfc = {0}, again = {0};
    size_t len = 0;
    if (qvl_cps_reserve(&in, n, NULL) != 0)
        abort();
    for (size_t i = 0; i < n;)
        i += qvl_utf8_next(s + i, n - i, &in.cp[in.n++]);
    if (qvl_nfc(&nfc, in.cp, in.n, NULL) != 0 || qvl_nfc(&again, nfc.cp, nfc.n, NULL) != 0)
        abort();
    if (again.n != nfc.n || (nfc.n && memcmp(again.cp, nfc.cp, nfc.n * sizeof *nfc.cp) != 0))
        abort(); /* normalising twice changes nothing */
    for (size_t i = 0; i < nfc.n; i++)
        len += qvl_utf8_put(out + len, nfc.cp[i]);
    qvl_cps_free(&in);
    qvl_cps_free(&nfc);
    qvl_cps_free(&again);
    return len;
}

static void round_trip(const uint8_t *data, size_t size)
{
    struct qvl_tokenizer *t = tokenizer();
    struct qvl_ids ids = {0};
    char *want = malloc(12 * size + 1); /* a code point of NFC has at most 4 bytes, a byte gives at most 3 code points */
    size_t n = normalise(data, size, want), at = 0, len;
    struct qvl_stretch st = {size, QVL_TRUST_NONE};
    if (qvl_tokenizer_encode(t, (const char *)data, size, &st, 1, &ids, NULL) != 0)
        abort();
    for (size_t i = 0; i < ids.n; i++) {
        const char *s = qvl_tokenizer_bytes(t, ids.id[i], &len);
        if (!s || ids.id[i] >= 300 || at + len > n || memcmp(s, want + at, len) != 0)
            abort();
        at += len;
    }
    if (at != n)
        abort();
    free(want);
    qvl_ids_free(&ids);
}

/* The first bytes choose the stretches. */
static void stretches(const uint8_t *data, size_t size)
{
    struct qvl_tokenizer *t = tokenizer();
    struct qvl_ids ids = {0};
    struct qvl_stretch st[8] = {{0}};
    size_t left, n = size < 8 ? size : 8;
    enum qvl_trust most = QVL_TRUST_NONE;
    data += n;
    size -= n;
    left = size;
    for (size_t i = 0; i < 8; i++) {
        size_t len = i < n ? (data - n)[i] >> 2 : 0;
        len = i == 7 || len > left ? left : len;
        st[i] = (struct qvl_stretch){len, i < n ? (enum qvl_trust)((data - n)[i] % 3) : QVL_TRUST_NONE};
        left -= len;
        most = len && st[i].trust > most ? st[i].trust : most;
    }
    if (qvl_tokenizer_encode(t, (const char *)data, size, st, 8, &ids, NULL) != 0)
        abort();
    for (size_t i = 0; i < ids.n; i++)
        if (!qvl_tokenizer_has_text(t, ids.id[i]) || (most == QVL_TRUST_NONE && ids.id[i] >= 300) ||
            (most < QVL_TRUST_ALL && qvl_tokenizer_is_special(t, ids.id[i])))
            abort();
    qvl_ids_free(&ids);
}

/* In pieces, streaming decoding writes what decoding at once does. */
static void stream(const uint8_t *data, size_t size)
{
    struct qvl_utf8_stream a = {0}, b = {0};
    char *x = malloc(3 * size + 16), *y = malloc(3 * size + 64);
    size_t n = qvl_utf8_push(&a, x, (const char *)data, size), m = 0;
    n += qvl_utf8_flush(&a, x + n);
    for (size_t i = 0, step; i < size; i += step) {
        step = 1 + data[i] % 5;
        step = step < size - i ? step : size - i;
        m += qvl_utf8_push(&b, y + m, (const char *)data + i, step);
    }
    m += qvl_utf8_flush(&b, y + m);
    if (n != m || memcmp(x, y, n) != 0)
        abort();
    free(x);
    free(y);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    round_trip(data, size);
    stretches(data, size);
    stream(data, size);
    return 0;
}
